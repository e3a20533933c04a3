"""What training against a sample of the vocabulary costs in perplexity, at equal tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.report import Finding
from lit_lm import BidirectionalLM, ELMoConfig, OptimConfig
from lit_lm.data.batches import BatchSize, Characters, TextBatch
from lit_lm.specs import NUM_CHARACTERS, DataSpec

VOCAB, SAMPLES, WIDTH = 10_000, 1024, 32
ROWS, LENGTH, STEPS, VALIDATION = 16, 32, 600, 20
FAVOURITES, FOLLOWED = 2, 0.6
OPTIM = OptimConfig(lr=1e-2, betas=(0.9, 0.98))


def findings() -> dict[str, Callable[[float], list[Finding]]]:
    """Both trainings; they take as many steps whatever the seconds."""
    return {"elmo-sampled-quality": lambda seconds: [quality()]}


def quality(seed: int = 0) -> Finding:
    """Validation perplexity over the whole vocabulary, trained against a sample and against all of it."""
    language = Language(seed)
    full, sampled = (train(language, n, seed) for n in (0, SAMPLES))
    return Finding(
        "elmo-sampled-quality",
        f"ELMo trained against {SAMPLES:,} samples of {VOCAB:,} words: perplexity over all, beside training on all",
        sampled / full,
        "x",
        "<= 1.02 x",
        sampled / full <= 1.02,
        f"{sampled:.1f} and {full:.1f} after {STEPS * ROWS * LENGTH:,} tokens, seed {seed}; words without "
        f"context stand at {language.unigram():.0f}, the text itself at {language.optimum():.1f} from the left",
    )


class Language:
    """Words in order of frequency, by Zipf's law; but more often than not one of those few that like to follow the
    word before.
    """

    def __init__(self, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.shares = 1.0 / (torch.arange(VOCAB) + 2.7).double()
        self.shares /= self.shares.sum()
        self.followers = self._words(VOCAB * FAVOURITES).view(VOCAB, FAVOURITES)
        self.letters = torch.randint(1, NUM_CHARACTERS, (VOCAB, 8), generator=self.draw)

    def _words(self, count: int) -> Tensor:
        return torch.multinomial(self.shares, count, replacement=True, generator=self.draw)

    def text(self) -> Tensor:
        """int64 (rows, length + 1)."""
        words = [self._words(ROWS)]
        for _ in range(LENGTH):
            liked = torch.randint(FAVOURITES, (ROWS,), generator=self.draw)
            follows = torch.rand(ROWS, generator=self.draw) < FOLLOWED
            words.append(torch.where(follows, self.followers[words[-1], liked], self._words(ROWS)))
        return torch.stack(words, dim=1)

    def batch(self) -> TextBatch:
        """New text."""
        ids = self.text()
        distinct, words = ids.unique(return_inverse=True)
        n = ROWS * LENGTH
        return TextBatch(
            ids[:, :-1].contiguous(),
            ids[:, 1:].contiguous(),
            torch.ones(ROWS, LENGTH, dtype=torch.bool),
            BatchSize(ROWS, n, n, 0, n, n, distinct=len(distinct)),
            Characters(self.letters[distinct], words),
        )

    def unigram(self) -> float:
        """Perplexity of words without context."""
        return math.exp(-float((self.shares * self.shares.log()).sum()))

    def optimum(self) -> float:
        """Perplexity of a word of new text given the one before, in the mean over text."""
        text = torch.cat([self.text() for _ in range(100)])
        before, after = text[:, :-1].flatten(), text[:, 1:].flatten()
        liked = (self.followers[before] == after[:, None]).double().mean(1)
        chances = FOLLOWED * liked + (1 - FOLLOWED) * self.shares[after]
        return math.exp(-float(chances.log().mean()))


def train(language: Language, samples: int, seed: int) -> float:
    """Perplexity of new text after training; the same text and first weights for all."""
    torch.manual_seed(seed)
    language.draw.manual_seed(seed + 1)
    net = ELMoConfig(
        filters=[(1, 32), (2, 64), (3, 64)],
        num_highway=1,
        d_model=WIDTH,
        d_cell=2 * WIDTH,
        dropout=0.0,
    )
    spec = DataSpec(vocab_size=VOCAB, max_length=LENGTH, max_characters=8)
    task = BidirectionalLM(net, spec, OPTIM, sampled_softmax=SAMPLES)
    task.sampled_softmax = samples  # all of them start with the bias that suits the draws
    optimizer = OPTIM.build(task)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = OPTIM.lr * min((step + 1) / 20, 1 - step / STEPS)
        loss = task.loss(language.batch())
        optimizer.zero_grad()
        (loss.total / loss.targets).backward()
        optimizer.step()
    task.eval()
    with torch.no_grad():
        losses = [task.loss(language.batch()) for _ in range(VALIDATION)]
    return math.exp(sum(float(x.total) for x in losses) / sum(int(x.targets) for x in losses))
