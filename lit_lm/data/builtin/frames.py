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
    """`The owner Anna, a baker, joined Harlow Bakery.` and its two other wordings (`form`)."""

    form: int
    name: Name
    role: str
    profession: str
    verb: str
    partner: Organisation | Name


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
    """`Tom thanked her for the whisk.`, `The guest thanked Anna.`, `The guest Tom thanked the baker.`"""

    subject: Mention
    verb: str
    name: Name | None
    profession: str | None
    pronoun: str | None
    tool: str | None  # with the pronoun


class Departure(NamedTuple):
    """`That evening, Anna and Tom left Oslo.`"""

    names: tuple[Name, ...]
    verb: str
    city: str


Frame = Founding | Arrival | Event | Reaction | Departure
