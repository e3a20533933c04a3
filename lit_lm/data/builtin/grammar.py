"""The grammar of the built-in language: a document is a short story about an organisation and two people who travel.

A story opens with the organisation (whose kind reveals the topic) in a city, introduces two people, and tells their journeys,
with one event and a reaction to it in between. What was said stays true. A journey starts where the last one ended, and names
the directions taken: the map is always the same, so start and directions determine the city where it ends. An event is good or
bad news by its verb and its negation together, and the reaction fits it; `his` and `her` fit the person.

Journeys are what makes the language hard: finding the end of one takes a look at the map for each direction, each from the city
that the one before has led to. That needs layers; remembering whole routes needs more room than a small network has.
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
    Journey,
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

MAX_TOKENS = 159
"""No document is longer, so that it fits a context of 160 with its end."""

_NEGATIONS = ("did", "almost", "never")
_GO_ON = (
    0.8,
    0.7,
    0.45,
)  # the probability that a journey has a second, a third and a fourth direction


class Entity(NamedTuple):
    """A named thing in a sentence: words `start` to `end`, without `end`."""

    label: str
    start: int
    end: int


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
        journeys: How many journeys are told before the event, and at least after it.
        more: The probability of another one.
    """

    def __init__(
        self, lexicon: Lexicon, *, journeys: tuple[int, int] = (4, 4), more: float = 0.5
    ) -> None:
        self.lexicon = lexicon
        self.journeys = journeys
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
        self._city = city
        self._cast: list[Name] = []
        self.told = [told]

    def go_on(self) -> tuple[Told, ...]:
        """Tells the rest of the story."""
        grammar, teller = self._grammar, self._teller
        for _ in range(2):
            self.told.append(self._arrival())
        before, after = grammar.journeys
        for _ in range(before):
            self.told.append(self._journey())
        self._event()
        for _ in range(after):
            self.told.append(self._journey())
        if grammar.more:
            teller.say(NEWLINE)
            if not teller.maybe(1.0 - grammar.more, ("that",)):
                self.told.append(self._journey())
        self.told.append(self._departure())
        teller.finish()
        return tuple(self.told)

    # -- parts of sentences -------------------------------------------------------------------------------------------

    def _name(self, line: _Line, people: Sequence[Name]) -> Name:
        """Refers to one of `people`."""
        start = line.mark()
        first = self._teller.pick(tuple(p.first for p in people))
        line.entity("PER", start)
        return next(p for p in people if p.first == first)

    def _belonging(self, person: Name) -> tuple[str | None, str]:
        """What somebody has: `her copper whisk`."""
        teller, adjectives = self._teller, self._topic.adjectives
        teller.say("her" if person.woman else "his")
        adjective = teller.pick(adjectives) if teller.maybe(0.5, adjectives) else None
        return adjective, teller.pick(self._topic.tools)

    # -- the sentences ------------------------------------------------------------------------------------------------

    def _arrival(self) -> Told:
        """A new member of the cast."""
        line, teller, grammar = _Line(self._teller), self._teller, self._grammar
        start = line.mark()
        first = teller.pick(grammar._firsts, [p.first for p in self._cast])
        line.entity("PER", start)
        profession = None
        if teller.maybe(0.4, (",",)):
            teller.say(",", "a")
            profession = teller.pick(self._topic.professions)
            teller.say(",")
        teller.say("brought")
        name = Name(first, first in grammar._women)
        self._cast.append(name)
        return line.end(Arrival(name, profession, *self._belonging(name)))

    def _journey(self) -> Told:
        """Somebody travels from the city where the story is to another, which the map determines."""
        line, teller, lexicon = _Line(self._teller), self._teller, self._grammar.lexicon
        name = self._name(line, self._cast)
        verb = teller.pick(lexicon.travelling)
        start, directions = self._city, tuple(lexicon.roads)
        line.say("LOC", start)
        turns = [teller.pick(directions)]
        while len(turns) <= len(_GO_ON) and teller.maybe(_GO_ON[len(turns) - 1], directions):
            turns.append(teller.pick(directions))
        for turn in turns:
            self._city = lexicon.roads[turn][self._city]
        line.say("LOC", self._city)
        return line.end(Journey(name, verb, start, tuple(turns), self._city))

    def _event(self) -> None:
        """An event that befalls one of the two, and the other's reaction."""
        line, teller, lexicon = _Line(self._teller), self._teller, self._grammar.lexicon
        where = when = regard = None
        if teller.maybe(0.1, ("at",)):
            where = self._organisation
            teller.say("at")
            line.say("ORG", *where)
            teller.say(",")
        elif teller.maybe(0.1, ("on",)):
            teller.say("on")
            start = line.mark()
            when = teller.pick(lexicon.weekdays)
            line.entity("DATE", start)
            teller.say(",")
        actor = self._name(line, self._cast)
        other = next(p for p in self._cast if p is not actor)
        if not (where or when) and teller.maybe(0.2, (",",)):
            teller.say(",", "who")
            how = teller.pick(lexicon.regarding)
            line.say("PER", other.first)
            regard = (how, other)
            teller.say(",")
        negation = teller.pick(_NEGATIONS) if teller.maybe(0.25, _NEGATIONS) else None
        if negation == "did":
            teller.say("not")
        form = teller.pick(self._verbs.base if negation == "did" else self._verbs.past)
        good = (form in self._verbs.good) == (negation is None)
        adjective, tool = self._belonging(actor)
        base = self._verbs.by_form[form].base
        frame = Event(where, when, actor, regard, negation, base, adjective, tool)
        self.told.append(line.end(frame, int(good)))
        self.told.append(self._reaction(actor, other, good))

    def _reaction(self, actor: Name, other: Name, good: bool) -> Told:
        """What the other did to the one whom the event befell."""
        line, teller, lexicon = _Line(self._teller), self._teller, self._grammar.lexicon
        line.say("PER", other.first)
        verb = teller.pick(lexicon.approving if good else lexicon.blaming)
        pronoun = "her" if actor.woman else "him"
        if teller.maybe(0.5, ("her", "him")):
            teller.say(pronoun)
            return line.end(Reaction(other, verb, None, pronoun))
        line.say("PER", actor.first)
        return line.end(Reaction(other, verb, actor, None))

    def _departure(self) -> Told:
        """The end: one or both leave the city."""
        line, teller = _Line(self._teller), self._teller
        teller.say("that", "evening", ",")
        people = [self._name(line, self._cast)]
        if teller.maybe(0.4, ("and",)):
            teller.say("and")
            other = next(p for p in self._cast if p is not people[0])
            line.say("PER", other.first)
            people.append(other)
        verb = teller.pick(self._grammar.lexicon.leaving)
        line.say("LOC", self._city)
        return line.end(Departure(tuple(people), verb, self._city))
