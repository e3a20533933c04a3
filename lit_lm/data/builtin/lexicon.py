"""The words of the built-in language, and nothing else.

Each topic is a small world: two kinds of organisation, six professions with four tools each, verbs that are good news or bad
news for the thing they act on, and adjectives. Names of people, the cities and the map are shared by all topics.
"""

from __future__ import annotations

import random
from typing import NamedTuple


class Verb(NamedTuple):
    """A verb that an event is told with: `Anna dropped ...`, `Anna did not drop ...`."""

    past: str
    base: str


class Topic(NamedTuple):
    """What a document can be about."""

    organisations: tuple[str, ...]
    professions: tuple[str, ...]
    tools: tuple[str, ...]
    good: tuple[Verb, ...]
    bad: tuple[Verb, ...]
    adjectives: tuple[str, ...]


class Lexicon(NamedTuple):
    """All open word classes of the grammar. A smaller one makes a smaller language (the tests enumerate one)."""

    topics: tuple[Topic, ...]
    women: tuple[str, ...]
    men: tuple[str, ...]
    surnames: tuple[str, ...]
    cities: tuple[str, ...]
    roads: dict[
        str, dict[str, str]
    ]  # direction -> city -> the city that its road in that direction leads to
    travelling: tuple[str, ...]
    months: tuple[str, ...]
    weekdays: tuple[str, ...]
    founding: tuple[str, ...]
    regarding: tuple[str, ...]
    approving: tuple[str, ...]
    blaming: tuple[str, ...]
    leaving: tuple[str, ...]


def _topic(text: str) -> Topic:
    """Reads one topic from its lines (see `_TOPICS`)."""
    lines = dict(line.split(": ") for line in text.strip().splitlines())
    kinds = {kind: tuple(lines.pop(kind).split()) for kind in ("org", "good", "bad", "adj")}
    return Topic(
        organisations=kinds["org"],
        professions=tuple(lines),
        tools=tuple(" ".join(lines.values()).split()),
        good=tuple(Verb(*pair.split("/")) for pair in kinds["good"]),
        bad=tuple(Verb(*pair.split("/")) for pair in kinds["bad"]),
        adjectives=kinds["adj"],
    )


_TOPICS = """
org: Bakery Tavern
baker: whisk oven sieve dough
cook: ladle skillet apron kettle
waiter: tray napkin menu corkscrew
brewer: barrel yeast tankard bottle
butcher: cleaver sausage mincer ham
grocer: basket crate till receipt
good: cleaned/clean warmed/warm polished/polish saved/save
bad: burned/burn dropped/drop spoiled/spoil stained/stain
adj: copper greasy floury spotless chipped ceramic wicker enamel cheap borrowed

org: Shipyard Harbour
captain: compass logbook helm telescope
shipwright: mast keel rudder hull
fisherman: net trawler hook harpoon
ferryman: ferry oar gangway raft
diver: snorkel wetsuit flipper regulator
sailor: rope anchor hammock flag
good: launched/launch secured/secure rescued/rescue moored/moor
bad: sank/sink tangled/tangle flooded/flood wrecked/wreck
adj: rusty salty wooden weathered tarred leaky tropical nautical mossy creaking

org: Hospital Clinic
doctor: stethoscope thermometer prescription chart
pharmacist: tablet ointment syrup vial
nurse: bandage syringe blanket pillow
midwife: cradle towel rattle nappy
surgeon: scalpel clamp suture glove
dentist: drill crown denture mouthguard
good: sterilised/sterilise labelled/label replaced/replace prepared/prepare
bad: misplaced/misplace contaminated/contaminate cracked/crack spilled/spill
adj: sterile plastic soft disposable spare bloody sanitary medical blue gauze

org: School College
teacher: blackboard chalk textbook register
professor: lecture thesis podium diploma
student: satchel pencil notebook essay
librarian: catalogue bookcase novel atlas
janitor: mop bucket broom padlock
coach: whistle stopwatch racket trophy
good: corrected/correct completed/complete improved/improve copied/copy
bad: forgot/forget tore/tear smudged/smudge mislaid/mislay
adj: dusty dog-eared tidy thick lined illegible boring algebraic

org: Farm Dairy
farmer: tractor plough barn fence
dairyman: cow churn cheese cream
shepherd: lamb crook fleece sheepdog
farrier: horseshoe hoof rasp pony
gardener: spade rake wheelbarrow seedling
beekeeper: hive honeycomb veil swarm
good: fed/feed watered/water sheltered/shelter tended/tend
bad: neglected/neglect trampled/trample starved/starve damaged/damage
adj: muddy woolly sturdy healthy grassy rustic fertile organic brown barbed

org: Theatre Opera
dancer: slipper leotard ballet tutu
costumer: gown wig cape corset
singer: microphone aria ballad songbook
violinist: violin sonata rosin metronome
magician: wand rabbit cloak dove
director: script megaphone rehearsal scene
good: perfected/perfect tuned/tune unveiled/unveil mastered/master
bad: ruined/ruin botched/botch ripped/rip muddled/muddle
adj: velvet glittering silken famous gilded dramatic purple feathered tragic comic

org: Court Tribunal
judge: gavel verdict robe bench
clerk: ledger stamp folder transcript
lawyer: briefcase contract plea affidavit
notary: deed seal testament signature
detective: clue badge photograph fingerprint
warden: cell handcuff truncheon gate
good: verified/verify recovered/recover defended/defend approved/approve
bad: forged/forge leaked/leak shredded/shred falsified/falsify
adj: official secret confidential faded legal written anonymous crumpled damning signed

org: Workshop Foundry
carpenter: hammer chisel plank cabinet
plumber: pipe wrench faucet valve
blacksmith: anvil furnace poker sword
watchmaker: pendulum gear dial spring
tailor: needle thimble jacket button
potter: vase kiln glaze bowl
good: repaired/repair sharpened/sharpen assembled/assemble fixed/fix
bad: broke/break bent/bend scratched/scratch dented/dent
adj: iron brass crooked handmade heavy blunt rugged oak leather galvanised

org: Laboratory Institute
chemist: flask pipette acid burner
physicist: laser magnet prism detector
biologist: microscope specimen culture microbe
botanist: fern orchid herbarium moss
geologist: fossil crystal mineral rock
programmer: keyboard server algorithm laptop
good: calibrated/calibrate analysed/analyse measured/measure preserved/preserve
bad: shattered/shatter overheated/overheat corrupted/corrupt discarded/discard
adj: glass rare fragile precise radioactive toxic magnetic frozen electronic microscopic

org: Railway Station
conductor: ticket timetable punch lantern
signaller: signal lever semaphore telegraph
driver: locomotive throttle brake cab
mechanic: piston bolt gasket boiler
porter: suitcase trolley trunk parcel
stoker: shovel coal firebox gauge
good: inspected/inspect serviced/service loaded/load delivered/deliver
bad: jammed/jam derailed/derail delayed/delay overloaded/overload
adj: steam noisy oily modern express diesel narrow punctual sooty yellow

org: Gazette Herald
reporter: headline interview notepad scoop
publisher: magazine edition manuscript column
photographer: camera tripod lens portrait
cartoonist: sketch caricature crayon easel
printer: typeface ink leaflet poster
translator: dictionary glossary poem letter
good: published/publish revised/revise finished/finish illustrated/illustrate
bad: censored/censor misquoted/misquote deleted/delete blurred/blur
adj: printed daily colourful witty scandalous weekly glossy black rhyming foreign

org: Museum Gallery
painter: canvas brush palette fresco
restorer: varnish solvent frame tapestry
sculptor: statue marble bust pedestal
collector: coin medal amulet relic
curator: exhibit vitrine vault artefact
jeweller: necklace brooch ruby bracelet
good: restored/restore insured/insure displayed/display authenticated/authenticate
bad: vandalised/vandalise defaced/deface smashed/smash pawned/pawn
adj: ancient golden priceless painted antique baroque bronze silver medieval jade
"""

_WOMEN = "Adelaide Anna Charlotte Clara Florence Nora Ruth Vera"

_MEN = "Albert Boris Chester Hugo Lincoln Oscar Tom Victor"

_SURNAMES = """
Abbott Adler Alvarez Archer Ashby Atkins Avery Baldwin Banks Barlow Barnes Bauer Becker Bennett Berg Bishop Blackwood Blair
Bolton Bowen Bradley Brandt Briggs Burke Burton Calder Campbell Carey Carver Chandler Chase Chen Clayton Cole Conway Cooper
Costa Crane Cross Curtis Dalton Darcy Dawson Delgado Dixon Doyle Drake Dunn Eaton Ellis Emery Farrell Fields Fisher Fleming
Forbes Foster Fox Frost Garcia Gibbs Gordon Graves Greer Gupta Hale Hansen Harlow Hayes Hoffman Holt Hooper Hudson Hughes Irving
Jansen Jarvis Jennings Kane Keller Kemp Khan Kowalski Lambert Lang Larsen Lennox Lopez Lowell Maddox Marsh Mercer Meyer Monroe
Moreno Morris Nash Nolan Norton Novak Olsen Osborne Owens Page Parker Payne Pearce Perez Porter Price Quinn Ramsey Reed Reyes
Rhodes Rivera Romero Rossi Rowe Sato Schmidt Shaw Silva Sinclair Slater Sutton Tanaka Thorne Torres Tucker Turner Vance Vargas
Vaughn Vogel Wagner Walsh Weber Welch Wells Whitman Wolfe Yates York Young Zimmer Albright Ames Beck Brennan Byrne Cohen Craig
Daly Duarte Egan Ferrer Finch Gallo Haas Ibsen Joyce Klein Lund Malone Neville Ortiz Pratt Rourke Sandoval Tully Ulrich Vidal
Whelan Zeller Appleby Barton Bryant Denham Elwood Fraser Gilmour Hadley Ingram Jagger Kendall Langley Maxwell Newton
Oakley Palmer Quigley Radford Saville Thatcher Underhill Vickers Wallace Yardley Zapata Ashford Benson Crosby Draper Everett
Flynn Granger Hobbs Irwin Jessop Kirby Lawson Merton Nettles
"""

_CITIES = "Athens Berlin Cairo Dublin Havana Kyoto Lima Lisbon Oslo Paris Tokyo Vienna"

_DIRECTIONS = "north east west"


def _roads(cities: tuple[str, ...], directions: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The map: each city has one road in each direction, and one arrives by it; no road leads back at once."""
    rng = random.Random("the map of the built-in language")
    roads: dict[str, dict[str, str]] = {}
    for direction in directions:
        order = list(cities)
        rng.shuffle(order)
        roads[direction] = dict(zip(order, order[1:] + order[:1], strict=True))
    return roads


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LEXICON = Lexicon(
    topics=tuple(_topic(block) for block in _TOPICS.strip().split("\n\n")),
    women=_words(_WOMEN),
    men=_words(_MEN),
    surnames=_words(_SURNAMES),
    cities=_words(_CITIES),
    roads=_roads(_words(_CITIES), _words(_DIRECTIONS)),
    travelling=_words("rode walked sailed drove cycled marched"),
    months=_words(
        "January February March April May June July August September October November December"
    ),
    weekdays=_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    founding=_words("opened expanded reopened closed"),
    regarding=_words("admired envied trusted knew missed resembled feared disliked"),
    approving=_words(
        "praised thanked hugged applauded congratulated rewarded toasted complimented celebrated honoured saluted promoted"
    ),
    blaming=_words(
        "blamed scolded mocked criticised reprimanded cursed fined punished rebuked accused insulted shunned"
    ),
    leaving=_words("left crossed toured circled"),
)
