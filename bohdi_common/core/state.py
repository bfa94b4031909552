"""What the log adds up to: the state of one run, its canonical form and its hash."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Any

from bohdi_common.core.ids import derived_id
from bohdi_common.core.limits import PRICE_MAX
from bohdi_common.core.tree import ROOT, Tree

STATE_VERSION = 2
BASE_VERSION = "base"  # the target as the run found it
ALL_ROUNDS_DONE = "all rounds done"  # why a run is finished that nobody ended
# Why one is paused in which nothing comes of what is asked.
NOBODY_ANSWERED = "no slot of the last step could be settled: the models were unavailable"
NO_OPEN_ARM = "no arm under Root is open: every domain was closed after too many failures"


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers that fold and decisions follow, by the names of BanditSettings and TrainingSettings in the proto."""

    seed: int
    sources: tuple[str, ...]
    rounds: int
    steps: int
    slots: int
    sharpness: float
    grow: bool
    lockstep: bool
    introspection: int
    window: int
    threshold: float
    sprout_failures: int
    slot_failures: int
    leaf_failures: int
    sprout_names: int
    slot_timeout_s: float
    rehearsal_questions: int
    rehearsal_below: float
    training_failures: int
    examples: int
    ramp: bool
    passes: float
    max_examples: int
    rehearsal_share: float
    replay_share: float
    average_last: int
    restart: bool
    batch: int
    prices: dict[str, tuple[float, float]]  # of a million tokens of prompt and of completion, by model, where not 0

    @classmethod
    def of(cls, settings: Any) -> Rules:
        """Rules of a `bohdi.v1.Settings`, each by its name."""
        given: dict[str, Any] = {"seed": settings.seed, "sources": tuple(source.name for source in settings.sources)}
        given["prices"] = {
            model.name: (model.price_prompt, model.price_completion)
            for model in (*settings.sources, settings.target, *settings.judging.judges)
            if model.price_prompt or model.price_completion
        }
        for name in (f.name for f in fields(cls)):
            if name not in given:
                part = settings.bandit if hasattr(settings.bandit, name) else settings.training
                given[name] = getattr(part, name)
        return cls(**given)

    def problem(self) -> str:
        """Why no run can follow these rules; empty when one can."""
        if not self.sources:
            return "no source"
        if not 1 <= self.window <= 64:
            return "window outside 1 to 64"
        if min(self.rounds, self.steps, self.slots) < 1:
            return "rounds, steps and slots must be at least 1"
        if min(self.sprout_failures, self.slot_failures, self.leaf_failures, self.sprout_names, self.batch) < 1:
            return "a bound on failures, names or batch is below 1"
        if not self.sharpness >= 0:
            return "negative sharpness"
        if self.introspection not in set(Introspection):
            return "an introspection that is not known"
        if not 0 <= self.threshold <= 1 or not 0 < self.slot_timeout_s < math.inf:
            return "threshold outside 0 to 1, or a timeout that is none"
        if not 0 <= self.passes < math.inf or not 0 <= self.rehearsal_share < 1 or not 0 <= self.replay_share <= 1:
            return "passes or a share out of range"
        if not all(0 <= price <= PRICE_MAX for prices in self.prices.values() for price in prices):
            return "a price out of range"
        return ""


class Introspection(IntEnum):
    """As in the proto."""

    OFF = 1
    PAPER = 2
    TWO_SAMPLE = 3


class Failure(IntEnum):
    """As FailureClass in the proto."""

    REJECTED = 1
    UNAVAILABLE = 2
    BLOCKED = 3


class Waits:
    """What a slot of the step at hand waits for. Plain numbers: a fold compares several an event, and in Python 3.11
    to name a member of an enum takes longer than that."""

    RESULT = 1  # its harvest or rehearsal was asked for
    SPROUT = 2  # a sprout under the last node of its path was asked for
    DECISION = 3  # the sprout is settled: the slot can go on
    NOTHING = 4  # settled
    TURN = 5  # in lockstep: its result, or its sprout's, is in and takes effect when those of all slots are


class Next(StrEnum):
    """The decision that the state calls for; NONE while it waits for results or is over."""

    NONE = ""
    STEP = "step"
    REHEARSAL = "rehearsal"
    INTROSPECTION = "introspection"
    TRAINING = "training"
    FINISH = "finish"


@dataclass(slots=True)
class Outcome:
    """How what a slot asked came out: what it counts as, where it stands in the run, and the reward of a harvest."""

    what: str
    sequence: int
    reward: int = 0


@dataclass(slots=True)
class Slot:
    """One slot of the step at hand. `path`: node ids; not yet three long while it waits for a sprout."""

    waits: int
    path: tuple[int, ...]
    leader: str
    request_hash: str
    asked: int  # run sequence of the decision that asked
    asked_us: int
    attempt: int = 0  # how often it went on after a sprout
    failures: int = 0  # sprouts that failed in it
    child: int = -1  # the new node from which it goes on; -1: the level is drawn again
    outcome: Outcome | None = None  # while it waits for its turn


@dataclass(slots=True)
class Sprout:
    """A request for new children of `parent` that is not settled."""

    parent: int
    request_hash: str
    want: int
    waiting: list[int]
    asked: int
    asked_us: int
    answered: bool = False  # and waits for its turn, with these names or
    names: tuple[str, ...] = ()
    unavailable: bool = False


@dataclass(slots=True)
class Training:
    """A training that is not settled."""

    request_hash: str
    version: str
    base_version: str
    samples: tuple[int, ...]
    average_with: tuple[str, ...]
    asked: int
    asked_us: int


@dataclass(slots=True)
class RunState:
    """State of one run after `sequence` events. Made by folding the feedback log with `evolve`, and by nothing else."""

    run_id: str = ""
    rules: Rules | None = None
    sequence: int = 0
    round: int = 0
    step: int = 0
    steps_counted: int = 0  # steps of this round that were not wholly unavailable
    slots: list[Slot] = field(default_factory=list)
    ready: dict[int, int] = field(default_factory=dict)  # slots that wait for a decision, and since which sequence
    open_slots: int = 0
    unavailable_slots: int = 0
    rehearsing: bool = False
    rehearsed: bool = False
    introspected: bool = False
    stalled: str = ""  # why the run cannot go on by itself; the bandit makes it a RunPaused
    paused: str = ""
    pauses: int = 0
    resumes: int = 0
    controls: list[str] = field(default_factory=list)  # ids of the pauses and resumes: each takes effect once
    finished: str = ""
    sprouts: dict[int, Sprout] = field(default_factory=dict)
    training: Training | None = None
    failed_trainings: int = 0
    versions: list[str] = field(default_factory=lambda: [BASE_VERSION])
    tree: Tree = field(default_factory=lambda: Tree(1))
    pairs: dict[int, array[int]] = field(default_factory=dict)
    rehearsals: dict[int, array[int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    # See `budget`.
    caps: dict[str, float] = field(default_factory=dict)
    spent_tokens: int = 0
    spent_micros: int = 0
    spent_us: int = 0
    last_us: int = 0

    @property
    def target_version(self) -> str:
        return self.versions[-1]

    @property
    def pair_count(self) -> int:
        return sum(map(len, self.pairs.values()))

    @property
    def awaits_results(self) -> bool:
        """Whether something was asked of another service and is not answered."""
        return self.open_slots > len(self.ready) or self.training is not None

    @property
    def pause_id(self) -> str:
        """Id of the pause that the bandit would make of this state; after the next pause or resume it is another."""
        return derived_id(self.run_id, "run_paused", self.pauses, self.resumes)

    def sprout_of(self, slot: Slot) -> Sprout:
        """The request that a slot without a leaf waits for."""
        return self.sprouts[slot.path[-1] if slot.path else ROOT]

    def asked_for(self, slot: Slot) -> str:
        """Hash of the request that a slot waits for. Each has another: what ends one wait ends no other."""
        return self.sprout_of(slot).request_hash if slot.waits == Waits.SPROUT else slot.request_hash

    def next(self) -> Next:
        """The decision that is due, by the order of the method: Meditation, rehearsal (once), IR, Enlightenment."""
        rules = self.rules
        if rules is None or self.finished or self.open_slots or self.training is not None:
            return Next.NONE
        if self.round >= rules.rounds:
            return Next.FINISH
        if self.steps_counted < rules.steps:
            return Next.STEP
        if self.round == 0 and rules.rehearsal_questions and not self.rehearsed:
            return Next.REHEARSAL
        if rules.introspection != Introspection.OFF and not self.introspected:
            return Next.INTROSPECTION
        return Next.TRAINING


_OF_PARTS = frozenset({"rules", "slots", "ready", "sprouts", "training", "tree", "pairs", "rehearsals"})


def canonical(state: RunState) -> bytes:
    """The state as JSON in one fixed form: the same log gives the same bytes on every machine. All that decisions
    depend on is in it, the order of sprouts and of the leaves in store too."""
    plain = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in _OF_PARTS}
    whole = plain | {
        "state_version": STATE_VERSION,
        "rules": asdict(state.rules) if state.rules else None,
        "slots": [asdict(slot) for slot in state.slots],
        "sprouts": [asdict(sprout) for sprout in state.sprouts.values()],
        "training": asdict(state.training) if state.training else None,
        "arms": state.tree.rows(),
        "pairs": [[leaf, list(seqs)] for leaf, seqs in state.pairs.items()],
        "rehearsals": [[leaf, list(seqs)] for leaf, seqs in state.rehearsals.items()],
    }
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def restored(canonical_form: bytes) -> RunState:
    """The state of which `canonical` gave these bytes: every decision from it is the same. Raises ValueError for bytes
    of another version, or that are none."""
    try:
        whole = json.loads(canonical_form.decode("utf-8", "surrogatepass"))
        version = whole.pop("state_version")
        if version != STATE_VERSION:
            raise ValueError(f"a state of version {version}, this program has {STATE_VERSION}")
        return _assembled(whole)
    except (AttributeError, KeyError, TypeError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a state: {type(error).__name__}: {error}") from None


def _assembled(whole: dict[str, Any]) -> RunState:
    rules, training = whole.pop("rules"), whole.pop("training")
    slots, sprouts, arms = whole.pop("slots"), whole.pop("sprouts"), whole.pop("arms")
    pairs = {leaf: array("Q", sequences) for leaf, sequences in whole.pop("pairs")}
    rehearsals = {leaf: array("Q", sequences) for leaf, sequences in whole.pop("rehearsals")}
    state = RunState(**whole, pairs=pairs, rehearsals=rehearsals)
    if rules is not None:
        prices = {model: (price[0], price[1]) for model, price in rules["prices"].items()}
        state.rules = Rules(**rules | {"sources": tuple(rules["sources"]), "prices": prices})
        state.tree = Tree.of_rows(state.rules.window, arms)
    for leaf in pairs:
        state.tree.pair_stored(leaf)
    for slot in slots:
        outcome = Outcome(**slot["outcome"]) if slot["outcome"] else None
        state.slots.append(Slot(**slot | {"path": tuple(slot["path"]), "outcome": outcome}))
    state.ready = {number: 0 for number, slot in enumerate(state.slots) if slot.waits == Waits.DECISION}
    for sprout in sprouts:
        state.sprouts[sprout["parent"]] = Sprout(**sprout | {"names": tuple(sprout["names"])})
    if training is not None:
        lists = {"samples": tuple(training["samples"]), "average_with": tuple(training["average_with"])}
        state.training = Training(**training | lists)
    return state


def state_sha256(state: RunState) -> str:
    """SHA-256 of the canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(state)).hexdigest()
