"""Files of checkpoints: whole or refused by name, and never code."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm import CausalLM, InputError, checkpoints
from lit_lm.checkpoints import DamagedError

CONTENT = {"state_dict": {"weight": torch.arange(3000.0)}, "epoch": 3, "names": ["a", "b"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    checkpoints.save(CONTENT, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def same(found: dict[str, Any]) -> bool:
    return (
        torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
        and found["epoch"] == 3
        and found["names"] == ["a", "b"]
    )


def test_what_is_saved_is_loaded(file: Path) -> None:
    for found in (checkpoints.load(file), checkpoints.load(file, lazily=True), torch.load(file)):
        assert same(found)
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]


def test_no_altered_byte_goes_unseen(file: Path) -> None:
    """Any byte may be flipped: the file is refused, or what it says is the same."""
    data, rng = file.read_bytes(), random.Random(0)
    refused = 0
    ends = [*range(200), *range(len(data) - 200, len(data))]
    places = rng.sample(ends, 60) + rng.sample(range(len(data)), 60)
    for at in places:
        file.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :])
        try:
            assert same(checkpoints.load(file)), at
        except InputError:
            refused += 1
    assert refused > 0.7 * len(places)


@pytest.mark.parametrize("size", [0, 1, 100, 9_000, -1])
def test_a_cut_file_is_refused_by_name(file: Path, size: int) -> None:
    os.truncate(file, file.stat().st_size - 1 if size < 0 else size)
    with pytest.raises(InputError, match=r"last\.ckpt (is damaged|cannot be read)"):
        checkpoints.load(file)


class Code:
    def __reduce__(self) -> Any:
        return print, ("this must never run",)


@pytest.mark.parametrize("remote", [False, True])
def test_code_is_refused_and_never_run(remote: bool, tmp_path: Path, capsys: Any) -> None:
    torch.save({"state_dict": {"weight": Code()}}, tmp_path / "code.ckpt")
    address = str(tmp_path / "code.ckpt")
    if remote:
        import fsspec

        with fsspec.open("memory://code.ckpt", "wb") as stream:
            stream.write((tmp_path / "code.ckpt").read_bytes())
        address = "memory://code.ckpt"
    for load in (checkpoints.load, checkpoints.CheckpointFiles().load_checkpoint):
        with pytest.raises(InputError, match=r"code\.ckpt is refused"):
            load(address)
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        CausalLM.load_from_checkpoint(address, weights_only=False)
    assert "must never run" not in capsys.readouterr().out


def test_addresses_of_other_file_systems(file: Path) -> None:
    checkpoints.save(CONTENT, "memory://folder/far.ckpt")
    assert same(checkpoints.load("memory://folder/far.ckpt"))
    with pytest.raises(InputError, match=r"memory://folder/none\.ckpt"):
        checkpoints.load("memory://folder/none.ckpt")


def test_a_full_disk_leaves_the_file_before(file: Path) -> None:
    large = {"state_dict": {"weight": torch.zeros(1_000_000)}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert limits[0] == resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError) as refused:
            checkpoints.save(large, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "could not be written: File too large" in str(refused.value)
    assert "last.ckpt, from before, is untouched" in str(refused.value)
    assert [path.name for path in file.parent.iterdir()] == ["last.ckpt"]
    assert same(checkpoints.load(file))


def keep(folder: Path, step: int, keep: int) -> None:
    checkpoints.save({"state_dict": {}, "step": step}, folder / "next.ckpt")
    checkpoints.make_room(folder, keep)
    (folder / "next.ckpt").replace(folder / "last.ckpt")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_ones_are_kept(count: int, tmp_path: Path) -> None:
    for step in range(6):
        keep(tmp_path, step, count)
    steps = [checkpoints.load(path)["step"] for path in checkpoints.kept(tmp_path)]
    assert steps == [5, 4, 3][:count]
    assert len(list(tmp_path.iterdir())) == count


def test_the_newest_whole_one_is_found(tmp_path: Path, capsys: Any) -> None:
    assert checkpoints.find("last", tmp_path) is None
    for step in range(3):
        keep(tmp_path, step, 3)
    assert checkpoints.find("last", tmp_path) == tmp_path / "last.ckpt"
    os.truncate(tmp_path / "last.ckpt", 0)
    with pytest.raises(DamagedError, match=r"last\.ckpt is damaged.*last-1\.ckpt.*last-intact"):
        checkpoints.find("last", tmp_path)
    os.truncate(tmp_path / "last-1.ckpt", 30)
    assert checkpoints.find("last-intact", tmp_path) == tmp_path / "last-2.ckpt"
    assert "last-1.ckpt is damaged" in capsys.readouterr().out
    (tmp_path / "last.ckpt").write_bytes(bytes(5000))  # what a power cut leaves
    assert checkpoints.find("last-intact", tmp_path) == tmp_path / "last-2.ckpt"
    os.truncate(tmp_path / "last-2.ckpt", 30)
    with pytest.raises(DamagedError, match="start anew"):
        checkpoints.find("last-intact", tmp_path)
