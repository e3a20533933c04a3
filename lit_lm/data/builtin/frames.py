"""What a sentence says, apart from how it is said: the grammar fills these frames, the translator reads nothing else."""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """A person by name: `Anna`."""

    first: str
    woman: bool


class Organisation(NamedTuple):
    """`Harlow Bakery`."""

    owner: str
    kind: str


class Founding(NamedTuple):
    """`In March, Harlow Bakery opened in Oslo.`"""

    date: str
    is_month: bool
    organisation: Organisation
    verb: str
    city: str


class Arrival(NamedTuple):
    """`Anna, a baker, brought her copper whisk.`"""

    name: Name
    profession: str | None
    adjective: str | None
    tool: str


class Journey(NamedTuple):
    """`Anna rode Oslo north east Lima.`: from Oslo to the north, then to the east, which is Lima."""

    name: Name
    verb: str
    start: str
    turns: tuple[str, ...]
    end: str


class Event(NamedTuple):
    """`At Harlow Bakery, Anna never dropped her copper whisk.`"""

    where: Organisation | None
    when: str | None
    name: Name
    regard: tuple[str, Name] | None
    negation: str | None
    verb: str  # its base form
    adjective: str | None
    tool: str


class Reaction(NamedTuple):
    """`Tom thanked Anna.`, where the person thanked may be a pronoun instead."""

    name: Name
    verb: str
    person: Name | None
    pronoun: str | None


class Departure(NamedTuple):
    """`That evening, Anna and Tom left Lima.`"""

    people: tuple[Name, ...]
    verb: str
    city: str


Frame = Founding | Arrival | Journey | Event | Reaction | Departure
