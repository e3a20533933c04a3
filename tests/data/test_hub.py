"""Datasets of the Hugging Face library, saved locally: no network."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest

from lit_lm.data import Holdout, HubPairs, HubText, PairData, TokenizerConfig
from lit_lm.errors import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    datasets = pytest.importorskip("datasets", reason="needs the extra `hub`")
    rows = [
        {"text": f"text {i}", "translation": {"en": f"en {i}", "de": f"de {i}"}} for i in range(20)
    ]
    splits = {"train": rows[:14], "validation": rows[14:17], "extra": rows[17:]}
    folder = tmp_path_factory.mktemp("hub") / "set"
    made = {name: datasets.Dataset.from_list(part) for name, part in splits.items()}
    datasets.DatasetDict(made).save_to_disk(folder)
    return str(folder)


def test_text_and_pairs(saved: str) -> None:
    text = HubText(saved, test=None)
    assert list(text.items("val")) == ["text 14", "text 15", "text 16"]
    assert text.actual("test") == "val"
    pairs = HubPairs(saved, test="extra", source="translation.en", target="translation.de")
    assert next(iter(pairs.items("test"))) == ("en 17", "de 17")
    held = HubText(saved, val=None, test=None, holdout=Holdout(0.5))
    assert len(list(held.items("val"))) == 7
    assert text.fingerprint() == HubText(saved, test=None).fingerprint() != held.fingerprint()


def test_batches(saved: str) -> None:
    source = HubPairs(saved, test="extra", source="translation.en", target="translation.de")
    data = PairData(source, TokenizerConfig("byte"), batch_size=3)
    batch = next(iter(data.test_dataloader()))
    assert (
        data.tokenizer.decode(batch.labels_BT[1][:-1].tolist())
        == data.reference("test", 1)
        == "de 18"
    )


def test_errors(saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no split 'test', only .*extra"):
        HubText(saved).fingerprint()
    with pytest.raises(InputError, match="row 0: no field 'body'; the record has"):
        list(HubText(saved, field="body").items("train"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="cannot be loaded"):
        list(HubText(str(tmp_path / "none")).items("train"))
    real = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'lit_lm\[hub\]'"):
        list(HubText("another").items("train"))
