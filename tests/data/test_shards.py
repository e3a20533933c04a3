"""Shards: written in parts by anybody, and read as the text that they were made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_lm.cli import main
from lit_lm.data import (
    BatchSampler,
    BuiltinText,
    Holdout,
    HubText,
    JsonLinesText,
    MaskedTextData,
    Shards,
    TextData,
    TextFiles,
    TokenizerConfig,
    plan_batches,
    write_shards,
)
from lit_lm.data.prepare import prepare
from lit_lm.data.shards import writing
from lit_lm.data.shards.address import Address
from lit_lm.data.shards.manifest import Manifest
from lit_lm.data.shards.plan import ShardPlan
from lit_lm.errors import InputError

Write = Callable[[str, str | bytes], str]
BPE = TokenizerConfig("bpe", vocab_size=300)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def text(seed: int = 0, documents: int = 300) -> str:
    """Documents of one to four lines, between one blank line or several."""
    draw = np.random.default_rng(seed)

    def line() -> str:
        return " ".join(f"w{n}é" for n in draw.integers(0, 200, draw.integers(1, 12)))

    return "".join(
        "\n".join(line() for _ in range(draw.integers(1, 5))) + "\n" * int(draw.integers(2, 4))
        for _ in range(documents)
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- parts of a text -------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(["", "a", "bé🙂", " \t", "\u3000", "x" * 3000, " " * 2500, "\u2028y", "z\r"]),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(st.lists(LINES, min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]), st.integers(1, 9))
def test_parts_are_the_whole(tmp_path_factory, files, end, n) -> None:
    folder = tmp_path_factory.mktemp("parts")
    for i, lines in enumerate(files):
        raw = end.join(lines).encode() + (end.encode() if i % 2 else b"")
        (folder / f"{i}.txt").write_bytes(raw or b"a")
    for documents in ("blank_line", "line", "file"):
        source = TextFiles(str(folder / "*.txt"), documents=documents)
        parts = [list(source.part("train", i, n)) for i in range(n)]
        found = [lines.item for part in parts for lines in part if lines.item is not None]
        if documents == "file":
            assert sorted(found) == sorted(source.read("train"))
            continue
        assert found == list(source.read("train"))
        assert sum(lines.size for part in parts for lines in part) == source.num_lines("train")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("aé🙂\n ", max_size=9), min_size=1, max_size=9), st.integers(1, 9))
def test_parts_of_json_lines(tmp_path_factory, texts, n) -> None:
    path = tmp_path_factory.mktemp("parts") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n\n" for text in texts))
    source = JsonLinesText(str(path))
    found = chain.from_iterable(source.part("train", i, n) for i in range(n))
    assert [lines.item for lines in found if lines.item is not None] == texts


def test_parts_are_about_equal_and_name_bytes(write: Write) -> None:
    source = TextFiles([write("a.txt", text(0)), write("b.txt", text(1))])
    sizes = [sum(len(found.item or "") for found in source.part("train", i, 5)) for i in range(5)]
    assert max(sizes) < 1.1 * min(sizes)
    bad = write("bad.txt", b"good\n" * 2000 + b"ba\xffd\n")
    with pytest.raises(InputError, match=r"bad.txt, byte 10002: 0xff is not valid UTF-8"):
        list(TextFiles(bad).part("train", 1, 2))


def test_any_source_comes_in_parts() -> None:
    source = BuiltinText(train=7, val=2)
    parts = [[found.item for found in source.part("train", i, 3)] for i in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert sorted(chain.from_iterable(parts)) == sorted(source.read("train"))


# ---- writing ---------------------------------------------------------------------------------


def test_the_same_whoever_writes_what(write: Write, tmp_path: Path) -> None:
    source = TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 20)))
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    report = write_shards(source, BPE, str(whole), shards=5)
    assert report is not None
    assert not report.reused
    for i in (3, 1):
        assert write_shards(source, BPE, str(shared), shards=5, share=(i, 3)) is None
        assert not (shared / "index.json").exists()
    assert write_shards(source, BPE, str(shared), shards=5, share=(2, 3)) is not None
    assert content(whole) == content(shared)
    again = write_shards(source, BPE, str(whole), shards=5)
    assert again is not None
    assert again.reused
    flat = prepare(source, BPE).report
    assert again.splits == flat.splits
    assert again.inputs == flat.inputs
    assert (again.vocab_size, again.dtype) == (flat.vocab_size, flat.dtype)
    assert not [p for p in tmp_path.rglob("writing/*") if p.suffix != ".lock"]


def test_interrupted_at_every_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of files the same bytes come of going on."""
    source = TextFiles(write("a.txt", text(0, 40)), holdout=Holdout(0.2, by="random"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_shards(source, BPE, str(whole), shards=3)
    put = Address.put
    left = 0

    def put_some(self: Address, what: Path | bytes, name: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        put(self, what, name)

    monkeypatch.setattr(Address, "put", put_some)
    stops = 0
    for left in (1, 1, 2, 5, 3, 8, 6, 10, 99):  # noqa: B007
        try:
            write_shards(source, BPE, str(broken), shards=3)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 5
    assert content(whole) == content(broken)


@pytest.mark.slow
def test_several_processes(write: Write, tmp_path: Path) -> None:
    source = TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 20)))
    for jobs in (1, 2):
        write_shards(source, BPE, str(tmp_path / f"{jobs}"), shards=3, jobs=jobs)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_held_out_at_random(write: Write, tmp_path: Path) -> None:
    source = TextFiles(write("a.txt", text()), holdout=Holdout(0.1, 0.1, by="random"))
    report = write_shards(source, BPE, str(tmp_path / "out"), shards=4)
    assert report is not None
    assert set(report.splits) == {"train", "val", "test"}
    stores = Shards(str(tmp_path / "out")).open(TokenizerConfig())
    for split in ("train", "val", "test"):
        store = stores.store(split, "text")
        found = [stores.tokenizer.decode(store.doc(i)) for i in range(len(store))]
        assert found == list(source.items(split))


def test_what_lies_there_is_not_mixed(write: Write, tmp_path: Path) -> None:
    a, v, out = write("a.txt", text()), write("v.txt", text(1, 20)), str(tmp_path / "out")
    write_shards(TextFiles(a, val=v), BPE, out, shards=2)
    for source, config, shards, key in (
        (TextFiles(v, val=v), BPE, 2, "text"),
        (TextFiles(a, val=v, documents="line"), BPE, 2, "source"),
        (TextFiles(a, val=v), BPE, 3, "shards"),
        (TextFiles(a, val=v), replace(BPE, vocab_size=299), 2, "tokenizer"),
    ):
        with pytest.raises(InputError, match=rf"another preparation \({key} differ"):
            write_shards(source, config, out, shards=shards)


def test_what_cannot_be_written(write: Write, tmp_path: Path) -> None:
    a, out = write("a.txt", text()), str(tmp_path / "out")
    with pytest.raises(InputError, match="for shards use `random`"):
        write_shards(TextFiles(a, holdout=Holdout(0.1)), BPE, out)
    with pytest.raises(InputError, match="no `val` text"):
        write_shards(TextFiles(a), BPE, out)
    with pytest.raises(InputError, match="shard=4/3"):
        write_shards(TextFiles(a, val=a), BPE, out, share=(4, 3))
    with pytest.raises(InputError, match=r"`val` holds no text \(2 empty ones"):
        write_shards(TextFiles(a, val=write("e.txt", " \n \n"), documents="line"), BPE, out)
    with pytest.raises(InputError, match="Protocol not known"):
        write_shards(TextFiles(a, val=a), BPE, "nowhere://x")
    assert main(["prepare", "--jobs=2"]) == 2


def test_the_tokenizer_is_trained_on_a_sample_or_given(write: Write, tmp_path: Path) -> None:
    a, b = write("a.txt", text(0)), write("b.txt", text(5))
    source = TextFiles([a, b], val=a)
    write_shards(source, BPE, str(tmp_path / "all"), shards=4)
    prepared = prepare(source, BPE)
    assert Shards(str(tmp_path / "all")).open(BPE).tokenizer.state() == prepared.tokenizer.state()
    write_shards(source, BPE, str(tmp_path / "some"), shards=4, sample=400)
    state = Shards(str(tmp_path / "some")).open(BPE).tokenizer.state()
    assert state != prepared.tokenizer.state()
    given = TokenizerConfig(path=str(tmp_path / "some" / "tokenizer.json"))
    write_shards(source, given, str(tmp_path / "given"), shards=4)
    assert Shards(str(tmp_path / "given")).open(given).tokenizer.state() == state
    with pytest.raises(InputError, match=r"data\.tokenizer asks for"):
        Shards(str(tmp_path / "all")).open(given)
    with pytest.raises(InputError, match="shards of another tokenizer"):
        write_shards(source, given, str(tmp_path / "all"), shards=4)


def test_a_streamed_dataset(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs the extra `hub`")
    for i in range(3):
        rows = ({"text": f"file {i} row {k}"} for k in range(5 + i))
        (tmp_path / f"{i}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"train": str(tmp_path / "*.jsonl"), "held": str(tmp_path / "0.jsonl")}
    source = HubText("json", val="held", test=None, files=files, streaming=True)
    assert not hasattr(source.table("train"), "cache_files"), "nothing is loaded"
    for shards, count in ((None, 3), (2, 2), (7, 7)):
        out = tmp_path / f"out{shards}"
        report = write_shards(source, BPE, str(out), shards=shards)
        assert report is not None
        opened = Shards(str(out))
        assert len(opened.manifest.splits["train"]) == count
        stores = opened.open(BPE)
        store = stores.store("train", "text")
        found = [stores.tokenizer.decode(store.doc(i)) for i in range(len(store))]
        assert sorted(found) == sorted(source.read("train"))
    before = source.content("train")
    (tmp_path / "2.jsonl").write_text('{"text": "changed"}\n')
    assert source.content("train") != before


# ---- the plan --------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(1, 20), st.integers(1, 5), st.integers(0, 3), st.integers(1, 4))
def test_plans_partition(counts, batch_size, world_size, epoch, mix) -> None:
    starts = np.append(0, np.cumsum(counts))
    options: dict[str, Any] = {"batch_size": batch_size, "seed": 1, "world_size": world_size}
    try:
        in_order = plan_batches(np.ones(starts[-1]), shuffle=False, epoch=0, **options)
    except InputError as error:
        with pytest.raises(InputError, match=str(error)[:20]):
            ShardPlan(starts, shuffle=False, epoch=0, mix=mix, **options)
        reject()
    found = ShardPlan(starts, shuffle=False, epoch=0, mix=mix, **options)
    assert [b.tolist() for b in found] == [b.tolist() for b in in_order]
    plan = ShardPlan(starts, shuffle=True, epoch=epoch, mix=mix, **options)
    assert [len(b) for b in plan] == [len(b) for b in in_order]
    rows = np.concatenate(list(plan))
    assert sorted(rows.tolist()) == list(range(starts[-1]))
    # At any time rows of a few shards only.
    shards = np.searchsorted(starts, rows, side="right") - 1
    last = {s: i for i, s in enumerate(shards.tolist())}
    first = {s: len(rows) - 1 - i for i, s in enumerate(shards[::-1].tolist())}
    for i in range(len(rows)):
        assert sum(first[s] <= i <= last[s] for s in first) <= mix
    # Any part of it, in any order, without the rest.
    share = plan[world_size - 1 :: world_size][1:]
    again = ShardPlan(starts, shuffle=True, epoch=epoch, mix=mix, **options)
    for at in reversed(range(len(share))):
        assert share[at].tolist() == again[world_size - 1 + (at + 1) * world_size].tolist()


def test_epochs_and_seeds_differ() -> None:
    starts = np.arange(0, 1000, 50)

    def rows(seed: int, epoch: int) -> list[int]:
        plan = ShardPlan(
            starts, batch_size=10, shuffle=True, seed=seed, epoch=epoch, world_size=1, mix=3
        )
        return np.concatenate(list(plan)).tolist()

    orders = [rows(0, 0), rows(0, 1), rows(1, 0)]
    assert rows(0, 0) == orders[0]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_a_plan_of_a_large_corpus_takes_no_memory_for_it() -> None:
    """A terabyte of text: 8,000 shards of 125,000 rows."""
    told: list[list[int]] = []
    starts = np.arange(8001) * 125_000
    plan = ShardPlan(
        starts, batch_size=512, shuffle=True, seed=0, epoch=0, world_size=8, mix=4,
        enter=lambda shards: told.append(shards.tolist()),
    )  # fmt: skip
    assert len(plan) == 1_953_128
    share = plan[5::8][200_000:]
    assert told == []
    batch = share[0]
    shards = set((batch // 125_000).tolist())
    assert shards == set(told[0][:4])
    assert len(told[0]) == 8


# ---- reading ---------------------------------------------------------------------------------


@pytest.fixture
def made(write: Write, tmp_path: Path) -> tuple[TextFiles, str]:
    """A text and its shards."""
    source = TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 40)))
    write_shards(source, BPE, str(tmp_path / "out"), shards=7)
    return source, str(tmp_path / "out")


def data(source: Any, **options: Any) -> TextData:
    given = {"length": 16, "batch_size": 4, "tokenizer": BPE, **options}
    return TextData(source, **given)


def test_the_same_is_learned_from(made: tuple[TextFiles, str]) -> None:
    source, out = made
    flat, sharded = data(source), data(Shards(out, mix=2))
    assert sharded.num_bytes("train") == flat.num_bytes("train")
    assert sharded.spec == flat.spec
    stream = flat.store("train", "text").tokens
    rows = sharded.rows("train")
    assert len(rows) >= len(flat.rows("train")) >= len(rows) - 7, "one shorter row a shard at most"
    found = [rows[i] for i in range(len(rows))]
    assert np.array_equal(np.concatenate([row.labels for row in found]), stream)
    assert sum(row.bytes for row in found) == flat.num_bytes("train")
    # What is read before each label is what stands before it; shards begin like documents.
    read = np.concatenate([row.ids for row in found])
    assert np.array_equal(read[1:], stream[:-1])
    assert read[0] == flat.tokenizer.eos_id
    # One shard: row by row the same.
    for a, b in zip(sharded.val_dataloader(), flat.val_dataloader(), strict=True):
        assert a.size == b.size
        assert all(
            torch.equal(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, torch.Tensor)
        )


def test_each_row_once_in_every_epoch_over_ranks_and_workers(made: tuple[TextFiles, str]) -> None:
    rows = data(Shards(made[1], mix=2)).rows("train")
    for world_size in (1, 2, 3):
        for epoch in range(2):
            samplers = [
                BatchSampler(rows, batch_size=4, shuffle=True, rank=r, world_size=world_size)
                for r in range(world_size)
            ]
            for sampler in samplers:
                sampler.set_epoch(epoch)
            shares = [list(sampler) for sampler in samplers]
            assert len({len(share) for share in shares}) == 1
            seen = Counter(chain.from_iterable(chain.from_iterable(shares)))
            assert seen == {(row, epoch): 1 for row in range(len(rows))}
    batches = [
        [
            batch.labels_BL.tolist()
            for batch in data(Shards(made[1]), num_workers=n).train_dataloader()
        ]
        for n in (0, 2)
    ]
    assert batches[0] == batches[1]


def test_strides_and_characters(made: tuple[TextFiles, str]) -> None:
    source, out = made
    flat, sharded = (data(s, eval_stride=4, characters=8) for s in (source, Shards(out)))
    for a, b in zip(sharded.val_dataloader(), flat.val_dataloader(), strict=True):
        assert torch.equal(a.labels_BL, b.labels_BL)
        assert torch.equal(a.chars.chars_UW, b.chars.chars_UW)
    assert (
        sum(b.size.labels for b in sharded.train_dataloader())
        == flat.store("train", "text").num_tokens
    )
    tokens = data(Shards(out), batch_size=None, batch_tokens=70)
    assert {b.size.rows for b in tokens.train_dataloader()} <= {1, 2, 3, 4}


class Recorder(LightningModule):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.labels_BL.tolist())
        return self.weight.sum()

    def validation_step(self, batch, batch_idx): ...

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(model: Recorder, module: TextData, **options: Any) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    path = options.pop("ckpt_path", None)
    options = {"enable_checkpointing": "callbacks" in options, **options}
    Trainer(accelerator="cpu", max_epochs=2, **quiet, **options).fit(
        model, datamodule=module, ckpt_path=path
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resumed_in_mid_epoch(tmp_path: Path, made: tuple[TextFiles, str], num_workers) -> None:
    def module(mix: int = 2) -> TextData:
        return data(Shards(made[1], mix=mix), length=64, batch_size=8, num_workers=num_workers)

    callback = ModelCheckpoint(
        tmp_path / "ckpt", filename="{step}", save_top_k=-1, every_n_train_steps=5
    )
    whole = Recorder()
    fit(whole, module(), callbacks=[callback])
    steps = len(whole.seen)
    assert steps > 20
    half = steps // 2 // 5 * 5
    for step in (half - 5, half + 10) if num_workers == 0 else (10,):
        resumed = Recorder()
        fit(resumed, module(), ckpt_path=tmp_path / "ckpt" / f"step={step}.ckpt")
        assert resumed.seen == whole.seen[step:]
    with pytest.raises(InputError, match="what is left of that epoch is unknown"):
        fit(Recorder(), module(mix=3), ckpt_path=tmp_path / "ckpt" / "step=5.ckpt")


def test_what_cannot_be_read(made: tuple[TextFiles, str], tmp_path: Path) -> None:
    out = made[1]
    for options in ({"rows": "packed"}, {"rows": "documents"}, {"consecutive": True}):
        with pytest.raises(InputError, match="read by `rows: windows` and not `consecutive: true`"):
            data(Shards(out), **options).rows("train")
    with pytest.raises(InputError, match="which TextData reads, not MaskedTextData"):
        _ = MaskedTextData(Shards(out), batch_size=2).prepared
    with pytest.raises(InputError, match="mend the address, or prepare it"):
        Shards(str(tmp_path)).given()
    with pytest.raises(InputError, match="shards are split already"):
        Shards(out, holdout=Holdout())
    with pytest.raises(InputError, match=r"data\.tokenizer asks for"):
        _ = data(Shards(out), tokenizer=TokenizerConfig("word")).prepared
    with pytest.raises(InputError, match="less than a row of 16 tokens"):
        data(Shards(out), batch_size=None, batch_tokens=15).train_dataloader()
    index = (Path(out) / "index.json").read_text()
    for broken in (
        "{}",
        "",
        index.replace("train-00002", "../elsewhere"),
        index.replace("uint16", "O"),
    ):
        (Path(out) / "index.json").write_text(broken)
        with pytest.raises(InputError, match="is not what `lit-lm prepare --to` writes"):
            Manifest.load(Address(out))


def test_on_the_command_line(
    made: tuple[TextFiles, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = made
    config = tmp_path / "data.yaml"
    files = {"train": source.train, "val": source.val}
    tokenizer = {"kind": "bpe", "vocab_size": 300}
    init = {"source": {"class_path": "lit_lm.data.TextFiles", "init_args": files}}
    init |= {"tokenizer": tokenizer, "batch_size": 4}
    config.write_text(
        json.dumps({"data": {"class_path": "lit_lm.data.TextData", "init_args": init}})
    )
    to = tmp_path / "typed"
    typed = ["prepare", "--config", str(config), "--to", str(to), "--shards", "7"]
    assert main([*typed, "--shard=1/2"]) == 0
    assert "this share is written" in capsys.readouterr().out
    assert main([*typed, "--shard=2/2"]) == 0
    assert "documents; text" in capsys.readouterr().out
    assert content(to) == content(Path(out))
    assert writing.SAMPLE_BYTES == 1 << 27, "what --help says"
