"""Prompts for a language model that was never trained on the classes it is to tell apart: each class's words are scored
behind a prompt.

Zero-shot: Radford et al. 2019. Behind some solved examples: Brown et al. 2020, section 2,
https://arxiv.org/abs/2005.14165.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.tasks import CausalLM

Normalize = Literal["none", "tokens", "prior"]
CONTENT_FREE = "N/A"
"""What stands in a prompt for a text that says nothing (Zhao et al. 2021, https://arxiv.org/abs/2102.09690)."""

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """A prompt with names of fields in braces; doubled braces stand for themselves.

    Args:
        text: the prompt.

    Attributes:
        names: the fields.

    Raises:
        InputError: a brace is left alone, or there is no field.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str | None]] = []
        end = 0
        for found in _FIELD.finditer(text):
            if found[0] in ("{", "}") or found[0] == "{}":
                raise InputError(
                    f"--template: {found[0]!r} at character {found.start() + 1} is no field: write a name such as "
                    "{text}, and {{ or }} for a brace"
                )
            literal = text[end : found.start()]
            self._parts.append(
                (literal + found[0][0], None) if found[1] is None else (literal, found[1])
            )
            end = found.end()
        self._parts.append((text[end:], None))
        self.names = [name for _, name in self._parts if name is not None]
        if not self.names:
            raise InputError(
                f"--template={text!r} has no place for the text: put {{text}} where it is to stand"
            )

    def fill(self, value: Callable[[str], str]) -> str:
        """The prompt.

        Args:
            value: gives a field's text.
        """
        return "".join(text + ("" if name is None else value(name)) for text, name in self._parts)


class Choice(NamedTuple):
    """The class with the highest score, and the score of each."""

    label: str
    scores: dict[str, float]


@dataclass
class Prompter:
    """Prompts to classes.

    Args:
        task: a trained language model.
        words: what stands behind a prompt for each class.
        normalize: how the log-likelihoods of the words are made comparable: not at all; divided by the number of tokens; or
            less those behind ``prior``, which favours no class for being frequent (Zhao et al. 2021; Brown et al. 2020,
            section 2.4, divide by a probability without the text, too).
        prior: the prompt of a text without content.
        batch_tokens: most positions that are computed together.

    Raises:
        InputError: words cannot be told apart, or the vocabulary does not have them.
    """

    task: CausalLM
    words: dict[str, str]
    normalize: Normalize = "none"
    prior: str | None = None
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        tokenizer = self.task.require_tokenizer()
        self._ids = [tokenizer.encode(words) for words in self.words.values()]
        _check_words(self.words, self._ids, tokenizer)
        self._room = self.task.net.max_length
        self._known: list[float] = [0.0] * len(self._ids)
        if self.normalize == "prior":
            assert self.prior is not None
            self._known = self._likelihoods([self.prior], ["the prompt without content"])[0]

    def __call__(self, prompts: Sequence[str], names: Sequence[str]) -> list[Choice]:
        """The class of each prompt.

        Args:
            prompts: the prompts.
            names: what messages call them.

        Raises:
            InputError: a prompt and the words behind it have more tokens than the network has positions.
        """
        out = []
        for row in self._likelihoods(prompts, names):
            scores = [score - known for score, known in zip(row, self._known, strict=True)]
            if self.normalize == "tokens":
                scores = [score / len(ids) for score, ids in zip(scores, self._ids, strict=True)]
            found = dict(zip(self.words, scores, strict=True))
            out.append(Choice(max(found, key=lambda name: found[name]), found))
        return out

    def _likelihoods(self, prompts: Sequence[str], names: Sequence[str]) -> list[list[float]]:
        """Of each prompt the log-likelihood of each class's words."""
        found = self.task.require_tokenizer().encode_batch(prompts)
        rows = [self.task.frame(ids.tolist())[0] for ids in found]
        longest = max(len(ids) for ids in self._ids) - 1
        for name, prompt, row in zip(names, prompts, rows, strict=True):
            if self._room is not None and len(row) + longest > self._room:
                raise InputError(
                    f"{name}: prompt and label have {len(row) + longest:,} tokens, more than the {self._room:,} positions of "
                    f"this network: shorten the text, or give fewer --shots. The prompt ends: {prompt[-60:]!r}"
                )
        scores = iter(
            self.task.score_ids(
                [row for row in rows for _ in self._ids],
                [ids for _ in rows for ids in self._ids],
                batch_tokens=self.batch_tokens,
            )
        )
        return [[next(scores) for _ in self._ids] for _ in rows]


def _check_words(words: dict[str, str], ids: list[list[int]], tokenizer: Tokenizer) -> None:
    seen: dict[tuple[int, ...], str] = {}
    for (name, text), its in zip(words.items(), ids, strict=True):
        if not its or tokenizer.unk_id in its:
            raise InputError(
                f"--labels: the words {text!r} of {name} are {'no' if not its else 'unknown'} tokens to this checkpoint: "
                "choose others"
            )
        if tuple(its) in seen:
            raise InputError(
                f"--labels: the words of {seen[tuple(its)]} and {name} are the same tokens: choose others"
            )
        seen[tuple(its)] = name


def unescaped(text: str) -> str:
    r"""A text in which ``\n``, ``\t`` and ``\\`` stand for a line end, a tab and a backslash."""
    return re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], text)
