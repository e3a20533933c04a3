"""ELMo and words outside the vocabulary: vectors from their characters, and labels that stay inside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lit_lm import BidirectionalLM, TextData, TokenizerConfig
from lit_lm.data import IGNORE, TextFiles, Tokenizer
from lit_lm.specs import DataSpec
from tests import tiny

WORDS = "the cat sat on a mat"


@pytest.fixture
def task() -> BidirectionalLM:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(TokenizerConfig("word"), [WORDS])
    task = BidirectionalLM(tiny.ELMO, DataSpec(tokenizer.vocab_size, max_characters=8))
    task.tokenizer = tokenizer
    return task


def test_unknown_words_have_vectors_of_their_own(task: BidirectionalLM) -> None:
    a, b, again = task.embed(["the dog sat", "the cow sat", "the dog sat"])
    assert a.tokens == ["the", "dog", "sat"]
    assert (a.vectors - b.vectors).abs().amax(-1).min() > 1e-6
    assert torch.equal(a.vectors, again.vectors)
    # Nothing but the characters counts: longer words that begin alike are read alike.
    long, longer = task.embed(["doggies", "doggiest"])
    assert torch.equal(long.vectors, longer.vectors)
    assert [long.tokens, longer.tokens] == [["doggies"], ["doggiest"]]


def test_a_word_has_the_same_vector_whether_the_vocabulary_holds_it_or_not(
    task: BidirectionalLM,
) -> None:
    known = task.embed(["the cat sat on a dog"])[0]
    task.tokenizer = Tokenizer.train(TokenizerConfig("word"), ["sat on a the the"])
    other = task.embed(["the cat sat on a dog"])[0]
    torch.testing.assert_close(known.vectors, other.vectors, rtol=0, atol=1e-6)
    assert known.tokens == other.tokens


def test_one_text_alone_has_the_vectors_it_has_among_others(task: BidirectionalLM) -> None:
    texts = ["the dog", "a cow sat on the dog", "", "Über the mat 猫", "cat"]
    for text, found in zip(texts, task.embed(texts), strict=True):
        torch.testing.assert_close(found.vectors, task.embed([text])[0].vectors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampled", [0, 4])
def test_training_reads_characters_and_predicts_unk(tmp_path: Path, sampled: int) -> None:
    batches = []
    for word in ("dog", "cow"):
        path = tmp_path / f"{word}.txt"
        path.write_text(f"the cat the {word} cat\n")
        source = TextFiles(str(path), val=str(path))
        data = TextData(source, TokenizerConfig("word", min_frequency=2), 16, "documents", 2, characters=6)  # fmt: skip
        batches.append(next(iter(data.train_dataloader())))
    torch.manual_seed(0)
    task = BidirectionalLM(tiny.ELMO, data.spec, sampled_softmax=sampled)
    dog, cow = batches
    assert torch.equal(dog.labels_BL, cow.labels_BL)
    assert dog.labels_BL[dog.labels_BL != IGNORE].max() < data.spec.vocab_size
    assert (dog.labels_BL == data.spec.unk_id).any()
    losses = []
    for batch in batches:
        torch.manual_seed(1)
        losses.append(task.loss(batch).total)
    assert (losses[0] - losses[1]).abs() > 1e-5, "the words are told apart"
    losses[0].backward()
    seen = task.net.tokens.embedding.weight.grad.abs().sum(1)
    assert (seen[[1 + byte for byte in b"dog"]] > 0).all()
    assert (seen[[1 + byte for byte in b"w"]] == 0).all()


def test_a_model_trains_is_saved_and_embeds_words_it_has_no_id_for(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text(path.read_text() + "\n\nunseen words\n")
    source = TextFiles(str(path), val=str(path))
    data = TextData(source, TokenizerConfig("word", min_frequency=2), 16, "documents", 8, characters=8)  # fmt: skip
    task = BidirectionalLM(tiny.ELMO, data.spec, tiny.OPTIM, sampled_softmax=3)
    trainer = tiny.trainer(tmp_path, max_epochs=1)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = BidirectionalLM.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    texts = ["unseen words", "unseen swords"]
    for one, two in zip(task.embed(texts), loaded.cpu().embed(texts), strict=True):
        assert one.tokens == two.tokens == one.text.split()
        assert torch.equal(one.vectors.cpu(), two.vectors)


def test_a_text_starts_with_what_it_started_with_in_training(task: BidirectionalLM) -> None:
    t = task.tokenizer
    assert task.frame([7, 8]) == ([t.eos_id, 7, 8, t.eos_id], 1)
    other = BidirectionalLM(tiny.ELMO, DataSpec(t.vocab_size, max_characters=8, bos_first=True))
    other.load_state_dict(task.state_dict())
    other.tokenizer = t
    assert other.frame([7, 8]) == ([t.bos_id, 7, 8, t.eos_id], 1)
    one, two = (x.embed(["the cat"])[0].vectors for x in (task, other))
    assert (one - two).abs().amax(-1).min() > 1e-6
