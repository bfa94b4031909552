"""The verification's own accounting of one run, event by event, written apart from `core.evolve`.

What the run was told to do is known from its settings and its recorded decisions; every event is held to that. An event
that is wrong is reported and then counted as the rules of the fold have it (the first settlement of a slot counts, what
is past moves nothing), so that one wrong event gives one problem and not a thousand.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bohdi.verify import results, trainings
from bohdi.verify.arms import NEVER, Arms
from bohdi.verify.report import Kind, Report
from bohdi.verify.spending import Spending
from bohdi.verify.trainings import Training
from bohdi_common.core import names
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import BASE_VERSION, Failure
from bohdi_common.core.tree import LEAF_LEVEL, ROOT
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.codec import SCHEMA_VERSION
from bohdi_common.events.topics import FEEDBACK
from services.generation import styles

_RECENT = 4096  # ids of the last events, by which causes are checked
_INTROSPECTIONS = (pb.INTROSPECTION_OFF, pb.INTROSPECTION_PAPER, pb.INTROSPECTION_TWO_SAMPLE)
_ANSWERED_STAGES = frozenset({"question", "gate", "answers"})  # of a harvest to which the models answered
_PRODUCERS = {
    "domains_sprouted": ("tree_expansion",),
    "sprout_failed": ("tree_expansion",),
    "harvest_judged": ("judging",),
    "harvest_failed": ("generation", "judging"),
    "rehearsal_answered": ("generation",),
    "target_promoted": ("training",),
    "training_failed": ("training",),
    **dict.fromkeys(("paths_drawn", "slot_continued", "slot_expired", "nodes_reborn", "training_drawn"), ("bandit",)),
    **dict.fromkeys(("run_paused", "run_finished"), ("bandit", "cli")),
    **dict.fromkeys(("run_started", "run_resumed"), ("cli",)),
    "target_evaluated": ("evaluation", "cli"),
}
_CAUSES = {
    "domains_sprouted": ("sprout_requested",),
    "sprout_failed": ("sprout_requested",),
    "harvest_judged": ("answers_written",),
    "harvest_failed": ("harvest_requested", "answers_written"),
    "rehearsal_answered": ("harvest_requested",),
    "target_promoted": ("training_requested",),
    "training_failed": ("training_requested",),
}


@dataclass(slots=True)
class Outcome:
    """What a slot's result says. `missed`: nobody could answer or judge."""

    at: int  # run sequence
    sample: bool = False
    reward: int | None = None  # of a counted harvest
    missed: bool = False
    unavailable: bool = False


@dataclass(slots=True)
class Slot:
    """An open slot. `ready`: first state in which it could go on after its sprout; NEVER before."""

    path: tuple[int, ...]
    leader: str
    request_hash: str
    asked: int
    attempt: int = 0
    failures: int = 0
    child: int = -1
    ready: int = NEVER
    turn: bool = False  # its result, or its sprout's, is in and takes effect with those of the others
    outcome: Outcome | None = None

    @property
    def for_result(self) -> bool:
        return len(self.path) == LEAF_LEVEL

    @property
    def waiting(self) -> bool:
        """Nothing has come for it yet."""
        return self.ready == NEVER and not self.turn


@dataclass(slots=True)
class Sprout:
    """What was asked: under which node, at which round and step, beside how many known children; and what came."""

    parent: int
    request_hash: str
    asked: int
    place: tuple[int, int]
    known: int
    want: int = 0
    waiting: list[int] = field(default_factory=list)
    answered: bool = False
    names: tuple[str, ...] = ()
    unavailable: bool = False


class Ledger:
    """One run. `take` an event, then read and clear `found`: (kind, what) of all that is wrong with it.

    Kept beside the tree, the sprouts and the open slots: 4 bytes per event (where a sample belongs), 4 per sample (the
    order in which they were stored) and 8 per request.
    """

    def __init__(self, run_id: str, report: Report, gate: Callable[[str, int], bool] | None = None) -> None:
        self.run_id = run_id
        self.found: list[tuple[Kind, str]] = []
        self.settings: pb.Settings | None = None
        self.sequence = 0
        self.round = self.step = self.steps_counted = 0
        self.rehearsed = self.introspected = self.rehearsing = False
        self.due_since = 0  # first state that called for the decision that is due
        self.arms = Arms(1, False, 0)
        self.slots: list[Slot | None] = []
        self.open = self.unavailable = 0
        self.sprouts: dict[int, Sprout] = {}
        self.training: Training | None = None
        self.versions = [BASE_VERSION]
        self.finished = self.paused = self.stalled = False
        self.pauses = self.failed_trainings = 0
        self.controls: list[str] = []  # ids of the pauses and resumes that took effect
        self.late = self.invalid = self.unknown = 0
        self.samples = array("i")  # per event: the leaf of a pair, minus the leaf of a rehearsal, 0 for no sample
        self.stored = array("I")  # run sequences of the samples, in the order in which they took effect
        self.pairs = self.rehearsals = 0
        self.max_attempt = 0
        self.asked = array("Q")  # the first 64 bits of every request hash
        self.sprouts_asked: dict[str, Sprout] = {}
        self.trainings_asked: dict[str, tuple[int, int]] = {}
        self._start_id = ""
        self._pause_due = False
        self._pause_ids: set[str] = set()  # of pauses by the bandit that would come too late
        self._slot_bound = 1
        self._report = report
        self._gate = gate
        self.resumed: list[int] = []
        self._spending = Spending()
        self._stopped: list[list[int]] = []  # states [first, last] in which nothing was to be decided
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._take = {kind: getattr(self, f"_{kind}") for kind in FEEDBACK.kinds}

    def take(self, event: pb.Event) -> None:
        """The next event of the run."""
        kind = event.WhichOneof("body") or ""
        take = self._take.get(kind)
        self.samples.append(0)
        if take is None:
            self.unknown += 1
            self._wrong(Kind.ENVELOPE, f"{kind or 'an unknown body'} is no fact of the feedback log")
        elif self.settings is None and kind != "run_started":
            self.invalid += 1
            self._wrong(Kind.RUN, f"{kind} before the run was started")
        else:
            self._envelope(event, kind)
            take(event, getattr(event, kind))
            self._spending.take(event)
        self._recent.append(event.event_id)
        self.sequence += 1

    def was_asked(self, request_hash: str) -> bool:
        """True when a recorded decision opened this request, settled or not."""
        prefix = _prefix(request_hash)
        return prefix is not None and bool((np.frombuffer(self.asked, dtype=np.uint64) == prefix).any())

    def can_go_on(self) -> str:
        """The decision that is due, by the method's order: steps, rehearsal once, rebirth, training."""
        if self.settings is None or self.finished or self.open or self.training:
            return ""
        rules = self.settings.bandit
        if self.round >= rules.rounds:
            return "run_finished"
        if self.steps_counted < rules.steps:
            return "paths_drawn"
        if self.round == 0 and rules.rehearsal_questions and not self.rehearsed:
            return "rehearsal"
        if rules.introspection != pb.INTROSPECTION_OFF and not self.introspected:
            return "nodes_reborn"
        return "training_drawn"

    def _wrong(self, kind: Kind, what: str) -> None:
        self.found.append((kind, what))

    def _late(self) -> None:
        self.late += 1
        self._report.late += 1

    # ---- envelope and ids --------------------------------------------------------------------------------------

    def _envelope(self, event: pb.Event, kind: str) -> None:
        if not 1 <= event.schema_version <= SCHEMA_VERSION:
            self._wrong(Kind.ENVELOPE, f"schema version {event.schema_version} is not known")
        if event.producer not in _PRODUCERS.get(kind, FEEDBACK.producers):
            self._wrong(Kind.ENVELOPE, f"{kind} written by {event.producer!r}")
        if (event.round, event.step) > (self.round, self.step):
            self._wrong(Kind.ENVELOPE, f"round {event.round} step {event.step} lies ahead of {self.round}, {self.step}")
        if event.slot and event.slot >= self._slot_bound:
            self._wrong(Kind.ENVELOPE, f"slot {event.slot} is out of range")
        if event.producer == "cli":
            self._by_hand(event)

    def _by_hand(self, event: pb.Event) -> None:
        """What a person asked for follows from nothing: its id can be any, but it has no cause and no place."""
        if _prefix(event.event_id) is None:
            self._wrong(Kind.ID, f"event id {event.event_id!r} is no id")
        if event.cause_id or event.round or event.step or event.slot:
            self._wrong(Kind.ENVELOPE, "asked for by a person, and yet it names a cause or a place in the run")

    def _result(self, event: pb.Event, kind: str, request_hash: str) -> None:
        """Ids of a result follow from what it answers."""
        if event.event_id != derived_id(self.run_id, kind, request_hash):
            self._wrong(Kind.ID, f"event id {event.event_id} does not follow from the request {request_hash}")
        if not any(event.cause_id == derived_id(self.run_id, cause, request_hash) for cause in _CAUSES[kind]):
            self._wrong(Kind.ENVELOPE, f"its cause {event.cause_id!r} is not what it answers")

    def _decision(self, event: pb.Event, kind: str, based_on: int, since: int, attempt: int = 0) -> None:
        """A decision was made of a state before it, one that called for it; and its id follows."""
        self._report.decisions += 1
        if not since <= based_on <= self.sequence:
            what = f"based on state {based_on}; it was due in the states {since} to {self.sequence}"
            self._wrong(Kind.DECISION, what)
        if any(first <= based_on <= last for first, last in self._stopped):
            self._wrong(Kind.DECISION, f"made in state {based_on}, while the run was paused or over")
        resumes = bisect_left(self.resumed, based_on)
        expected = derived_id(self.run_id, kind, event.round, event.step, event.slot, attempt, resumes)
        if event.event_id != expected:
            self._wrong(Kind.ID, f"event id {event.event_id} does not follow from the decision's place")
        back = self.sequence - based_on + 1
        if event.cause_id and 0 < back <= len(self._recent) and self._recent[-back] != event.cause_id:
            self._wrong(Kind.ENVELOPE, f"its cause {event.cause_id} is not the event that made state {based_on}")

    # ---- the run -----------------------------------------------------------------------------------------------

    def _run_started(self, event: pb.Event, body: pb.RunStarted) -> None:
        if self.settings is not None:
            if event.event_id != self._start_id:
                self._wrong(Kind.RUN, "the run is started a second time, by another event")
            return self._late()
        settings, bandit = body.settings, body.settings.bandit
        counts = (bandit.rounds, bandit.steps, bandit.slots, bandit.sprout_failures, bandit.slot_failures,
                  bandit.leaf_failures, bandit.sprout_names, settings.training.batch)  # fmt: skip
        bounded = (
            1 <= bandit.window <= 64
            and bandit.sharpness >= 0
            and 0 <= bandit.threshold <= 1
            and 0 < bandit.slot_timeout_s < math.inf
            and 0 <= settings.training.passes < math.inf
            and 0 <= settings.training.rehearsal_share < 1
            and 0 <= settings.training.replay_share <= 1
            and bandit.introspection in _INTROSPECTIONS
        )
        if not settings.sources or min(counts) < 1 or not bounded:
            self.invalid += 1
            return self._wrong(Kind.RUN, "settings by which no run can go")
        self._start_id = event.event_id
        self._spending.started(settings)
        self.settings = pb.Settings()
        self.settings.CopyFrom(settings)
        self.rules = results.Rules.of(settings)
        self.settings_bytes = settings.SerializeToString(deterministic=True)
        self._want, self._window, self._lockstep = bandit.sprout_names, bandit.window, bandit.lockstep
        self._slots_of = {False: (bandit.slots,), True: (0, bandit.rehearsal_questions)}
        self._slot_bound = max(bandit.slots, bandit.rehearsal_questions)
        self._misses = (bandit.sprout_failures, bandit.leaf_failures)
        self.arms = Arms(bandit.window, bandit.grow, 1)
        self.due_since = 1
        for domain in body.domains:
            self._plant(domain.path)
        return None

    def _plant(self, path: Sequence[str]) -> None:
        node = ROOT
        for name in map(names.tidy, path[:LEAF_LEVEL]):
            if names.why_refused(name):
                return self._wrong(Kind.RUN, f"{name!r} cannot name a domain: {names.why_refused(name)}")
            child = self.arms[node].children.get(names.key(name))
            node = self.arms.add(node, name, 1) if child is None else child
        return None

    def _run_paused(self, event: pb.Event, body: pb.RunPaused) -> None:
        if event.event_id in self.controls:
            return self._late()
        due_id = derived_id(self.run_id, "run_paused", self.pauses, len(self.resumed))
        by_bandit = event.producer == "bandit"
        if by_bandit and event.event_id not in (due_id, *self._pause_ids):
            self._wrong(Kind.ID, f"event id {event.event_id} is not that of a pause by the bandit")
        if self.paused or self.finished or (by_bandit and event.event_id != due_id):
            return self._late()
        could_go_on = self.arms.is_open(ROOT, self.sequence) and not self._spending.over()
        if by_bandit and not self._pause_due and could_go_on:
            self._wrong(Kind.RUN, "paused by the bandit, though the run could go on")
        self._pause_due = False
        self._pause_ids.add(due_id)
        self.controls.append(event.event_id)
        self.paused = True
        self.pauses += 1
        self._stop()
        return None

    def _run_resumed(self, event: pb.Event, body: pb.RunResumed) -> None:
        if self.finished or event.event_id in self.controls:
            return self._late()
        self._pause_ids.add(derived_id(self.run_id, "run_paused", self.pauses, len(self.resumed)))
        self.controls.append(event.event_id)
        if self.paused or self.stalled:
            self._stopped[-1][1] = self.sequence
        self.paused = self.stalled = False
        self.failed_trainings = 0
        self.resumed.append(self.sequence)
        self._spending.allow(body.budget)
        return None

    def _stop(self) -> None:
        """From the next state on nothing is to be decided."""
        if not self._stopped or self._stopped[-1][1] != NEVER:
            self._stopped.append([self.sequence + 1, NEVER])

    def _run_finished(self, event: pb.Event, body: pb.RunFinished) -> None:
        if self.finished:
            return self._late()
        if event.producer != "cli":
            self._decision(event, "run_finished", body.based_on, self.due_since)
            if self.can_go_on() != "run_finished":
                self._wrong(Kind.RUN, f"finished in round {self.round}, before all rounds were done")
            if body.target_version != (last := self.versions[-1]):
                self._wrong(Kind.RUN, f"finished with version {body.target_version!r}; the last is {last!r}")
        elif body.based_on or body.target_version:
            self._wrong(Kind.RUN, "cancelled by a person, and yet it names a state or a version as a decision does")
        self.finished = True
        self._stop()
        return None

    def _target_evaluated(self, event: pb.Event, body: pb.TargetEvaluated) -> None:
        assert self.settings is not None
        is_target = body.model == self.settings.target.name
        if not is_target and body.model not in self.rules.sources:
            self._wrong(Kind.ENVELOPE, f"{body.model!r} is no model of the run")
        if is_target and body.version not in self.versions:
            self._wrong(Kind.VERSION, f"version {body.version!r} was evaluated before it was promoted")
        about: list[str | int] = [body.model, body.version, body.benchmark]
        about += [body.tasks_digest, body.limit] if body.harness else []
        if event.event_id != derived_id(self.run_id, "target_evaluated", *about):
            self._wrong(Kind.ID, f"event id {event.event_id} does not follow from what was evaluated")
        if wrong := results.evaluated(body, event.producer):
            self._wrong(Kind.ENVELOPE, wrong)

    # ---- draws -------------------------------------------------------------------------------------------------

    def _paths_drawn(self, event: pb.Event, body: pb.PathsDrawn) -> None:
        due = "rehearsal" if body.rehearsal else "paths_drawn"
        if self.can_go_on() != due or (event.round, event.step) != (self.round, self.step):
            self._decision(event, "paths_drawn", body.based_on, 0)
            return self._late()
        self._decision(event, "paths_drawn", body.based_on, self.due_since)
        if len(body.slots) not in self._slots_of[body.rehearsal]:
            self._wrong(Kind.DRAW, f"{len(body.slots)} slots drawn")
        drawn = list(body.slots)
        if [slot.slot for slot in drawn] != list(range(len(drawn))):
            self.invalid += 1
            return self._wrong(Kind.DRAW, "the slots are not numbered 0, 1, 2, ...")
        slots = [self._drawn(slot, body.based_on, 0, body.rehearsal) for slot in drawn]
        if any(slot is None for slot in slots):
            self.invalid += 1
            return None
        self.slots = list(slots)
        self.open, self.unavailable, self.rehearsing = len(slots), 0, body.rehearsal
        for number in range(len(slots)):
            self._opened(number)
        self._wants()
        if not slots:
            self._step_over()
        return None

    def _drawn(self, drawn: pb.DrawnSlot, based_on: int, attempt: int, rehearsal: bool) -> Slot | None:
        """The slot that a draw opens, its arms held to the tree as it was in the state `based_on`."""
        self._report.draws += 1
        path = tuple(drawn.path)
        place = f"slot {drawn.slot}: "
        if not self.arms.is_path(path):
            self._wrong(Kind.DRAW, f"{place}{list(path)} is no path of the tree")
            return None
        end = path[-1] if len(path) == LEAF_LEVEL else self.arms[path[-1] if path else ROOT].unk
        arm = self.arms[end]
        if arm.born > based_on:
            self._wrong(Kind.DRAW, f"{place}arm {end} was born in state {arm.born}, the draw is of {based_on}")
        if arm.closed <= based_on:
            self._wrong(Kind.DRAW, f"{place}arm {end} was closed in state {arm.closed}, the draw is of {based_on}")
        if drawn.leader not in self.rules.sources:
            self._wrong(Kind.DRAW, f"{place}the leader {drawn.leader!r} is no source")
            return None
        expected = ""
        if len(path) == LEAF_LEVEL:
            kind, where = "rehearsal" if rehearsal else "harvest", (self.round, self.step, drawn.slot, attempt)
            expected = derived_id(self.run_id, kind, *where, *path, drawn.leader, self.versions[-1])
        elif rehearsal:
            self._wrong(Kind.DRAW, f"{place}a rehearsal on an unk arm")
        if drawn.request_hash != expected:
            self._wrong(Kind.HASH, f"{place}request hash {drawn.request_hash!r} does not follow from what is asked")
        return Slot(path, drawn.leader, drawn.request_hash, self.sequence, attempt)

    def _opened(self, number: int) -> None:
        """Notes what an opened slot asks: its harvest, or a sprout, which it may share with others."""
        slot = self.slots[number]
        assert slot is not None
        if slot.for_result:
            return self._asked(slot.request_hash)
        parent = slot.path[-1] if slot.path else ROOT
        if parent not in self.sprouts:
            request_hash = derived_id(self.run_id, "sprout", parent, self.sequence)
            place, known = (self.round, self.step), len(self.arms[parent].children)
            self.sprouts[parent] = Sprout(parent, request_hash, self.sequence, place, known)
            self.sprouts_asked[request_hash] = self.sprouts[parent]
            self._asked(request_hash)
        self.sprouts[parent].waiting.append(number)
        return None

    def _wants(self) -> None:
        """A request of this event asks for a name per slot that waits, and per slot that will: one that is about to go
        on from the very node, a new one, finds nothing but its `unk` arm there."""
        for sprout in self.sprouts.values():
            if sprout.asked == self.sequence:
                coming = [slot for slot in self.slots if slot and slot.ready != NEVER and slot.child == sprout.parent]
                sprout.want = min(len(sprout.waiting) + len(coming), self._want)

    def _asked(self, request_hash: str) -> None:
        prefix = _prefix(request_hash)
        if prefix is not None:
            self.asked.append(prefix)

    def _slot_continued(self, event: pb.Event, body: pb.SlotContinued) -> None:
        drawn = body.drawn
        slot = self._slot_of(event, drawn.slot)
        if slot is None or slot.ready == NEVER or slot.attempt != body.attempt:
            self._decision(event, "slot_continued", body.based_on, 0, body.attempt)
            return self._late()
        self._decision(event, "slot_continued", body.based_on, slot.ready, body.attempt)
        if event.slot != drawn.slot:
            self._wrong(Kind.ENVELOPE, f"slot {event.slot} goes on as slot {drawn.slot}")
        self._held_to_lockstep(body.based_on)
        if body.given_up:
            self._given_up(slot, drawn, body.based_on)
            return self._settle(drawn.slot)
        if drawn.leader != slot.leader:
            self._wrong(Kind.DRAW, f"slot {drawn.slot}: goes on under {drawn.leader!r}, its leader is {slot.leader!r}")
        if slot.failures >= self._slot_failures():
            self._wrong(Kind.DRAW, f"slot {drawn.slot}: goes on after {slot.failures} failed sprouts")
        start = self._start(slot, body.based_on)
        if start is not None and list(drawn.path[: len(self.arms.path(start))]) != self.arms.path(start):
            self._wrong(Kind.DRAW, f"slot {drawn.slot}: goes on beside node {start}, the nearest that is open")
        fresh = self._drawn(drawn, body.based_on, slot.attempt + 1, rehearsal=False)
        if fresh is None:
            self.invalid += 1
            return None
        fresh.failures = slot.failures
        self.max_attempt = max(self.max_attempt, fresh.attempt)
        self.slots[drawn.slot] = fresh
        self._opened(drawn.slot)
        return self._wants()

    def _start(self, slot: Slot, based_on: int) -> int | None:
        """From where a slot goes on: its new domain, or the nearest node above it that was open; None if none was."""
        nodes = (ROOT, *slot.path, slot.child) if slot.child >= 0 else (ROOT, *slot.path)
        return next((node for node in reversed(nodes) if self.arms.is_open(node, based_on)), None)

    def _given_up(self, slot: Slot, drawn: pb.DrawnSlot, based_on: int) -> None:
        if drawn.path or drawn.leader or drawn.request_hash:
            self._wrong(Kind.DRAW, f"slot {drawn.slot}: given up, and yet drawn")
        if slot.failures < self._slot_failures() and self._start(slot, based_on) is not None:
            self._wrong(Kind.DRAW, f"slot {drawn.slot}: given up after {slot.failures} failed sprouts, with arms open")

    def _slot_failures(self) -> int:
        assert self.settings is not None
        return self.settings.bandit.slot_failures

    def _held_to_lockstep(self, based_on: int) -> None:
        if not self._lockstep:
            return
        if any(slot and slot.asked < based_on < slot.ready for slot in self.slots):
            self._wrong(Kind.DECISION, f"a slot goes on in lockstep while others waited in state {based_on}")

    def _slot_expired(self, event: pb.Event, body: pb.SlotExpired) -> None:
        slot = self._slot_of(event, event.slot)
        self._report.decisions += slot is None
        parent = slot.path[-1] if slot is not None and slot.path else ROOT
        if slot is None or not slot.waiting or self._waits_for(slot, parent) != body.request_hash:
            if not self.was_asked(body.request_hash):
                self._wrong(Kind.SETTLEMENT, f"request {body.request_hash!r} expired, which no decision opened")
            return self._late()
        self._decision(event, "slot_expired", body.based_on, slot.asked + 1, slot.attempt)
        if not slot.for_result:
            self.sprouts[parent].waiting.remove(event.slot)
            if not self.sprouts[parent].waiting:
                del self.sprouts[parent]
        self._settle(event.slot, unavailable=True)
        return self._take_turns()

    def _waits_for(self, slot: Slot, parent: int) -> str:
        return slot.request_hash if slot.for_result else self.sprouts[parent].request_hash

    def _slot_of(self, event: pb.Event, number: int) -> Slot | None:
        here = (event.round, event.step) == (self.round, self.step)
        return self.slots[number] if here and number < len(self.slots) else None

    def _settle(self, number: int, unavailable: bool = False) -> None:
        self._report.settlements += 1
        self.slots[number] = None
        self.open -= 1
        self.unavailable += unavailable
        if not self.open:
            self._step_over()

    def _step_over(self) -> None:
        """A step in which every slot was unavailable is done again, and so is such a rehearsal."""
        something_came = not self.slots or self.unavailable < len(self.slots)
        if not something_came:
            self._stall()
        if self.rehearsing:
            self.rehearsed = self.rehearsed or something_came
        else:
            self.steps_counted += something_came
        self.slots, self.sprouts, self.rehearsing = [], {}, False
        self.step += 1
        self.due_since = self.sequence + 1

    def _stall(self) -> None:
        """The run cannot go on by itself: the bandit is to pause it."""
        self.stalled = self._pause_due = True
        self._stop()

    def _arrived(self, number: int, outcome: Outcome) -> None:
        """The result of a slot is in. It takes effect at once, or, in lockstep, when those of all slots are in."""
        slot = self.slots[number]
        assert slot is not None
        slot.outcome, slot.turn = outcome, True
        if self._lockstep:
            self._take_turns()
        else:
            self._take_effect(number)

    def _take_turns(self) -> None:
        """What is in takes effect in the order of the slots, and after them sprouts in the order of their asking."""
        if any(slot and slot.waiting for slot in self.slots):
            return
        for number, slot in enumerate(self.slots):
            if slot and slot.outcome:
                self._take_effect(number)
        for parent in list(self.sprouts):
            self._grow_from(parent)

    def _take_effect(self, number: int) -> None:
        slot = self.slots[number]
        assert slot is not None and slot.outcome is not None
        outcome, leaf = slot.outcome, slot.path[-1]
        if outcome.sample:
            self.stored.append(outcome.at)
        if outcome.reward is not None:
            self.arms.reward(leaf, outcome.reward)
            self.arms[leaf].misses = 0
            self.pairs += 1
            self._report.harvests += 1
        elif outcome.sample:
            self.rehearsals += 1
        if outcome.missed and not self.rehearsing:
            self.arms.missed(leaf, self._misses[1], self.sequence + 1)
        self._settle(number, outcome.unavailable)

    # ---- sprouts -----------------------------------------------------------------------------------------------

    def _sprout(self, event: pb.Event, kind: str, body: Any) -> Sprout | None:
        """The open sprout that a result answers."""
        self._result(event, kind, body.request_hash)
        sprout = self.sprouts.get(body.parent)
        if sprout is None or sprout.answered or sprout.request_hash != body.request_hash:
            if body.request_hash not in self.sprouts_asked:
                self._wrong(Kind.SETTLEMENT, f"answers the sprout {body.request_hash!r}, which no decision asked for")
            elif self.sprouts_asked[body.request_hash].parent != body.parent:
                self._wrong(Kind.SETTLEMENT, f"answers the sprout {body.request_hash!r}, of another node")
            self._late()
            return None
        self._in_place(event)
        return sprout

    def _in_place(self, event: pb.Event) -> None:
        if (event.round, event.step) != (self.round, self.step):
            self._wrong(Kind.ENVELOPE, f"round {event.round} step {event.step}; asked in {self.round}, {self.step}")

    def _known(self, parent: int) -> set[str]:
        above = {names.key(name) for name in self.arms.path_names(parent)}
        return above | self.arms[parent].children.keys()

    def _domains_sprouted(self, event: pb.Event, body: pb.DomainsSprouted) -> None:
        sprout = self._sprout(event, "domains_sprouted", body)
        if sprout is None:
            return
        known = self._known(body.parent)
        for what in results.sprouted(body, known, sprout.want, self.rules):
            self._wrong(Kind.SPROUT, what)
        sprout.names = tuple(given.name for given in body.names)
        self._sprouted(sprout)

    def _sprout_failed(self, event: pb.Event, body: pb.SproutFailed) -> None:
        sprout = self._sprout(event, "sprout_failed", body)
        if sprout is None:
            return
        self._failure(body.failure)
        for what in results.failed(body, self._known(body.parent), self.rules):
            self._wrong(Kind.SPROUT, what)
        sprout.unavailable = self._away(body.failure)
        self._sprouted(sprout)

    def _sprouted(self, sprout: Sprout) -> None:
        """The result of a sprout is in: as with slots, it may have to wait for its turn."""
        sprout.answered = True
        if not self._lockstep:
            return self._grow_from(sprout.parent)
        for slot in map(self.slots.__getitem__, sprout.waiting):
            assert slot is not None
            slot.turn = True
        return self._take_turns()

    def _grow_from(self, parent: int) -> None:
        """A sprout's result takes effect."""
        sprout = self.sprouts.pop(parent)
        if sprout.unavailable:
            for number in sprout.waiting:
                self._settle(number, unavailable=True)
            return
        known, added = self._known(parent), list[int]()
        for name in map(names.tidy, sprout.names):
            if len(added) < sprout.want and names.key(name) not in known and not names.why_refused(name):
                added.append(self.arms.add(parent, name, self.sequence + 1))
                known.add(names.key(name))
        unk = self.arms[self.arms[parent].unk]
        if added:
            unk.wins += len(added)
            unk.misses = 0
            self._ready(sprout, added)
        else:
            self._rejected(sprout)

    def _rejected(self, sprout: Sprout) -> None:
        unk = self.arms[sprout.parent].unk
        self.arms[unk].losses += 1
        self.arms.missed(unk, self._misses[0], self.sequence + 1)
        for number in sprout.waiting:
            slot = self.slots[number]
            assert slot is not None
            slot.failures += 1
        self._ready(sprout, [-1])

    def _ready(self, sprout: Sprout, children: list[int]) -> None:
        """The waiting slots can go on, each from one of the new children in turn."""
        for turn, number in enumerate(sprout.waiting):
            slot = self.slots[number]
            assert slot is not None
            slot.ready, slot.turn, slot.child = self.sequence + 1, False, children[turn % len(children)]

    def _failure(self, failure: int) -> None:
        if failure not in set(Failure):
            self._wrong(Kind.SETTLEMENT, f"failure class {failure} is not known")

    def _away(self, failure: int) -> bool:
        """Nobody answered; where a person must mend that, the bandit is to pause the run at once."""
        if failure == Failure.BLOCKED:
            self._stall()
        return failure in (Failure.UNAVAILABLE, Failure.BLOCKED)

    # ---- harvests ----------------------------------------------------------------------------------------------

    def _answered(self, event: pb.Event, kind: str, body: Any) -> Slot | None:
        """The open slot that a result settles."""
        request_hash = body.request_hash
        self._result(event, kind, request_hash)
        slot = self._slot_of(event, event.slot)
        if slot is None or not slot.waiting or not slot.for_result or slot.request_hash != request_hash:
            if not self.was_asked(request_hash):
                self._wrong(Kind.SETTLEMENT, f"answers the request {request_hash!r}, which no decision opened")
            elif any(slot and slot.waiting and slot.request_hash == request_hash for slot in self.slots):
                self._wrong(Kind.ENVELOPE, "names another round, step or slot than that of the request it answers")
            return None
        return slot

    def _asked_and_said(self, event: pb.Event, body: Any, slot: Slot) -> None:
        """What a result repeats of its request is as the decision had it; its question stands in no benchmark."""
        path = self.arms.path_names(slot.path[-1])
        if list(body.path) != path or body.leader != slot.leader:
            what = f"{list(body.path)} led by {body.leader!r}; asked was {path} led by {slot.leader!r}"
            self._wrong(Kind.SETTLEMENT, what)
        if body.prompts != self.rules.prompts:
            self._wrong(Kind.SETTLEMENT, f"prompts {body.prompts!r}, the run's are {self.rules.prompts!r}")
        offered, seed = self.rules.harvest.question_styles, self.rules.seed
        style = styles.drawn(offered, seed, event.round, event.step, event.slot, path)
        if body.question_style != style:
            self._wrong(Kind.SETTLEMENT, f"question style {body.question_style!r}; drawn was {style!r}")
        if self._gate is not None:
            self._report.questions_gated += 1
            if self._gate(body.question, self.rules.harvest.decontamination_words):
                self._wrong(Kind.GATE, "its question stands in a benchmark")

    def _gated(self, refused: Sequence[pb.Refusal], answers: Sequence[pb.Answer] = ()) -> None:
        for what in results.gated(refused, answers, self.rules):
            self._wrong(Kind.GATE, what)

    def _harvest_judged(self, event: pb.Event, body: pb.HarvestJudged) -> None:
        slot = self._answered(event, "harvest_judged", body)
        if wrong := results.judged(body, self.rules):
            self._wrong(Kind.VERDICT, wrong)
        if body.target_version not in self.versions:
            self._wrong(Kind.VERSION, f"target version {body.target_version!r} was not promoted before")
        if slot is None or self.rehearsing:
            if slot is not None:
                self._wrong(Kind.SETTLEMENT, "a verdict on a rehearsal")
            return self._late()
        self._asked_and_said(event, body, slot)
        self._gated(body.refused, body.answers)
        if body.target_version != self.versions[-1]:
            what = f"version {body.target_version!r} answered, the target is {self.versions[-1]!r}"
            self._wrong(Kind.VERSION, what)
        self._spending.settled()
        if not body.counted:
            return self._arrived(event.slot, Outcome(self.sequence, missed=True))
        self.samples[-1] = slot.path[-1]
        return self._arrived(event.slot, Outcome(self.sequence, sample=True, reward=1 if body.reward else 0))

    def _harvest_failed(self, event: pb.Event, body: pb.HarvestFailed) -> None:
        slot = self._answered(event, "harvest_failed", body)
        if slot is None:
            return self._late()
        self._failure(body.failure)
        self._gated(body.refused)
        if body.stage in _ANSWERED_STAGES and body.failure != Failure.REJECTED:
            self._wrong(Kind.SETTLEMENT, f"failed at the {body.stage}, which is no matter of a model being away")
        unavailable = self._away(body.failure)
        return self._arrived(event.slot, Outcome(self.sequence, missed=not unavailable, unavailable=unavailable))

    def _rehearsal_answered(self, event: pb.Event, body: pb.RehearsalAnswered) -> None:
        slot = self._answered(event, "rehearsal_answered", body)
        if slot is None or not self.rehearsing:
            if slot is not None:
                self._wrong(Kind.SETTLEMENT, "a rehearsal's answer to a harvest")
            return self._late()
        self._asked_and_said(event, body, slot)
        self._gated((), [body.answer])
        said = body.answer
        if (said.model, said.version) != (self.rules.target, self.versions[-1]) or said.failed or not said.text:
            self._wrong(Kind.SETTLEMENT, f"rehearsed by {said.model!r} {said.version!r}: {said.failed or 'answered'}")
        self.samples[-1] = -slot.path[-1]
        return self._arrived(event.slot, Outcome(self.sequence, sample=True))

    # ---- rebirth and training ----------------------------------------------------------------------------------

    def _nodes_reborn(self, event: pb.Event, body: pb.NodesReborn) -> None:
        if self.can_go_on() != "nodes_reborn" or event.round != self.round:
            self._decision(event, "nodes_reborn", body.based_on, 0)
            return self._late()
        self._decision(event, "nodes_reborn", body.based_on, self.due_since)
        self._in_place(event)
        wrong = [what for rebirth in body.rebirths for what in self._rebirth(rebirth)]
        for what in wrong:
            self._wrong(Kind.REBIRTH, what)
        self._sweep(body)
        if wrong:
            self.invalid += 1
            return None
        for rebirth in body.rebirths:
            arm = self.arms[rebirth.node]
            arm.kept_wins, arm.kept, arm.wins, arm.losses = rebirth.window_sum, self._window, 0, 0
            arm.rebirths += 1
        self.introspected = True
        self.due_since = self.sequence + 1
        return None

    def _rebirth(self, rebirth: pb.Rebirth) -> Iterator[str]:
        if not ROOT < rebirth.node < len(self.arms) or self.arms[rebirth.node].is_unk:
            yield f"{rebirth.node} is no node that can be reborn"
            return
        arm = self.arms[rebirth.node]
        window = (arm.window.bit_count(), self._window)
        if arm.seen < self._window or (rebirth.window_sum, rebirth.window_length) != window:
            given = f"{rebirth.window_sum} of {rebirth.window_length}"
            yield f"node {rebirth.node}: {given} in its window; the log has {window[0]} of {min(arm.seen, window[1])}"

    def _sweep(self, body: pb.NodesReborn) -> None:
        """What the sweep says of itself: how many nodes could be tested, and that those reborn passed."""
        assert self.settings is not None
        rules = self.settings.bandit
        needed = self._window * (1 if rules.introspection == pb.INTROSPECTION_PAPER else 2)
        tested = sum(not arm.is_unk and arm.level > 0 and arm.seen >= needed for arm in self.arms.all)
        reborn = {rebirth.node for rebirth in body.rebirths}
        if body.tested != tested or len(reborn) != len(body.rebirths):
            self._wrong(Kind.REBIRTH, f"{body.tested} nodes tested; {tested} could be, of each at most one rebirth")
        for rebirth in body.rebirths:
            if not (0 <= rebirth.p_value <= rules.threshold and rebirth.statistic >= 0):
                self._wrong(
                    Kind.REBIRTH, f"node {rebirth.node} reborn at p {rebirth.p_value:g}, the test asks for less"
                )

    def _training_drawn(self, event: pb.Event, body: pb.TrainingDrawn) -> None:
        if self.can_go_on() != "training_drawn" or event.round != self.round:
            self._decision(event, "training_drawn", body.based_on, 0)
            return self._late()
        self._decision(event, "training_drawn", body.based_on, self.due_since)
        self._in_place(event)
        samples = list(body.samples)
        for what in self._drawn_for_training(body, samples):
            self._wrong(Kind.TRAINING, what)
        parts: tuple[str | int, ...] = (body.version, body.base_version, *body.average_with, *samples)
        if body.request_hash != derived_id(self.run_id, "training", *parts):
            self._wrong(Kind.HASH, f"request hash {body.request_hash!r} does not follow from what is asked")
        if any(sample >= self.sequence for sample in samples) or body.version in self.versions:
            self.invalid += 1
            return None
        if not samples:
            return self._round_over()
        self._report.samples += len(samples)
        self.trainings_asked[body.request_hash] = (self.round, self.step)
        assert self.settings is not None
        split = trainings.split(self.run_id, samples, self.settings.training.held_back_share)
        self.training = Training(body.request_hash, body.version, *split, (self.round, self.step))
        return None

    def _drawn_for_training(self, body: pb.TrainingDrawn, samples: list[int]) -> Iterator[str]:
        assert self.settings is not None
        rules = self.settings.training
        known = [sample for sample in samples if sample < min(body.based_on, self.sequence)]
        rehearsed = sum(self.samples[sample] < 0 for sample in known)
        strange = {sample for sample in known if not self.samples[sample]} | (set(samples) - set(known))
        if strange:
            yield f"run sequences {sorted(strange)[:5]} are no samples before state {body.based_on}"
        elif body.from_rehearsal != rehearsed or body.from_replay + rehearsed > len(samples):
            shares = f"{body.from_rehearsal} from rehearsal and {body.from_replay} from replay"
            yield f"{shares} of {len(samples)}, of which {rehearsed} are rehearsals"
        if len(samples) != self._samples_due():
            yield f"{len(samples)} samples drawn of {self.pairs} pairs in store; due are {self._samples_due()}"
        base = BASE_VERSION if rules.restart else self.versions[-1]
        if body.base_version != base or body.version in self.versions:
            yield f"{body.version!r} from {body.base_version!r}; the base is {base!r}, promoted are {self.versions}"
        last = self.round + 1 >= self.settings.bandit.rounds
        others = self.versions[max(1, len(self.versions) - rules.average_last + 1) :] if last else []
        if list(body.average_with) != others:
            yield f"to be averaged with {list(body.average_with)}; by the settings with {others}"

    def _samples_due(self) -> int:
        """How many samples a training sees: as many as the settings say, or `passes` over the pairs with their share
        of rehearsal on top, in whole batches; none without a pair."""
        assert self.settings is not None
        rules = self.settings.training
        if not self.pairs:
            return 0
        if not rules.passes:
            growth = 2 * (self.round + 1) / (self.settings.bandit.rounds + 1) if rules.ramp else 1
            return min(round(rules.examples * growth), rules.max_examples)
        share = rules.rehearsal_share if self.rehearsals else 0.0
        return min(math.ceil(rules.passes * self.pairs / (1 - share) / rules.batch) * rules.batch, rules.max_examples)

    def _trained(self, event: pb.Event, kind: str, body: Any) -> Training | None:
        """The open training that a result answers."""
        self._result(event, kind, body.request_hash)
        training = self.training
        if training is None or training.request_hash != body.request_hash:
            if body.request_hash not in self.trainings_asked:
                self._wrong(Kind.SETTLEMENT, f"answers the training {body.request_hash!r}, which no decision opened")
            self._late()
            return None
        if (event.round, event.step, event.slot) != (*training.place, 0):
            self._wrong(Kind.ENVELOPE, "names another round, step or slot than that of the training it answers")
        if body.version != training.version:
            self._wrong(Kind.TRAINING, f"version {body.version!r}, asked was {training.version!r}")
        return training

    def _target_promoted(self, event: pb.Event, body: pb.TargetPromoted) -> None:
        training = self._trained(event, "target_promoted", body)
        if training is None:
            return
        assert self.settings is not None
        for what in trainings.promoted(self.settings.training, training, body):
            self._wrong(Kind.TRAINING, what)
        self.versions.append(training.version)
        self.failed_trainings = 0
        self._round_over()

    def _training_failed(self, event: pb.Event, body: pb.TrainingFailed) -> None:
        training = self._trained(event, "training_failed", body)
        if training is None:
            return
        assert self.settings is not None
        for what in trainings.failed(self.settings.training, training, body):
            self._wrong(Kind.TRAINING, what)
        self._failure(body.failure)
        if body.failure == Failure.BLOCKED:  # drawn anew in the same round
            self._stall()
            self.training = None
            self.due_since = self.sequence + 1
            return
        self.failed_trainings += 1
        if body.failure == Failure.UNAVAILABLE or self.failed_trainings >= self.settings.bandit.training_failures:
            self._stall()
        self._round_over()

    def _round_over(self) -> None:
        self.training = None
        self.round += 1
        self.step = self.steps_counted = 0
        self.introspected = False
        self.due_since = self.sequence + 1


def _prefix(request_hash: str) -> int | None:
    """The first 64 bits of a request hash; None for what is none."""
    try:
        return int(request_hash[:16], 16) if len(request_hash) == 32 else None
    except ValueError:
        return None
