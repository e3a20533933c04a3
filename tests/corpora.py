"""Small stand-ins for the real corpora, in the same layout, written in the built-in language."""

from __future__ import annotations

import json
from pathlib import Path

from datasets import Dataset, DatasetDict

from lit_lm.data.builtin import generate


def write(folder: Path) -> None:
    """Writes look-alikes of all corpora that the shipped configurations read below ``folder``."""
    (folder / "wiki").mkdir(parents=True)
    (folder / "shakespeare").mkdir()
    write_labelled(folder)
    for name in ("multi30k", "iwslt14", "dialogsum"):
        (folder / name).mkdir()
    pairs: dict[str, list[dict[str, dict[str, str]]]] = {}
    for split, count in (("train", 60), ("val", 12), ("test", 12)):
        documents = list(generate(0, split, count))
        text = "\n\n".join(d.text for d in documents) + "\n"
        if split != "test":
            (folder / "wiki" / f"{split}.txt").write_text(text)
        if split == "train":
            (folder / "shakespeare" / "input.txt").write_text(text)
        sentences = [s for d in documents for s in d.sentences]
        stem = "test_2016_flickr" if split == "test" else split
        for language in ("en", "de", "fr"):
            lines = [s.text if language == "en" else s.translation for s in sentences]
            (folder / "multi30k" / f"{stem}.{language}").write_text("\n".join(lines) + "\n")
            name = "valid" if split == "val" else split
            (folder / "iwslt14" / f"{name}.{language}").write_text("\n".join(lines) + "\n")
        pairs["validation" if split == "val" else split] = [
            {"translation": {"en": s.text, "de": s.translation}} for s in sentences
        ]
        records = [{"dialogue": d.text, "summary": d.sentences[0].text} for d in documents]
        file = {"train": "train.jsonl", "val": "dev.jsonl"}.get(split)
        if file:
            text = "".join(json.dumps(record) + "\n" for record in records)
            (folder / "dialogsum" / file).write_text(text)
    tables = {split: Dataset.from_list(rows) for split, rows in pairs.items()}
    DatasetDict(tables).save_to_disk(str(folder / "wmt14"))


def write_labelled(folder: Path) -> None:
    """Look-alikes of SST-2, RTE and CoNLL-2003."""
    for name in ("sst2", "rte", "conll2003"):
        (folder / name).mkdir()
    for split, other, tags, count in (
        ("train", "train", "eng.train", 40),
        ("val", "dev", "eng.testa", 8),
    ):
        documents = list(generate(0, split, count))
        events = [s for d in documents for s in d.sentences if s.label is not None]
        lines = ["sentence\tlabel", *(f"{s.text} \t{s.label}" for s in events)]
        (folder / "sst2" / f"{other}.tsv").write_text("\n".join(lines) + "\n")
        pairs = [
            f"{i}\t{s.text}\t{d.sentences[0].text}\t{'not_' * (i % 2)}entailment"
            for i, (s, d) in enumerate(zip(events, documents, strict=True))
        ]
        text = "\n".join(["index\tsentence1\tsentence2\tlabel", *pairs]) + "\n"
        (folder / "rte" / f"{other}.tsv").write_text(text)
        rows = ["-DOCSTART- -X- O O", ""]
        for sentence in (s for d in documents for s in d.sentences):
            marks = ["O"] * len(sentence.words)
            for kind, begin, end in sentence.entities:
                marks[begin:end] = [f"I-{kind}"] * (end - begin)
            rows += [f"{word} X X {mark}" for word, mark in zip(sentence.words, marks, strict=True)]
            rows.append("")
        (folder / "conll2003" / tags).write_text("\n".join(rows))
