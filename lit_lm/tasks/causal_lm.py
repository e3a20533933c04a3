"""Causal language modelling: predict each token from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_lm import generation
from lit_lm.data.batches import BatchSize, TextBatch
from lit_lm.data.samplers import plan_batches
from lit_lm.errors import InputError
from lit_lm.generation import Beam, Sampling
from lit_lm.losses import LossSum, cross_entropy
from lit_lm.models.base import CausalArchitecture, CausalNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.base import Task


class Completion(NamedTuple):
    """A prompt, what the model added, and both as one text."""

    prompt: str
    continuation: str
    text: str


class CausalLM(Task):
    """A left-to-right language model: log p(text) = sum of log p(token | tokens before).

    Args:
        net: the architecture, such as ``GPTConfig``.
        spec: filled in from the data module.
        optim: optimizer and schedule.
    """

    league = "language models"
    batch_type = TextBatch
    net: CausalNetwork

    def __init__(
        self,
        net: CausalArchitecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
    ) -> None:
        super().__init__(net=net, spec=spec or DataSpec(), optim=optim or OptimConfig())

    def loss(self, batch: TextBatch) -> LossSum:
        """See :class:`Task`."""
        h_BLD = self.net(batch.ids_BL, batch.mask_BL, **self.documents(batch.docs_BL))
        return cross_entropy(
            h_BLD,
            self.net.head,
            batch.labels_BL,
            accuracy=not self.training,
            count=batch.size.labels,
        )

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        return ((size.tokens + size.input_tokens) / size.texts,)

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """See :class:`Task`: a document starts behind the end of another."""
        return [self.require_tokenizer().eos_id, *ids], 1

    def predict_step(self, batch: TextBatch, batch_idx: int) -> Tensor:
        """Log-probability of each label, float (B, L) in nats; 0 where there is none."""
        h_BLD = self.net(batch.ids_BL, batch.mask_BL, **self.documents(batch.docs_BL))
        logits: Tensor = self.net.head(h_BLD).float()
        labels = batch.labels_BL.clamp(min=0).unsqueeze(-1)
        return logits.log_softmax(-1).gather(-1, labels).squeeze(-1) * (batch.labels_BL >= 0)

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        *,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        beam: Beam | None = None,
    ) -> list[Completion]:
        """Continues texts.

        A text that outgrows the network's positions goes on from its second half: the network never
        sees more than it was built for, and no output is cut short for it.

        Args:
            prompts: texts to continue; an empty one starts a document.
            max_new_tokens: most tokens to add to each.
            sampling: how tokens are drawn; greedy when None.
            generator: the source of randomness.
            beam: search for the likeliest continuation instead, at its end or after so many tokens, all of which must
                fit into the network's positions.

        Returns:
            One completion a prompt.

        Raises:
            InputError: the output layer has never been trained, or there is no room for a search.
        """
        self.require_trained("head")
        tokenizer = self.require_tokenizer()
        rows = [self.frame(tokenizer.encode(prompt))[0] for prompt in prompts]
        was_training = self.training
        self.eval()
        if beam is None:
            new = self._drawn(rows, max_new_tokens, sampling, generator)
        else:
            new = self._searched(rows, max_new_tokens, beam)
        self.train(was_training)
        decode = tokenizer.decode
        return [
            Completion(prompt, decode(ids), decode(row[1:] + ids))
            for prompt, row, ids in zip(prompts, rows, new, strict=True)
        ]

    def score(self, prompts: Sequence[str], continuations: Sequence[str]) -> list[float]:
        """How likely continuations of texts are: the sum of log p(token | prompt, tokens before) over a continuation's
        tokens, in nats, one number for each pair. Both are turned into tokens on their own.

        Raises:
            InputError: a pair has more tokens than the network has positions, or the output layer has never been
                trained.
        """
        tokenizer = self.require_tokenizer()
        ends = [ids.tolist() for ids in tokenizer.encode_batch(continuations)]
        rows = [self.frame(ids.tolist())[0] for ids in tokenizer.encode_batch(prompts)]
        read = [[*row, *end[:-1]] for row, end in zip(rows, ends, strict=True)]
        self.check_lengths(list(prompts), read)
        return self.score_ids(rows, ends)

    @torch.inference_mode()
    def score_ids(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        batch_tokens: int = 4096,
    ) -> list[float]:
        """As :meth:`score`, of ids. What two pairs read is read once: all one-token continuations of a prompt, say.

        Args:
            prompts: ids, each framed (:meth:`frame`).
            continuations: ids of each one's continuation.
            batch_tokens: most positions that are computed together.
        """
        self.require_trained("head")
        if not prompts:
            return []
        pairs: dict[tuple[int, ...], list[int]] = {}  # which of them read what
        for i, (prompt, end) in enumerate(zip(prompts, continuations, strict=True)):
            pairs.setdefault((*prompt, *end[:-1]), []).append(i)
        rows, out = list(pairs), [0.0] * len(prompts)
        lengths = [len(row) for row in rows]
        budget = max(batch_tokens, *lengths)
        was_training = self.training
        self.eval()
        for batch in plan_batches(lengths, batch_tokens=budget, shuffle=False, seed=0, epoch=0):
            read = [rows[k] for k in batch.tolist()]
            ids_BL, mask_BL, _ = self.batch_rows([list(row) for row in read])
            for h_LD, row in zip(self.net(ids_BL, mask_BL), read, strict=True):
                begin = min(len(prompts[i]) for i in pairs[row]) - 1
                logs_NV = self.net.head(h_LD[begin : len(row)]).float().log_softmax(-1)
                for i in pairs[row]:
                    labels = torch.tensor(continuations[i], dtype=torch.long, device=self.device)
                    at = torch.arange(len(labels), device=self.device) + len(prompts[i]) - 1 - begin
                    out[i] = logs_NV[at, labels].sum().item()
        self.train(was_training)
        return out

    def _searched(self, rows: list[list[int]], count: int, beam: Beam) -> list[list[int]]:
        """New tokens of each row, by beam search."""
        if count < 1 or not rows:
            return [[] for _ in rows]
        longest, room = max(map(len, rows)) + count, self.net.max_length
        if room is not None and longest > room + 1:
            raise InputError(
                f"a beam search needs room for all of a text: {longest - count} tokens and max_new_tokens={count} are "
                f"more than the {room} positions of this network: lower max_new_tokens, or leave the beam out"
            )
        ids, mask, _ = self.batch_rows(rows)
        logits, state = self.net.start(ids, mask.sum(1), longest)
        tokenizer = self.require_tokenizer()
        found = generation.beam_search(
            self.net,
            logits,
            state,
            max_new_tokens=count,
            eos_id=tokenizer.eos_id,
            beam=beam,
            count=1,
            num_ids=tokenizer.vocab_size,
        )
        return [hypotheses[0].ids for hypotheses in found]

    def _drawn(
        self,
        rows: list[list[int]],
        max_new_tokens: int,
        sampling: Sampling | None,
        generator: torch.Generator | None,
    ) -> list[list[int]]:
        """New tokens of each row, one drawn after another."""
        tokenizer = self.require_tokenizer()
        eos = tokenizer.eos_id
        new: list[list[int]] = [[] for _ in rows]
        open_rows = list(range(len(rows))) if max_new_tokens > 0 else []
        room = self.net.max_length
        while open_rows:
            # All rows take the same number of steps, so that they share batches.
            left = max_new_tokens - len(new[open_rows[0]])
            context = [
                (rows[i] + new[i]) if room is None else _tail(rows[i] + new[i], room)
                for i in open_rows
            ]
            longest = max(len(ids) for ids in context)
            steps = left if room is None else min(left, room - longest + 1)
            ids, mask, _ = self.batch_rows(context)
            logits, state = self.net.start(ids, mask.sum(1), longest + steps)
            added = generation.generate(
                self.net,
                logits,
                state,
                max_new_tokens=steps,
                eos_id=eos,
                sampling=sampling,
                generator=generator,
                num_ids=tokenizer.vocab_size,  # an imported network may have more, without text
            )
            for i, hypothesis in zip(open_rows, added, strict=True):
                new[i] += hypothesis.ids
            ended = [hypothesis.finished for hypothesis in added]
            open_rows = [
                i for i, end in zip(open_rows, ended, strict=True) if not end and steps < left
            ]
        return new

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """The first words of some texts, how the model goes on (greedily) and how the text did."""
        decode = self.require_tokenizer().decode
        out = []
        store = data.store(split, "text")  # type: ignore[attr-defined]
        for i in range(min(count, len(store))):
            ids = store.doc(i)[:96].tolist()
            cut = max(1, len(ids) // 3)
            found = self.generate([decode(ids[:cut])], max_new_tokens=max(len(ids) - cut, 1))[0]
            out.append(
                {
                    "prompt": found.prompt,
                    "output": found.continuation,
                    "reference": decode(ids[cut:]),
                }
            )
        return out


def _tail(ids: list[int], room: int) -> list[int]:
    return ids if len(ids) <= room else ids[-max(room // 2, 1) :]
