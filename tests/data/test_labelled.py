"""Labelled data: what is read, how it is framed, which subset is trained on, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_lm import (
    ClassificationData,
    InputError,
    RegressionData,
)
from lit_lm.data import (
    BuiltinLabels,
    JsonLinesLabels,
    TsvLabels,
    prepare_data,
)
from lit_lm.data.labelled import subsets
from lit_lm.data.labelled.forms import frame, num_special
from lit_lm.data.labelled.rows import cut
from lit_lm.data.tokenizers import Tokenizer
from tests.data.labelled import FORMS, WORDS, write


def texts(path: str, val: str | None = None, **settings: Any) -> ClassificationData:
    source = TsvLabels(train=path, val=val or path)
    settings = {"form": "bert", "batch_size": 2, **settings}
    return ClassificationData(source, WORDS, **settings)


# ---- subsets -------------------------------------------------------------------------------------


def test_every_beginning_of_the_order_is_a_stratified_sample() -> None:
    strata = ["a"] * 600 + ["b"] * 300 + ["c"] * 97 + ["d"] * 3
    for seed in range(3):
        order = subsets.order(strata, seed)
        assert sorted(order.tolist()) == list(range(1000))
        for n in (1, 7, 10, 33, 100, 500, 999):
            counts = Counter(strata[i] for i in order[:n].tolist())
            for name, total in Counter(strata).items():
                assert abs(counts[name] - n * total / 1000) <= 1 + 1e-9
    assert not np.array_equal(subsets.order(strata, 0), subsets.order(strata, 1))
    np.testing.assert_array_equal(subsets.order(strata, 1), subsets.order(strata, 1))


def test_many_rare_strata_leave_a_large_one_its_share() -> None:
    strata = [f"only {i}" for i in range(100)] + ["many"] * 100
    firsts = set()
    for seed in range(20):
        order = subsets.order(strata, seed)
        for n in (10, 50, 100, 150):
            assert abs(sum(i >= 100 for i in order[:n].tolist()) - n / 2) <= 1
        firsts |= {i for i in order[:3].tolist() if i < 100}
    assert len(firsts) > 10  # which of the rare ones come early is drawn
    random = np.random.default_rng(0)
    for _ in range(20):
        names = random.integers(0, 16, 300).tolist()
        order = subsets.order(names, 0)
        for n in range(1, 300, 7):
            counts = Counter(names[i] for i in order[:n].tolist())
            quotas = {name: n * total / 300 for name, total in Counter(names).items()}
            assert max(abs(counts[name] - quota) for name, quota in quotas.items()) <= 1


def test_subsets_are_nested_and_the_same_for_every_encoder() -> None:
    def some(n: int, seed: int = 0, **settings: Any) -> list[str]:
        source = BuiltinLabels(about="news", train=40, val=4, test=4)
        settings = {"form": "bert", "batch_size": 4, **settings}
        data = ClassificationData(source, WORDS, examples=n, examples_seed=seed, **settings)
        assert len(data.rows("train")) == n
        assert data.labels == ("bad", "good")
        assert len(data.rows("val")) == 4
        return [e.text for e in data.examples("train")]

    assert some(5) == some(20)[:5]
    assert some(20) == some(20, form="gpt", characters=8, max_length=32)
    assert some(20) != some(20, seed=1)
    with pytest.raises(InputError, match=r"examples=41 is more than the 40 training examples"):
        some(41)


# ---- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pair", [False, True])
def test_a_form_keeps_both_texts(form: Any, pair: bool) -> None:
    tokenizer = Tokenizer.train(WORDS, ["a b c d e"])
    first, second = tokenizer.encode("a b c"), tokenizer.encode("d e") if pair else None
    row = frame(tokenizer, form, first, second)
    assert row.ids[row.first : row.first + 3] == first
    assert len(row.ids) == 3 + len(second or ()) + num_special(form, pair)
    if second is not None:
        assert row.ids[row.second : row.second + 2] == second
    assert (row.second == -1) == (second is None)
    t = tokenizer
    assert row.ids[-1] == t.eos_id
    specials = {"gpt": [t.eos_id], "elmo": [t.eos_id], "source": []}.get(form, [t.bos_id])
    assert row.ids[: row.first] == specials
    if form == "bert" and pair:
        assert row.segments == [0] * 5 + [1] * 3
    else:
        assert set(row.segments) == {0}


def test_cutting_takes_from_the_longer_text() -> None:
    for a in range(9):
        for b in range(9):
            for room in range(15):
                first, second = cut(list(range(a)), list(range(b)), room)
                assert second is not None
                assert len(first) + len(second) == min(room, a + b)
                if len(first) < a and len(second) < b:
                    assert abs(len(first) - len(second)) <= 1
                elif len(first) < a:
                    assert len(first) >= len(second) - 1
                elif len(second) < b:
                    assert len(second) >= len(first) - 1


# ---- texts ---------------------------------------------------------------------------------------


def test_batches_of_texts(tmp_path: Path) -> None:
    path = write(tmp_path, "a b c\tyes\nd e\tno\nf\tyes\n")
    data = texts(path)
    batch = next(iter(data.val_dataloader()))
    assert data.spec.labels == ("no", "yes")
    assert batch.labels.tolist() == [1, 0]
    assert batch.mask_BL.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert data.tokenizer.decode(batch.ids_BL[0].tolist()) == "a b c"
    assert batch.size.bytes == len("a b c\nd e\n")
    assert batch.first_BW is None


def test_pairs_and_headers(tmp_path: Path) -> None:
    path = write(tmp_path, "l\tone\ttwo\nx\ta b\tc\ny\td\te f\n")
    source = TsvLabels(train=path, val=path, text="one", second="two", label="l")
    data = ClassificationData(source, WORDS, form="bert", batch_size=2)
    batch = next(iter(data.val_dataloader()))
    assert batch.segments_BL.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert data.tokenizer.decode(batch.ids_BL[1].tolist()) == "d e f"


def test_json_lines_may_have_numbers_and_truth_as_labels(tmp_path: Path) -> None:
    rows = [{"t": t, "m": {"y": y}} for t, y in (("a", True), ("b", False), ("c", True))]
    path = write(tmp_path, "\n\n".join(map(json.dumps, rows)))
    source = JsonLinesLabels(train=path, val=path, text="t", label="m.y")
    data = ClassificationData(source, WORDS, form="bert", batch_size=2)
    assert data.labels == ("false", "true")
    assert [e.where.rpartition(" ")[2] for e in data.examples("train")] == ["1", "3", "5"]


def test_numbers_are_regressed(tmp_path: Path) -> None:
    path = write(tmp_path, "a\t1.5\nb\t-2\nc\t4\n")
    data = RegressionData(TsvLabels(train=path, val=path), WORDS, form="bert", batch_size=4)
    batch = next(iter(data.val_dataloader()))
    assert batch.labels.tolist() == [1.5, -2, 4]
    assert data.labels == ()
    bad = write(tmp_path, "a\t1\nb\tmuch\n", "bad.tsv")
    with pytest.raises(InputError, match=r"bad.tsv, line 2: label 'much' is no number"):
        RegressionData(TsvLabels(train=bad, val=bad), WORDS, form="bert", batch_size=4).rows(
            "train"
        )


def test_bad_labels_are_refused(tmp_path: Path) -> None:
    good = write(tmp_path, "a\tyes\nb\tno\n")
    new = write(tmp_path, "a\tyes\nb\tmaybe\n", "val.tsv")
    with pytest.raises(InputError, match=r"val.tsv, line 2: class 'maybe' is none of the training"):
        texts(good, new).rows("val")
    with pytest.raises(InputError, match=r"all 2 training examples are of class 'yes'"):
        _ = texts(write(tmp_path, "a\tyes\nb\tyes\n", "one.tsv")).spec
    with pytest.raises(InputError, match=r"none.tsv, line 2: there is no label"):
        _ = texts(write(tmp_path, "a\tyes\nb\t\n", "none.tsv")).spec
    empty = write(tmp_path, "a\tyes\nb\t\n", "val2.tsv")
    with pytest.raises(InputError, match=r"val2.tsv, line 2: there is no label"):
        texts(good, empty).rows("val")
    headed = "text\tlabel\n" + "a\tyes\nb\tno\n" * 3
    with pytest.raises(InputError, match=r"head.tsv, line 1: class 'label' stands there alone"):
        _ = texts(write(tmp_path, headed, "head.tsv")).spec
    with pytest.raises(InputError, match=r"data.examples=0 must be a whole number"):
        texts(good, examples=0)
    with pytest.raises(InputError, match=r"no column 3"):
        _ = ClassificationData(
            TsvLabels(train=good, val=good, label=3), WORDS, form="bert", batch_size=2
        ).spec
    with pytest.raises(InputError, match=r"data.form says how"):
        _ = texts(good, form=None).spec


def test_long_texts_are_refused_or_cut_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, f"{'a ' * 20}\tyes\nb\tno\n{'c ' * 9}\tno\n")
    with pytest.raises(
        InputError, match=r"2 of 3 texts are longer than max_length=8.*line 1, with"
    ):
        texts(path, max_length=8).rows("train")
    data = texts(path, max_length=8, overlong="truncate")
    assert data.rows("train").lengths.tolist() == [8, 3, 8]
    assert "2 of 3 texts are cut to 8 tokens" in data.unused("train")


def test_words_outside_the_vocabulary_are_read_by_their_characters(tmp_path: Path) -> None:
    train = write(tmp_path, "a b\tyes\nb a\tno\n")
    val = write(tmp_path, "a zebra\tyes\n", "val.tsv")
    data = texts(train, val, characters=10, form="elmo")
    batch = next(iter(data.val_dataloader()))
    assert batch.chars is not None
    spelled = batch.chars.chars_UW[batch.chars.words_BL[0, 2]]
    assert bytes(c - 1 for c in spelled.tolist() if 1 <= c <= 256) == b"zebra"
    assert batch.ids_BL[0, 2] == data.tokenizer.unk_id
    assert batch.size.distinct == len(batch.chars.chars_UW)


def test_what_there_is_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_data(texts(write(tmp_path, "a\tyes\nb\tno\nc\tyes\n")))
    out = capsys.readouterr().out
    assert "3 examples: yes 2, no 1" in out
    assert "word, " in out


# ---- tags ----------------------------------------------------------------------------------------
