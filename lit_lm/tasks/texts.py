"""Texts as a trained task reads them, and vectors of their tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lit_lm.data import Tokenizer
from lit_lm.data.open_words import OpenWords
from lit_lm.data.rows import characters, pad
from lit_lm.errors import InputError
from lit_lm.models.base import Network


class Embedded(NamedTuple):
    """A text, its tokens, and a vector for each of them, float (tokens, dim)."""

    text: str
    tokens: list[str]
    vectors: Tensor


class Texts(LightningModule):
    """What a task with a tokenizer makes of texts.

    Attributes:
        net: the network.
        tokenizer: the run's tokenizer, from the data module or the checkpoint.
        fresh: parameters that an imported file said nothing about and nobody has trained yet.
    """

    net: Network
    tokenizer: Tokenizer | None
    fresh: tuple[str, ...]

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """A text as the network read texts in training: a row of ids, and where in it the text starts."""
        return ids, 0

    @torch.no_grad()
    def embed(self, texts: list[str], first: int = 1) -> list[Embedded]:
        """A vector for each token of each text, in its context. A network over characters reads those of
        words that the vocabulary does not hold.

        Args:
            texts: the texts.
            first: the number of the first one, for messages.

        Raises:
            InputError: a text has more tokens than the network has positions.
        """
        tokenizer = self.require_tokenizer()
        words = OpenWords(tokenizer, self.hparams["spec"]["max_characters"])
        found = words.encode_batch(texts)
        framed = [self.frame(ids) for ids, _ in found]
        self.check_lengths(texts, [row for row, _ in framed], first)
        inputs = self.batch_rows([row for row, _ in framed], words)
        was_training = self.training
        self.eval()
        h_BLD = self.net.encode(*inputs[:2], chars=inputs[2])
        self.train(was_training)
        return [
            Embedded(text, names, h[start : start + len(names)])
            for text, (_, names), (_, start), h in zip(texts, found, framed, h_BLD, strict=True)
        ]

    def check_lengths(self, texts: list[str], rows: list[list[int]], first: int = 1) -> None:
        """Raises InputError if a text's row is longer than the network's positions. The first text has this number."""
        room = self.net.max_length
        for i, (text, row) in enumerate(zip(texts, rows, strict=True), first):
            if room is not None and len(row) > room:
                raise InputError(
                    f"text {i} has {len(row)} tokens, more than the {room} positions of this network: "
                    f"split it, or train with longer rows. It starts: {text[:60]!r}"
                )

    def batch_rows(
        self, rows: list[list[int]], words: OpenWords | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Rows of ids as a network reads them.

        Args:
            rows: ids.
            words: unknown words whose ids stand among them.

        Returns:
            int64 (B, L) ids, padded on the right; bool (B, L), True at real tokens; and the characters
            (see ``Network.encode``) where the network reads them.
        """
        tokenizer = self.require_tokenizer()
        width = self.hparams["spec"]["max_characters"]
        ids_BL, mask_BL = pad([np.array(row, dtype=np.int64) for row in rows], tokenizer.pad_id)
        chars = None
        if width:
            unknown = words.characters() if words is not None else None
            found = characters(ids_BL.numpy(), tokenizer.characters(width), unknown)
            chars = (found.chars_UW.to(self.device), found.words_BL.to(self.device))
            ids_BL.masked_fill_(ids_BL >= tokenizer.vocab_size, tokenizer.unk_id)
        return ids_BL.to(self.device), mask_BL.to(self.device), chars

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer, which every trained task has."""
        if self.tokenizer is None:
            raise InputError("this task has no tokenizer yet: train it, or load a checkpoint")
        return self.tokenizer

    def require_trained(self, part: str = "") -> None:
        """Raises InputError if parameters of the network whose names start with ``part`` are fresh."""
        fresh = [name for name in self.fresh if name.startswith(part)]
        if fresh:
            raise InputError(
                f"the imported weights had none for {', '.join(fresh[:6])}"
                f"{' and more' if fresh[6:] else ''}: what they compute means nothing before training"
            )
