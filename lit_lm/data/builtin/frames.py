"""What a sentence says, apart from how it is said: the grammar fills these frames, the translator reads nothing else."""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """A person by name: `Anna`."""

    first: str
    woman: bool


class Mention(NamedTuple):
    """How a subject refers to a person: `Anna`, `the owner`, `the owner Anna`."""

    name: Name | None
    role: str | None = None


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
    """`The owner Anna, a baker, brought her copper whisk.`"""

    name: Name
    role: str
    profession: str | None
    adjective: str | None
    tool: str


class Event(NamedTuple):
    """`At Harlow Bakery, the owner Anna, who trusted Tom, never dropped her copper whisk.`"""

    where: Organisation | None
    when: str | None
    subject: Mention
    regard: tuple[str, Name] | None
    negation: str | None
    verb: str  # its base form
    adjective: str | None
    tool: str


class Reaction(NamedTuple):
    """`Tom thanked her with his sieve.`, where the person thanked is a name, a pronoun or a role."""

    subject: Mention
    verb: str
    name: Name | None
    pronoun: str | None
    role: str | None
    tool: str


class Departure(NamedTuple):
    """`That evening, Anna and Tom left Oslo.`"""

    names: tuple[Name, ...]
    verb: str
    city: str


Frame = Founding | Arrival | Event | Reaction | Departure
