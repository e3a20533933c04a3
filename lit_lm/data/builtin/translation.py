"""The second language, Tavish: what it does to a sentence of the first.

Verbs stand last, adjectives after their nouns, prepositions turn into postpositions. Nouns have one of three genders, which their article,
possessive and adjective follow; the auxiliary after the verb follows the gender of the subject, or its number where two people
act. A journey is told from its end: the city reached, the directions backwards, the city left. Only persons' names stay as they
are. A sentence alone determines its translation.
"""

from __future__ import annotations

import functools
import random
from typing import Literal

from lit_lm.data.builtin.frames import (
    Arrival,
    Departure,
    Event,
    Founding,
    Frame,
    Journey,
    Name,
    Organisation,
    Reaction,
)

Gender = Literal["m", "f", "n"]

_A: dict[Gender, str] = {"m": "ek", "f": "eka", "n": "eko"}
_OWN: dict[Gender, str] = {"m": "sen", "f": "sena", "n": "seno"}
_WHO: dict[Gender, str] = {"m": "kir", "f": "kira", "n": "kiro"}
_AUXILIARY: dict[Gender | None, str] = {"m": "tur", "f": "tura", "n": "turo", None: "turi"}
_PRONOUN = {"her": "shela", "him": "shen"}
_NEGATION = {"did": "nek", "never": "nimar", "almost": "kvas"}

_ONSETS = [
    "b",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "br",
    "dr",
    "gr",
    "kr",
    "pl",
    "sk",
    "st",
    "tr",
]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "au", "ei"]
_CODAS = ["l", "m", "n", "r", "s", "t", "k", "sh"]


@functools.cache
def stem(word: str, kind: str) -> str:
    """The Tavish stem of a word: systematic, seeded by the word and its kind ("noun", "verb", "adj", "name" or "turn")."""
    rng = random.Random(f"tavish {kind} {word}")
    first = rng.choice(_ONSETS) + rng.choice(_VOWELS)
    return first + rng.choice(_ONSETS) + rng.choice(_VOWELS[:5]) + rng.choice(_CODAS)


@functools.cache
def noun(word: str) -> tuple[str, Gender]:
    """The Tavish noun for a word, and its gender (which its ending shows)."""
    root = stem(word, "noun")
    gender: Gender = random.Random(f"gender {word}").choice(("m", "f", "n"))
    return root + {"m": "", "f": "a", "n": "o"}[gender], gender


def adjective(word: str, gender: Gender) -> str:
    """The Tavish adjective, in the form for a gender."""
    return stem(word, "adj") + {"m": "ik", "f": "ika", "n": "iko"}[gender]


def verb(word: str) -> str:
    """The Tavish participle of a verb."""
    return stem(word, "verb") + "et"


def translate(frame: Frame) -> tuple[str, ...]:
    """Says a frame in Tavish: words and punctuation marks, the first word with a capital."""
    match frame:
        case Founding():
            words = _founding(frame)
        case Arrival():
            words = _arrival(frame)
        case Journey():
            words = _journey(frame)
        case Event():
            words = _event(frame)
        case Reaction():
            words = _reaction(frame)
        case Departure():
            words = _departure(frame)
    first = words[0]
    return (first[0].upper() + first[1:], *words[1:], ".")


def _city(word: str) -> str:
    return stem(word, "name").capitalize()


def _organisation(organisation: Organisation) -> list[str]:
    return [noun(organisation.kind)[0].capitalize(), organisation.owner]


def _sex(name: Name) -> Gender:
    return "f" if name.woman else "m"


def _founding(frame: Founding) -> list[str]:
    gender = noun(frame.organisation.kind)[1]
    time = [stem(frame.date, "name").capitalize(), "mo" if frame.is_month else "du"]
    place = [_city(frame.city), "ba"]
    end = [verb(frame.verb), _AUXILIARY[gender]]
    return [*time, ",", *_organisation(frame.organisation), *place, *end]


def _belonging(tool: str, adjective_: str | None) -> list[str]:
    thing, gender = noun(tool)
    return [_OWN[gender], thing] + ([adjective(adjective_, gender)] if adjective_ else [])


def _arrival(frame: Arrival) -> list[str]:
    sex = _sex(frame.name)
    words = [frame.name.first]
    if frame.profession is not None:
        words += [",", noun(frame.profession)[0], _A[sex], ","]
    return [*words, *_belonging(frame.tool, frame.adjective), verb("brought"), _AUXILIARY[sex]]


def _journey(frame: Journey) -> list[str]:
    turns = [stem(turn, "turn") for turn in reversed(frame.turns)]
    road = [_city(frame.end), "ra", *turns, _city(frame.start), "ba"]
    return [frame.name.first, *road, verb(frame.verb), _AUXILIARY[_sex(frame.name)]]


def _event(frame: Event) -> list[str]:
    words: list[str] = []
    if frame.where is not None:
        words += [*_organisation(frame.where), "ba", ","]
    if frame.when is not None:
        words += [stem(frame.when, "name").capitalize(), "du", ","]
    gender = _sex(frame.name)
    words.append(frame.name.first)
    if frame.regard is not None:
        how, whom = frame.regard
        words += [",", _WHO[gender], "an", whom.first, verb(how), _AUXILIARY[gender], ","]
    words += _belonging(frame.tool, frame.adjective)
    if frame.negation is not None:
        words.append(_NEGATION[frame.negation])
    return [*words, verb(frame.verb), _AUXILIARY[gender]]


def _reaction(frame: Reaction) -> list[str]:
    if frame.person is None:
        assert frame.pronoun is not None
        whom = [_PRONOUN[frame.pronoun]]
    else:
        whom = ["an", frame.person.first]
    return [frame.name.first, *whom, verb(frame.verb), _AUXILIARY[_sex(frame.name)]]


def _departure(frame: Departure) -> list[str]:
    people = [word for name in frame.people for word in ("ve", name.first)][1:]
    gender = None if len(frame.people) > 1 else _sex(frame.people[0])
    end = [verb(frame.verb), _AUXILIARY[gender]]
    return ["ai", "vesper", ",", *people, _city(frame.city), "ra", *end]
