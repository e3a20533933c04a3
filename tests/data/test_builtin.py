"""The built-in language: exact surprisal, disjoint splits, entities, labels and translations."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

import pytest

from lit_lm.data.builtin import (
    ENTITIES,
    LABELS,
    LEXICON,
    MAX_TOKENS,
    OPTIMAL_EXACT_MATCH,
    SPLITS,
    Document,
    Grammar,
    document,
    generate,
    join,
    read,
    split_of,
    split_words,
)
from lit_lm.data.builtin.tellers import NEWLINE, Sampler, Teller

NUM = 2_000


@pytest.fixture(scope="module")
def train() -> list[Document]:
    return list(generate(0, "train", NUM))


@pytest.fixture(scope="module")
def val() -> list[Document]:
    return list(generate(0, "val", 300))


def words_of(told: Document) -> list[str]:
    """A document's words as a reader meets them."""
    lines = ([*s.words, NEWLINE] for s in told.sentences)
    return list(itertools.chain.from_iterable(lines))[:-1]


class Watcher(Sampler):
    """Checks what every choice must satisfy, and adds up the entropies of choices."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.entropy = 0.0
        self._starts: list[Collection[str]] = []
        self._passed_by: list[Collection[str]] = []

    def _pick(self, options: Sequence[str], used: Collection[str]) -> str:
        assert len(set(options)) == len(options)
        assert len(set(used)) == len(used)
        assert set(used) <= set(options)
        self.entropy += math.log(len(options) - len(used))
        return super()._pick(options, used)

    def _maybe(self, probability: float, starts: Collection[str]) -> bool:
        assert 0 < probability < 1
        p, q = probability, 1 - probability
        self.entropy -= p * math.log(p) + q * math.log(q)
        taken = super()._maybe(probability, starts)
        (self._starts if taken else self._passed_by).append(starts)
        return taken

    def _utter(self, word: str) -> None:
        at_start = self._start
        for starts in self._starts:
            assert word in starts, f"{word!r} cannot start a turning that was taken"
        for starts in self._passed_by:
            assert word not in starts, f"{word!r} starts a turning that was not taken"
        self._starts, self._passed_by = [], []
        assert not at_start or word[0].isupper() or word in {"in", "on", "at", "the", "that"}
        super()._utter(word)


def test_every_choice_shows_in_the_next_word_and_surprisal_averages_to_the_entropy() -> None:
    rng, differences = random.Random(0), []
    for _ in range(NUM):
        watcher = Watcher(rng)
        Grammar(LEXICON).tell(watcher)
        differences.append(math.fsum(watcher.costs) - watcher.entropy)
    mean = sum(differences) / NUM
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / NUM)
    assert abs(mean) < 4 * deviation / math.sqrt(NUM)


class Lister(Teller):
    """Follows a list of numbers, one for each choice, and then takes the first options."""

    def __init__(self, path: Sequence[int]) -> None:
        super().__init__()
        self._path = path
        self.counts: list[int] = []
        self.taken: list[int] = []
        self.spent: list[float] = []  # before each choice

    def _choose(self, count: int) -> int:
        at = len(self.counts)
        number = self._path[at] % count if at < len(self._path) else 0
        self.spent.append(math.fsum(self.costs) + self._pending)
        self.counts.append(count)
        self.taken.append(number)
        return number

    def _pick(self, options: Sequence[str], used: Collection[str]) -> str:
        left = [word for word in options if word not in used]
        return left[self._choose(len(left))]

    def _maybe(self, probability: float, starts: Collection[str]) -> bool:
        return self._choose(2) == 0


def endings(grammar: Grammar, fixed: Sequence[int]) -> Iterator[Lister]:
    """All stories whose first choices are `fixed`."""
    path: list[int] = list(fixed)
    while True:
        lister = Lister(path)
        grammar.tell(lister)
        yield lister
        free = range(len(fixed), len(lister.taken))
        last = max((n for n in free if lister.taken[n] + 1 < lister.counts[n]), default=None)
        if last is None:
            return
        path = [*lister.taken[:last], lister.taken[last] + 1]


def test_stories_with_a_common_beginning_share_out_its_probability_and_differ() -> None:
    grammar, rng, most, checked = Grammar(LEXICON), random.Random(1), 800, 0
    for _ in range(10):
        probe = Lister([rng.randrange(10**9) for _ in range(400)])
        grammar.tell(probe)
        whole: list[Lister] = []
        for at in range(len(probe.taken) - 1, 0, -1):  # ever earlier choices are set free
            told = list(itertools.islice(endings(grammar, probe.taken[:at]), most))
            if len(told) == most:
                break
            whole, spent = told, probe.spent[at]
        if not whole:
            continue
        checked += len(whole)
        total = math.fsum(math.exp(spent - math.fsum(t.costs)) for t in whole)
        assert total == pytest.approx(1.0, abs=1e-9)
        assert len({tuple(t.words) for t in whole}) == len(whole)
    assert checked > 100


def test_the_text_alone_gives_the_same_document(train: list[Document]) -> None:
    for told in train:
        found = read(told.text)
        assert found.surprisal == pytest.approx(told.surprisal, abs=1e-9)
        assert found == told
        assert split_words(told.text) == words_of(told)
        assert join(split_words(told.text)) == told.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda words: [*words, "."],
        lambda words: words[:-1],
        lambda words: [words[0], "someday", *words[2:]],
        lambda words: [],
    ],
)
def test_a_text_outside_of_the_language_is_refused(spoil) -> None:
    words = words_of(document(0, "train", 0))
    with pytest.raises(ValueError, match="not in the built-in language"):
        read(join(spoil(words)))


def test_costs_belong_to_words_and_the_end(train: list[Document]) -> None:
    for told in train:
        assert told.num_tokens == len(split_words(told.text)) == len(told.costs) - 1
        assert told.num_tokens <= MAX_TOKENS
        assert told.surprisal == pytest.approx(sum(told.costs))
        assert min(told.costs) >= 0


def test_a_place_always_holds_the_same_document() -> None:
    assert document(3, "val", 5) == document(3, "val", 5) == list(generate(3, "val", 6))[5]
    endless = generate(3, "val")
    assert [next(endless) for _ in range(2)] == list(generate(3, "val", 2))
    assert len({document(s, p, 0).text for s in (0, 1) for p in SPLITS}) == 6
    with pytest.raises(ValueError, match="split='dev'"):
        document(0, "dev", 0)


def test_splits_share_no_document_whatever_the_seed(train: list[Document]) -> None:
    for seed, split in itertools.product((0, 7), SPLITS):
        for told in generate(seed, split, 50):
            assert split_of(told.sentences[0].text) == split
    evaluation = [d for split in ("val", "test") for d in generate(0, split, 300)]
    assert not {d.text for d in evaluation} & {d.text for d in train}
    openings = {d.sentences[0].text for d in train}
    assert not {d.sentences[0].text for d in evaluation} & openings


def test_over_a_thousand_words_occur() -> None:
    seen = {word for told in generate(0, "train", 8_000) for word in words_of(told)}
    assert len(seen - {".", ",", NEWLINE}) >= 1_000


def test_a_bigram_model_is_far_from_the_optimum(val: list[Document]) -> None:
    """An interpolated bigram model (Witten-Bell) on 6,000 documents."""
    follow: dict[str, Counter[str]] = defaultdict(Counter)
    single: Counter[str] = Counter()
    for told in generate(0, "train", 6_000):
        words = [*words_of(told), "</s>"]
        single.update(words)
        for before, word in itertools.pairwise(["<s>", *words]):
            follow[before][word] += 1
    total, kinds = single.total(), len(single)
    loss, tokens = 0.0, 0
    for told in val:
        words = [*words_of(told), "</s>"]
        for before, word in itertools.pairwise(["<s>", *words]):
            base = (single[word] + 1) / (total + kinds + 1)
            count, types = follow[before].total(), len(follow[before])
            loss -= math.log((follow[before][word] + types * base) / (count + types))
            tokens += 1
    optimum = sum(told.surprisal for told in val)
    assert tokens == sum(told.num_tokens + 1 for told in val)
    assert math.exp((loss - optimum) / tokens) >= 1.5


def test_entities_are_where_they_are_said_to_be(train: list[Document]) -> None:
    first_names = {*LEXICON.women, *LEXICON.men}
    kinds = {kind for topic in LEXICON.topics for kind in topic.organisations}
    dates = {*LEXICON.months, *LEXICON.weekdays}
    seen: set[str] = set()
    for sentence in itertools.chain.from_iterable(d.sentences for d in train):
        covered: set[int] = set()
        for label, start, end in sentence.entities:
            words = sentence.words[start:end]
            seen.add(label)
            match label:
                case "PER":
                    assert len(words) == 1
                    assert words[0] in first_names
                case "LOC":
                    assert len(words) == 1
                    assert words[0] in LEXICON.cities
                case "ORG":
                    assert words[0] in LEXICON.surnames
                    assert words[1] in kinds
                case _:
                    assert words[0] in dates
            assert not covered & set(range(start, end))
            covered |= set(range(start, end))
        for at, word in enumerate(sentence.words):
            assert at in covered or word not in first_names | set(LEXICON.cities) | kinds | dates
    assert seen == set(ENTITIES)


def test_the_label_is_a_matter_of_meaning(train: list[Document]) -> None:
    told = [s for d in train for s in d.sentences if s.label is not None]
    good = [s for s in told if s.label == LABELS.index("good")]
    assert 0.45 < len(good) / len(told) < 0.55
    present = Counter(w for s in told for w in set(s.words))
    present_good = Counter(w for s in good for w in set(s.words))
    for word, count in present.items():
        # the best rule on one word: the likelier label where it occurs, the likelier where not
        there = max(present_good[word], count - present_good[word])
        bad = len(told) - len(good) - (count - present_good[word])
        elsewhere = max(len(good) - present_good[word], bad)
        assert (there + elsewhere) / len(told) < 0.7
    negations = {"not", "never", "almost"}
    verbs = {form for topic in LEXICON.topics for verb in topic.good for form in verb}
    for sentence in told:
        negated, kind = bool(negations & set(sentence.words)), bool(verbs & set(sentence.words))
        assert LABELS[sentence.label] == ("good" if kind != negated else "bad")


def test_a_sentence_alone_determines_its_translation(train: list[Document]) -> None:
    assert OPTIMAL_EXACT_MATCH == 1.0
    known: dict[str, str] = {}
    for sentence in itertools.chain.from_iterable(d.sentences for d in train):
        assert known.setdefault(sentence.text, sentence.translation) == sentence.translation
        assert split_words(sentence.translation) == list(sentence.translation_words)


def test_a_dictionary_does_not_translate(train: list[Document]) -> None:
    """Each word by the one that it most often shares a sentence with; in order, or as a bag."""
    sentences = [s for d in train for s in d.sentences]
    together: dict[str, Counter[str]] = defaultdict(Counter)
    single: Counter[str] = Counter(w for s in sentences for w in set(s.translation_words))
    for s in sentences:
        for word in set(s.words):
            together[word].update(set(s.translation_words))
    best = {
        word: max(with_, key=lambda t, with_=with_: (with_[t] ** 2 / single[t], t))
        for word, with_ in together.items()
    }
    right = same_words = 0
    for s in sentences:
        guess = [best[w] for w in s.words]
        right += guess == list(s.translation_words)
        same_words += Counter(guess) == Counter(s.translation_words)
    assert right / len(sentences) < 0.05
    assert same_words / len(sentences) < 0.5


def test_adjectives_stand_after_their_nouns_and_verbs_last(train: list[Document]) -> None:
    for sentence in itertools.chain.from_iterable(d.sentences for d in train):
        *_, participle, auxiliary, stop = sentence.translation_words
        assert stop == "."
        assert auxiliary in {"tur", "tura", "turo", "turi"}
        assert participle.endswith("et")


def content(words: Collection[str]) -> set[str]:
    """Names, cities, tools and the like."""
    function = {*".,", "the", "in", "on", "at", "his", "her", "him", "a", "that", "evening"}
    return {word for word in words if word.lower() not in function}


def test_the_next_sentence_is_about_the_same_world(train: list[Document]) -> None:
    """Consecutive sentences share words or a topic, random ones far less often."""
    topics = {
        word: n
        for n, topic in enumerate(LEXICON.topics)
        for word in (*topic.organisations, *topic.professions, *topic.tools, *topic.adjectives)
    }

    def related(a: Sequence[str], b: Sequence[str]) -> bool:
        shared = content(a) & content(b)
        about = [{topics[w] for w in words if w in topics} for words in (a, b)]
        return bool(shared) or bool(about[0] & about[1])

    rng = random.Random(0)
    follows = [p for d in train for p in itertools.pairwise(s.words for s in d.sentences)]
    strangers = [(a, rng.choice(rng.choice(train).sentences).words) for a, _ in follows]
    true = sum(related(a, b) for a, b in follows) / len(follows)
    false = sum(related(a, b) for a, b in strangers) / len(strangers)
    assert true > 0.6
    assert true > 2 * false
