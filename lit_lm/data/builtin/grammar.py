"""The grammar of the built-in language: a document is a short story about an organisation and a cast of three.

A story opens with the organisation (whose kind reveals the topic), introduces the cast, tells rounds of an event and somebody's
reaction to it, and ends with a departure. What was said stays true: a surname, profession and home city belong to a first name, tools to a
profession, `his` and `her` to a person, praise to good news and blame to bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lit_lm.data.builtin.frames import (
    Arrival,
    Departure,
    Event,
    Founding,
    Frame,
    Mention,
    Name,
    Organisation,
    Reaction,
)
from lit_lm.data.builtin.lexicon import Lexicon, Topic, Verb
from lit_lm.data.builtin.tellers import NEWLINE, Teller

LABELS = ("bad", "good")
"""The labels of a sentence that tells an event: is it bad or good news?"""

ENTITIES = ("DATE", "LOC", "ORG", "PER")
"""The kinds of named things in a text."""

MAX_TOKENS = 127
"""No document is longer, so that it fits a context of 128 with its end."""


class Entity(NamedTuple):
    """A named thing in a sentence: words `start` to `end`, without `end`."""

    label: str
    start: int
    end: int


class Person(NamedTuple):
    """A member of a story's cast."""

    name: Name
    role: str
    tools: tuple[str, ...]


class Told(NamedTuple):
    """One sentence of a story."""

    words: tuple[str, ...]
    entities: tuple[Entity, ...]
    frame: Frame
    label: int | None


class Grammar:
    """Tells stories with the words of a lexicon.

    Args:
        lexicon: The open word classes.
        cast: How many people a story has, 2 or 3.
        rounds: How many rounds are told at least.
        more: The probability of another one.
    """

    def __init__(self, lexicon: Lexicon, *, cast: int = 3, rounds: int = 2, more: float = 0.5) -> None:
        self.lexicon = lexicon
        self.cast = cast
        self.rounds = rounds
        self.more = more
        self._firsts = lexicon.women + lexicon.men
        self._women = frozenset(lexicon.women)
        self._kinds = tuple(kind for topic in lexicon.topics for kind in topic.organisations)
        self._topic_of = {kind: topic for topic in lexicon.topics for kind in topic.organisations}
        self._verbs = {topic.organisations: _Verbs(topic) for topic in lexicon.topics}

    def open(self, teller: Teller) -> Story:
        """Tells a story's first sentence."""
        lexicon, words = self.lexicon, _Line(teller)
        is_month = teller.maybe(0.5, ("in",))
        teller.say("in" if is_month else "on")
        with_date = words.mark()
        date = teller.pick(lexicon.months if is_month else lexicon.weekdays)
        words.entity("DATE", with_date)
        teller.say(",")
        start = words.mark()
        organisation = Organisation(teller.pick(lexicon.surnames), teller.pick(self._kinds))
        words.entity("ORG", start)
        verb = teller.pick(lexicon.founding)
        teller.say("in")
        start = words.mark()
        city = teller.pick(lexicon.cities)
        words.entity("LOC", start)
        told = words.end(Founding(date, is_month, organisation, verb, city))
        return Story(self, teller, organisation, city, told)

    def tell(self, teller: Teller) -> tuple[Told, ...]:
        """Tells a whole story."""
        return self.open(teller).go_on()


class _Verbs:
    """A topic's event verbs by form."""

    def __init__(self, topic: Topic) -> None:
        both = topic.good + topic.bad
        self.past = tuple(verb.past for verb in both)
        self.base = tuple(verb.base for verb in both)
        self.good = frozenset(form for verb in topic.good for form in verb)
        self.by_form: dict[str, Verb] = {form: verb for verb in both for form in verb}


class _Line:
    """A sentence in the making: where it starts, and its entities."""

    def __init__(self, teller: Teller) -> None:
        if teller.words and teller.words[-1] != NEWLINE:
            teller.say(NEWLINE)
        self._teller = teller
        self._start = len(teller.words)
        self._entities: list[Entity] = []

    def mark(self) -> int:
        return len(self._teller.words) - self._start

    def entity(self, label: str, start: int) -> None:
        self._entities.append(Entity(label, start, self.mark()))

    def say(self, label: str, *words: str) -> None:
        start = self.mark()
        self._teller.say(*words)
        self.entity(label, start)

    def end(self, frame: Frame, label: int | None = None) -> Told:
        self._teller.say(".")
        words = tuple(self._teller.words[self._start :])
        return Told(words, tuple(self._entities), frame, label)


class Story:
    """A story after its first sentence."""

    def __init__(
        self, grammar: Grammar, teller: Teller, organisation: Organisation, city: str, told: Told
    ) -> None:
        self._grammar = grammar
        self._teller = teller
        self._organisation = organisation
        self._topic = grammar._topic_of[organisation.kind]
        self._verbs = grammar._verbs[self._topic.organisations]
        self._tools = dict(zip(grammar.lexicon.roles, self._topic.tools, strict=True))
        self._city = city
        self._cast: list[Person] = []
        self.told = [told]

    def go_on(self) -> tuple[Told, ...]:
        """Tells the rest of the story."""
        grammar, teller = self._grammar, self._teller
        for _ in range(grammar.cast):
            self.told.append(self._arrival())
        heard: Sequence[Person] = self._cast[-2:]
        for _ in range(grammar.rounds):
            heard = self._round(heard)
        if grammar.more:
            teller.say(NEWLINE)
            if not teller.maybe(1.0 - grammar.more, ("that",)):
                heard = self._round(heard)
        self.told.append(self._departure(heard))
        teller.finish()
        return tuple(self.told)

    # -- who is meant -------------------------------------------------------------------------------------------------

    def _name(self, line: _Line, people: Sequence[Person]) -> Person:
        """Refers to one of `people` by name."""
        start = line.mark()
        first = self._teller.pick(tuple(p.name.first for p in people))
        line.entity("PER", start)
        return next(p for p in people if p.name.first == first)

    def _mention(self, line: _Line, people: Sequence[Person]) -> tuple[Person, Mention]:
        """Refers to one of `people`: `Anna`, `the owner` or `the owner Anna`."""
        teller = self._teller
        if not teller.maybe(0.6, ("the",)):
            person = self._name(line, people)
            return person, Mention(person.name)
        teller.say("the")
        role = teller.pick(tuple(p.role for p in people))
        person = next(p for p in people if p.role == role)
        if not teller.maybe(0.7, (person.name.first,)):
            return person, Mention(None, role)
        line.say("PER", person.name.first)
        return person, Mention(person.name, role)

    def _belonging(self, person: Person) -> tuple[str | None, str]:
        """What somebody has: `her copper whisk`."""
        teller, adjectives = self._teller, self._topic.adjectives
        teller.say("her" if person.name.woman else "his")
        adjective = teller.pick(adjectives) if teller.maybe(0.5, adjectives) else None
        return adjective, teller.pick(person.tools)

    # -- the sentences ------------------------------------------------------------------------------------------------

    def _arrival(self) -> Told:
        """A new member of the cast."""
        line, teller, cast = _Line(self._teller), self._teller, self._cast
        teller.say("the")
        role = teller.pick(self._grammar.lexicon.roles, [p.role for p in cast])
        start = line.mark()
        first = teller.pick(self._grammar._firsts, [p.name.first for p in cast])
        line.entity("PER", start)
        profession = None
        if teller.maybe(0.4, (",",)):
            teller.say(",", "a")
            profession = teller.pick(self._topic.professions)
            teller.say(",")
        teller.say("brought")
        person = Person(Name(first, first in self._grammar._women), role, self._tools[role])
        cast.append(person)
        return line.end(Arrival(person.name, role, profession, *self._belonging(person)))

    def _round(self, heard: Sequence[Person]) -> Sequence[Person]:
        """An event that befalls one of those last heard of, and another's reaction; returns these two."""
        line, teller = _Line(self._teller), self._teller
        where = when = regard = None
        if teller.maybe(0.1, ("at",)):
            where = self._organisation
            teller.say("at")
            line.say("ORG", *where)
            teller.say(",")
        elif teller.maybe(0.1, ("on",)):
            teller.say("on")
            start = line.mark()
            when = teller.pick(self._grammar.lexicon.weekdays)
            line.entity("DATE", start)
            teller.say(",")
        actor, subject = self._mention(line, heard)
        others = [p for p in self._cast if p is not actor]
        if not (where or when) and teller.maybe(0.2, (",",)):
            teller.say(",", "who")
            how = teller.pick(self._grammar.lexicon.regarding)
            regard = (how, self._name(line, others).name)
            teller.say(",")
        negation = teller.pick(_NEGATIONS) if teller.maybe(0.25, _NEGATIONS) else None
        if negation == "did":
            teller.say("not")
        form = teller.pick(self._verbs.base if negation == "did" else self._verbs.past)
        good = (form in self._verbs.good) == (negation is None)
        adjective, tool = self._belonging(actor)
        base = self._verbs.by_form[form].base
        frame = Event(where, when, subject, regard, negation, base, adjective, tool)
        self.told.append(line.end(frame, int(good)))
        reactor, reaction = self._reaction(actor, others, good)
        self.told.append(reaction)
        return [actor, reactor]

    def _reaction(
        self, actor: Person, others: Sequence[Person], good: bool
    ) -> tuple[Person, Told]:
        """What another member of the cast did to the actor."""
        line, teller, lexicon = _Line(self._teller), self._teller, self._grammar.lexicon
        reactor, subject = self._mention(line, others)
        verb = teller.pick(lexicon.approving if good else lexicon.blaming)
        name = pronoun = role = None
        if teller.maybe(0.3, ("her", "him")):
            pronoun = "her" if actor.name.woman else "him"
            teller.say(pronoun)
        elif teller.maybe(0.5, ("the",)):
            role = actor.role
            teller.say("the", role)
        else:
            name = actor.name
            line.say("PER", name.first)
        teller.say("with", "her" if reactor.name.woman else "his")
        tool = teller.pick(reactor.tools)
        return reactor, line.end(Reaction(subject, verb, name, pronoun, role, tool))

    def _departure(self, heard: Sequence[Person]) -> Told:
        """The end: one or two people leave the city."""
        line, teller = _Line(self._teller), self._teller
        teller.say("that", "evening", ",")
        people = [self._name(line, heard)]
        if teller.maybe(0.4, ("and",)):
            teller.say("and")
            people.append(self._name(line, [p for p in heard if p is not people[0]]))
        verb = teller.pick(self._grammar.lexicon.leaving)
        line.say("LOC", self._city)
        return line.end(Departure(tuple(p.name for p in people), verb, self._city))


_NEGATIONS = ("did", "almost", "never")
