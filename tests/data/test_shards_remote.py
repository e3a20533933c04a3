"""Shards on an S3 server: fetched through a bounded cache, and waited for when it does not answer."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_lm.data import Shards, TextData, TextFiles, TokenizerConfig, write_shards
from lit_lm.data.shards import address as addresses
from lit_lm.data.shards.address import Address, may_pass
from lit_lm.data.shards.cache import ShardCache
from lit_lm.errors import InputError
from tests import s3
from tests.conftest import ROOT

pytest.importorskip("s3fs", reason="needs the extra `remote`")
pytest.importorskip("moto", reason="needs the extra `dev`")

pytestmark = pytest.mark.usefixtures("own_cache")
BYTE = TokenizerConfig("byte")
SHARDS = 9


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TextFiles:
    folder = tmp_path_factory.mktemp("text")
    draw = np.random.default_rng(0)
    for name, size in (("train", 9_000), ("val", 500)):
        letters = draw.integers(97, 123, size).astype(np.uint8)
        letters[::50] = ord("\n")
        (folder / name).write_bytes(letters.tobytes())
    return TextFiles(str(folder / "train"), val=str(folder / "val"), documents="line")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3.server() as port:
        yield port


@pytest.fixture
def wire(port: int) -> Iterator[s3.Wire]:
    wire = s3.Wire(port)
    with s3.settings(wire.port):
        yield wire
    wire.release()
    wire.cut()


@pytest.fixture
def made(source: TextFiles, wire: s3.Wire) -> str:
    write_shards(source, BYTE, "s3://text/made", shards=SHARDS)
    return "s3://text/made"


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Handler()
    log = logging.getLogger("lightning.pytorch.lit_lm")
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)


def shards(made: str, **options: Any) -> Shards:
    """With room for no more than is needed."""
    largest = max(s.size for split in Shards(made).manifest.splits.values() for s in split)
    return Shards(made, **{"mix": 1, "cache_bytes": 4 * largest, **options})


def in_cache(folder: Path) -> int:
    """Bytes of shards, also of those that come and go meanwhile."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(f"{where}/{name}").st_size if name.startswith("text.") else 0
    return total


def test_what_lies_there_is_what_lies_here(source: TextFiles, made: str, tmp_path: Path) -> None:
    write_shards(source, BYTE, str(tmp_path / "here"), shards=SHARDS)
    system = fsspec.filesystem("s3")
    there = {path.rpartition("/")[2]: system.cat_file(path) for path in system.ls("text/made")}
    assert there == {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}


def test_text_at_an_address(source: TextFiles, wire: s3.Wire, tmp_path: Path) -> None:
    system = fsspec.filesystem("s3")
    for name in ("train", "val"):
        system.put_file(getattr(source, name), f"text/raw/{name}.txt")
    remote = TextFiles("s3://text/raw/t*.txt", val="s3://text/raw/val.txt", documents="line")
    assert remote.fingerprint() == source.fingerprint()
    assert list(remote.items("train")) == list(source.items("train"))
    for name, its in (("here", source), ("there", remote)):
        write_shards(its, BYTE, str(tmp_path / name), shards=3)
    index = [(tmp_path / name / "index.json").read_bytes() for name in ("here", "there")]
    assert index[0] == index[1]
    with pytest.raises(InputError, match=r"raw/x.txt: no such file"):
        list(TextFiles("s3://text/raw/x.txt").read("train"))
    with pytest.raises(InputError, match="matches no file"):
        list(TextFiles("s3://text/raw/x*.txt").read("train"))


class Model(LightningModule):
    """A weight that everything seen leaves its trace on."""

    def __init__(self, at: dict[int, Callable[[], None]] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.at = at or {}
        self.steps = 0

    def training_step(self, batch, batch_idx):
        self.at.get(self.steps, lambda: None)()
        self.steps += 1
        return (self.weight.sin() * batch.labels_BL).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Watch(Callback):
    """The most that the cache held."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most = folder, 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.most = max(self.most, in_cache(self.folder))


def fit(source: Shards, model: Model, *callbacks: Callback, num_workers: int = 0) -> float:
    data = TextData(source, length=32, batch_size=8, num_workers=num_workers)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(
        accelerator="cpu", max_epochs=1, callbacks=list(callbacks), limit_val_batches=0,
        enable_checkpointing=False, **quiet,
    ).fit(model, datamodule=data)  # fmt: skip
    return float(model.weight.detach())


@pytest.mark.parametrize(("num_workers", "outage"), [(0, "cut"), (2, "hold")])
def test_training_waits(
    made: str, own_cache: Path, wire: s3.Wire, said: list[str],
    monkeypatch: pytest.MonkeyPatch, num_workers: int, outage: str,
) -> None:  # fmt: skip
    """The server is gone for two seconds in mid-epoch: nothing changes but the time."""
    monkeypatch.setattr(addresses, "_FIRST_WORD", 0.3)
    bounded = shards(made)
    watch = Watch(own_cache)
    undisturbed = fit(bounded, Model(), watch)
    assert (
        0
        < watch.most
        <= bounded.cache_bytes
        < sum(s.size for s in bounded.manifest.splits["train"])
    )
    said.clear()

    def stop() -> None:
        getattr(wire, outage)()
        threading.Timer(2.0, wire.mend if outage == "cut" else wire.release).start()

    if num_workers:
        # What is waited for here is waited for in other processes: what they say is not seen.
        stopped = fit(bounded, Model({3: stop}), Watch(own_cache), num_workers=num_workers)
        assert stopped == undisturbed
        return
    stopped = fit(bounded, Model({3: stop}), Watch(own_cache))
    assert stopped == undisturbed
    assert any(line.startswith("Waiting for s3://text/made (") for line in said), said
    assert any("going on" in line for line in said), said


def test_patience_ends(made: str, wire: s3.Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_FIRST_WORD", 0.3)
    impatient = shards(made, patience=1.5)
    with pytest.raises(
        InputError, match=r"s3://text/made .* did not come in \d s .*ckpt_path=last"
    ):
        fit(impatient, Model({2: wire.hold}))


def test_the_cache_is_bounded_and_checked(made: str, own_cache: Path) -> None:
    whole = shards(made)
    with pytest.raises(InputError, match=r"mix=2 needs .* Raise it, or lower mix"):
        TextData(shards(made, mix=2), batch_size=2).rows("train")
    cache = ShardCache(Address(made), whole.manifest, whole.cache_bytes)
    train = whole.manifest.splits["train"]
    for shard in (*train, *train[::-1]):
        stem = cache.stem(shard)
        assert stem.with_name("text.ids").stat().st_size == shard.tokens * 2
        assert in_cache(own_cache) <= whole.cache_bytes
    here = {path.name for path in cache.folder.iterdir() if path.is_dir()}
    assert {shard.name for shard in train[:3]} <= here, "those that were used last"
    assert len(here) == 4
    # One whose fetching was killed half-way takes room until it is fetched again.
    (cache.folder / f".{train[5].name}").mkdir()
    (cache.folder / f".{train[5].name}" / "text.ids").write_bytes(b"half")
    cache.stem(train[5])
    assert in_cache(own_cache) <= whole.cache_bytes
    system = fsspec.filesystem("s3")
    name = f"text/made/{train[6].name}.bytes"
    before = system.cat_file(name)
    system.pipe_file(name, before[::-1])
    with pytest.raises(InputError, match="is not what the index says"):
        cache.stem(train[6])
    system.rm_file(name)
    with pytest.raises(InputError, match=f"has no {train[6].name}.bytes"):
        cache.stem(train[6])
    system.pipe_file(name, before)


def test_threads_share_the_cache(made: str, wire: s3.Wire) -> None:
    """Each shard is fetched once, whoever asks first."""
    whole = Shards(made)
    train = whole.manifest.splits["train"]
    caches = [ShardCache(Address(made), whole.manifest, whole.cache_bytes) for _ in range(4)]
    fetched: list[str] = []
    fetch = Address.fetch

    def counted(self: Address, name: str, to: Path) -> None:
        fetched.append(name)
        fetch(self, name, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Address, "fetch", counted)
        threads = [
            threading.Thread(target=lambda c=cache: [c.stem(shard) for shard in train])
            for cache in caches
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(fetched) == len(set(fetched)) == 3 * SHARDS
    ahead = ShardCache(Address(made), whole.manifest, whole.cache_bytes)
    ahead.folder = ahead.folder / "another"
    ahead.ahead(train)
    assert ahead._ahead is not None
    ahead._ahead.join()
    assert all((ahead.folder / shard.name / "text.ids").exists() for shard in train)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_prepares_and_a_stopped_server(tmp_path: Path) -> None:
    """By commands, on a server in a process of its own; docs/results/cluster.md has it with a gigabyte."""
    command = [sys.executable, "-m", "benchmarks.shards", "--megabytes", "8", "--shards", "40"]
    command += ["--vocab_size", "500"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 3
    assert "equal weights" in done.stdout


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server that hands out `tmp_path`, and takes nothing."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_shards_of_a_web_server(source: TextFiles, web: str, tmp_path: Path) -> None:
    write_shards(source, BYTE, str(tmp_path / "made"), shards=SHARDS)

    def rows(address: str) -> list[torch.Tensor]:
        data = TextData(Shards(address, mix=2), length=32, batch_size=4)
        data.prepare_data()
        data.setup("fit")
        return [batch.ids_BL for batch in data.train_dataloader()]

    there, here = rows(f"{web}/made"), rows(str(tmp_path / "made"))
    assert len(here) > 10
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))
    with pytest.raises(InputError, match=r"other has no tokenizer\.json"):
        rows(f"{web}/other")
    with pytest.raises(InputError, match=r"501.*it can only be read; write to another address"):
        write_shards(source, BYTE, f"{web}/new", shards=SHARDS)


def test_which_errors_may_pass() -> None:
    from aiohttp import ClientResponseError, RequestInfo
    from botocore.exceptions import EndpointConnectionError
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    def answer(status: int) -> ClientResponseError:
        asked = RequestInfo(
            URL("http://x"), "GET", CIMultiDictProxy(CIMultiDict()), URL("http://x")
        )
        return ClientResponseError(asked, (), status=status)

    assert [s for s in (400, 401, 403, 405, 408, 416, 429, 500, 501, 503) if may_pass(answer(s))] == [
        408, 429, 500, 503,
    ]  # fmt: skip
    assert may_pass(EndpointConnectionError(endpoint_url="http://x"))
    assert may_pass(ConnectionResetError())
    assert may_pass(TimeoutError())
    assert not may_pass(FileNotFoundError())
    assert not may_pass(PermissionError())
    assert not may_pass(OSError(28, "No space left on device"))
    assert not may_pass(KeyError("x"))
