"""The shipped data configurations, against the real corpora where these are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from lit_lm.data import Data
from lit_lm.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def _load(name: str) -> Data:
    parser = ArgumentParser(parser_mode="omegaconf", exit_on_error=False)
    parser.add_subclass_arguments(Data, "data")
    return parser.instantiate(parser.parse_args([f"--data={CONFIGS / name}.yaml"])).data


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_shipped_configurations_parse(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LIT_LM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    data = _load(name)
    if "Hub" in type(data.source).__name__:
        return  # what is on the hub needs no folder
    if not name.startswith("builtin"):
        with pytest.raises(InputError, match="set the environment variable LIT_LM_DATA"):
            _ = data.spec


@pytest.mark.data
def test_shakespeare_is_cut_as_nanogpt_does(corpora: Path) -> None:
    data = _load("shakespeare")
    report = data.prepared.report
    assert data.spec.vocab_size == 65 + 5
    assert report.dtype == "uint8"
    train, val = (data.store(split, "text") for split in ("train", "val"))
    assert (train.num_tokens, val.num_tokens) == (1_003_854 + 1, 111_540 + 1)
    text = (corpora / "shakespeare" / "input.txt").read_text()
    assert data.tokenizer.decode(val.doc(0)) == text[1_003_854:]
    assert sum(batch.size.tokens for batch in data.val_dataloader()) == 111_541


@pytest.mark.data
def test_multi30k(corpora: Path) -> None:
    data = _load("multi30k_en_de")
    sizes = [batch.size for batch in data.train_dataloader()]
    assert sum(size.rows for size in sizes) == 29_000
    assert sum(size.bytes for size in sizes) == (corpora / "multi30k" / "train.de").stat().st_size
    assert sum(s.tokens + s.input_tokens for s in sizes) / sum(s.positions for s in sizes) > 0.9
    lines = (corpora / "multi30k" / "test_2016_flickr.de").read_text().split("\n")
    assert [data.reference("test", i) for i in range(1000)] == lines[:1000]
    ids = data.store("test", "tgt").doc(7)
    assert data.tokenizer.decode(ids) == lines[7]
