"""The best guess of a masked word: exact against brute force, and as often right as it promises to be."""

from __future__ import annotations

import importlib
import itertools
import math
import random
import statistics
from typing import NamedTuple

import pytest

from lit_lm.data.builtin import (
    LEXICON,
    Document,
    Grammar,
    Sentence,
    cloze,
    cloze_totals,
    document,
    generate,
    join,
    posterior,
    read,
    split_words,
)
from lit_lm.data.builtin.frames import Arrival, Name
from lit_lm.data.builtin.tellers import NEWLINE, Sampler, Teller


class Guessed(NamedTuple):
    document: Document
    words: list[str]
    chances: list[dict[str, float]]  # for each word


@pytest.fixture(scope="module")
def guessed() -> list[Guessed]:
    """Documents of the whole language, whatever their split: their openings are as likely as the grammar says."""
    rng, grammar, found = random.Random(5), Grammar(LEXICON), []
    for _ in range(20):
        sampler = Sampler(rng)
        grammar.tell(sampler)
        told = read(join(sampler.words))
        chances = [posterior(told, at) for at in range(told.num_tokens)]
        found.append(Guessed(told, split_words(told.text), chances))
    return found


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    """All words of the language, each with a small and a capital letter in front."""
    seen = {w for told in generate(0, "train", 200) for w in split_words(told.text)}
    for topic in LEXICON.topics:
        seen.update(*topic.good, *topic.bad, topic.organisations, topic.professions, topic.tools)
        seen.update(topic.adjectives)
    seen.update(LEXICON.roads, *(part for part in LEXICON[1:] if isinstance(part, tuple)))
    return sorted(
        seen | {w[0].upper() + w[1:] for w in seen} | {w[0].lower() + w[1:] for w in seen}
    )


def brute_force(words: list[str], at: int, vocabulary: list[str]) -> dict[str, float]:
    """Puts every word of the language in the place."""
    likely: dict[str, float] = {}
    for word in vocabulary:
        try:
            told = read(join([*words[:at], word, *words[at + 1 :]]))
        except ValueError:
            continue
        likely[word] = math.exp(-told.surprisal)
    total = math.fsum(likely.values())
    return {word: value / total for word, value in likely.items()}


def test_it_agrees_with_trying_every_word(guessed: list[Guessed], vocabulary: list[str]) -> None:
    assert len(vocabulary) > 2_000
    rng, spread = random.Random(0), 0
    for one in guessed[:5]:
        open_places = [at for at, chances in enumerate(one.chances) if len(chances) > 1]
        forced = [at for at, chances in enumerate(one.chances) if len(chances) == 1]
        turns = [at for at, word in enumerate(one.words) if word in LEXICON.roads]
        for at in (rng.choice(open_places), rng.choice(forced), rng.choice(turns)):
            expected = brute_force(one.words, at, vocabulary)
            assert one.chances[at] == pytest.approx(expected, abs=1e-9)
            spread += len(expected) > 1
    assert spread >= 5


def test_probabilities_add_up_and_the_true_word_is_possible(guessed: list[Guessed]) -> None:
    for one in guessed:
        for word, chances in zip(one.words, one.chances, strict=True):
            assert math.fsum(chances.values()) == pytest.approx(1.0, abs=1e-12)
            assert min(chances.values()) > 0
            assert word in chances
            assert list(chances) == sorted(chances)


def test_what_a_reader_can_work_out_and_what_stays_open() -> None:
    told = read(
        """In March, Harlow Bakery opened in Oslo.
Anna, a baker, brought her whisk.
Tom brought his copper oven.
Anna rode Oslo north Dublin.
Anna rode Dublin west Havana.
Tom rode Havana east Oslo.
Tom rode Oslo east Paris.
At Harlow Bakery, Anna almost burned her dough.
Tom praised her.
Tom rode Paris north Lima.
Tom rode Lima north Berlin.
Tom rode Berlin north Oslo.
Tom rode Oslo north Dublin.
That evening, Anna left Dublin."""
    )
    words = split_words(told.text)

    def chances(word: str, nth: int = 0) -> dict[str, float]:
        places = [at for at, given in enumerate(words) if given == word]
        return posterior(told, places[nth])

    def alike(*options: str) -> dict[str, float]:
        return pytest.approx({word: 1 / len(options) for word in options}, abs=1e-12)

    # what another word tells, or the punctuation, is certain
    for word in ("In", ",", "Harlow", "Bakery", "her", "Tom", "That", ".", NEWLINE, "Oslo"):
        assert chances(word) == {word: 1.0}
    assert chances("March") == alike(*LEXICON.months)
    assert chances("baker") == alike(*LEXICON.topics[0].professions)
    assert chances("whisk") == alike(*LEXICON.topics[0].tools)
    assert chances("left") == alike(*LEXICON.leaving)
    # the reaction tells what the news were, and without a second word there is no `did not`
    assert chances("praised") == alike(*LEXICON.approving)
    assert chances("almost") == alike("almost", "never")
    assert chances("burned") == alike("burned", "dropped", "spoiled", "stained")
    # somebody else may have travelled, but the one who reacts is not the one whom the event befell
    assert chances("Anna", 1) == alike("Anna", "Tom")
    assert chances("Anna", 3) == {"Anna": 1.0}
    # a pronoun or a name, both half the time
    assert chances("her", -1) == alike("her", "Anna")
    # two roads lead from Havana to Oslo, and two from Lima to Berlin, but one from Oslo to Dublin
    assert chances("east", 0) == alike("east", "west")
    assert chances("north", 2) == alike("north", "east")
    assert chances("north", 0) == {"north": 1.0}


def test_a_turn_on_the_way_is_open_only_where_two_roads_meet(guessed: list[Guessed]) -> None:
    open_turns = 0
    for one in guessed:
        city = ""
        for word, chances in zip(one.words, one.chances, strict=True):
            if word in LEXICON.cities:
                city = word
            elif word in LEXICON.roads:
                there = LEXICON.roads[word][city]
                ways = {way for way, roads in LEXICON.roads.items() if roads[city] == there}
                assert chances == pytest.approx(dict.fromkeys(ways, 1 / len(ways)))
                open_turns += len(ways) > 1
                city = there
    assert open_turns > 20


def test_a_whole_document_at_once(guessed: list[Guessed]) -> None:
    for one in guessed[:5]:
        told = cloze(one.document)
        assert len(told.costs) == len(told.best) == len(told.max_probability) == len(one.words)
        for word, chances, cost, best, most in zip(one.words, one.chances, *told, strict=True):
            assert cost == pytest.approx(-math.log(chances[word]), abs=1e-12)
            assert most == max(chances.values())
            assert chances[best] == pytest.approx(most, rel=1e-9)
            assert best == min(w for w in chances if chances[w] >= most * (1 - 1e-9))
            if len(chances) == 1:
                assert (cost, best, most) == (0.0, word, 1.0)
                assert math.copysign(1.0, cost) == 1.0
        assert told.costs.count(0.0) > len(one.words) / 2


def test_guesses_are_right_as_often_as_promised(guessed: list[Guessed]) -> None:
    rng, differences, most_often = random.Random(0), [], []
    for one in guessed:
        surplus = 0.0
        for word, chances in zip(one.words, one.chances, strict=True):
            most = max(chances.values())
            tied = [w for w, chance in chances.items() if chance >= most * (1 - 1e-9)]
            surplus += (rng.choice(tied) == word) - most
            most_often.append(most)
        differences.append(surplus / len(one.words))
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    assert 0 < error < 0.01
    assert abs(statistics.mean(differences)) < 4 * error
    assert 0.7 < statistics.mean(most_often) < 0.9


class Toy:
    """A language of two words, whose choices are not alike."""

    def tell(self, teller: Teller) -> None:
        if teller.maybe(0.3, ("x",)):
            teller.say("x")
            teller.pick(("p", "q"))
        elif teller.maybe(0.25, ("v", "w")):
            teller.pick(("v", "w"))
            teller.pick(("q", "r"))
        else:
            teller.pick(("x", "y", "z"), ["x"])
            teller.pick(("p", "q", "r", "s"))
        teller.finish()


@pytest.mark.parametrize("given", ["X", "V", "W", "Y", "Z"])
def test_unlike_choices_are_weighed(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    module = importlib.import_module("lit_lm.data.builtin.posterior")
    monkeypatch.setattr(module, "_GRAMMAR", Toy())
    shares = {"X": 0.3 / 2, "V": 0.0875 / 2, "W": 0.0875 / 2, "Y": 0.2625 / 4, "Z": 0.2625 / 4}
    expected = {word: share / sum(shares.values()) for word, share in shares.items()}
    told = Document(
        (Sentence((given, "q"), (), None, Arrival(Name("", True), None, None, "")),), ()
    )
    assert posterior(told, 0) == pytest.approx(expected)
    at_end = {"X": "pq", "V": "qr", "W": "qr", "Y": "pqrs", "Z": "pqrs"}[given]
    assert posterior(told, 1) == pytest.approx(dict.fromkeys(at_end, 1 / len(at_end)))
    assert cloze(told).best == ("X", min(at_end))


def test_both_sides_tell_more_than_one(guessed: list[Guessed]) -> None:
    words = sum(len(one.words) for one in guessed)
    left_to_right = math.fsum(cost for one in guessed for cost in one.document.costs[:-1])
    both = -math.fsum(
        math.log(chances[word])
        for word, chances in itertools.chain.from_iterable(
            zip(one.words, one.chances, strict=True) for one in guessed
        )
    )
    assert 0 < both / words < 0.7 * left_to_right / words


def test_totals_are_sums_over_documents() -> None:
    totals = cloze_totals(0, "val", 3)
    told = [cloze(one) for one in generate(0, "val", 3)]
    assert totals.cost == pytest.approx(sum(sum(t.costs) for t in told))
    assert totals.positions == sum(one.num_tokens for one in generate(0, "val", 3))
    right = sum(sum(t.max_probability) for t in told)
    assert totals.accuracy == pytest.approx(right / totals.positions)
    assert cloze_totals(0, "val", 3) is totals
    with pytest.raises(ValueError, match="count=0"):
        cloze_totals(0, "val", 0)


def test_a_place_outside_of_the_document_is_refused() -> None:
    told = document(0, "test", 0)
    for place in (-1, told.num_tokens):
        with pytest.raises(IndexError, match=f"position={place}"):
            posterior(told, place)
