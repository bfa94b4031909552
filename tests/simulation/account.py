"""What a run's log must have led to, added up by an accountant that shares no code with the fold.

It follows the slots alone: which were opened, what each waited for, and which result was the first to answer it. It
knows no tree: the nodes that a harvest counts for are those of the path that was drawn. Log records in, plain sums out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.core.ids import derived_id
from bohdi_common.events.events_pb2 import FAILURE_CLASS_BLOCKED, FAILURE_CLASS_UNAVAILABLE, Event

RESULT, SPROUT, DECISION, TURN, SETTLED = "result", "sprout", "decision", "turn", "settled"
_AWAY = (FAILURE_CLASS_UNAVAILABLE, FAILURE_CLASS_BLOCKED)
_LEAF_LEVEL = 3
_ROOT = 0


@dataclass
class Slot:
    path: tuple[int, ...]
    request_hash: str
    attempt: int
    waits: str
    outcome: Callable[[], None] | None = None


@dataclass
class Sprout:
    request_hash: str
    waiting: list[int]
    answered: str = ""  # "new": a name at least may have come; "none"; "away"


@dataclass
class Training:
    request_hash: str
    version: str


@dataclass
class Account:
    """Of one run. `asked`: the moment at which the decision that opened a request stood in the log, by request hash.
    `wins`, `losses`: rewards 1 and 0 by node. `counts`: what slots came to. `wrong`: what cannot be."""

    run_id: str
    asked: dict[str, int] = field(default_factory=dict)
    wins: Counter[int] = field(default_factory=Counter)
    losses: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    versions: list[str] = field(default_factory=lambda: ["base"])
    pairs: list[int] = field(default_factory=list)
    sequence: int = 0
    finished: bool = False
    cancelled: bool = False
    wrong: list[str] = field(default_factory=list)
    opened: int = 0
    settled: int = 0
    slots: list[Slot] = field(default_factory=list)
    sprouts: dict[int, Sprout] = field(default_factory=dict)
    training: Training | None = None
    _place: tuple[int, int] = (0, 0)
    _places: set[tuple[int, int]] = field(default_factory=set)
    _trainings: set[int] = field(default_factory=set)
    _reborn: set[int] = field(default_factory=set)
    _lockstep: bool = False
    _paused: bool = False
    _pauses: int = 0
    _resumes: int = 0
    _controls: set[str] = field(default_factory=set)
    _started: bool = False
    _moment: int = 0

    def take(self, moment: int, event: Event) -> None:
        """The next event of the run, and when it became durable."""
        self._moment = moment
        kind = event.WhichOneof("body") or ""
        if self._started or kind == "run_started":
            getattr(self, f"_{kind}", self._of_no_account)(event, getattr(event, kind))
        self.sequence += 1

    def _of_no_account(self, event: Event, body: Any) -> None: ...

    def _run_started(self, event: Event, body: Any) -> None:
        if self._started:
            return self._late()
        self._started = True
        self._lockstep = body.settings.bandit.lockstep
        return None

    def _run_paused(self, event: Event, body: Any) -> None:
        pause_id = derived_id(self.run_id, "run_paused", self._pauses, self._resumes)
        stale = event.producer == "bandit" and event.event_id != pause_id
        if self._paused or self.finished or event.event_id in self._controls or stale:
            return self._late()
        self._controls.add(event.event_id)
        self._paused = True
        self._pauses += 1
        return None

    def _run_resumed(self, event: Event, body: Any) -> None:
        if self.finished or event.event_id in self._controls:
            return self._late()
        self._controls.add(event.event_id)
        self._paused = False
        self._resumes += 1
        return None

    def _run_finished(self, event: Event, body: Any) -> None:
        if self.finished:
            return self._late()
        self.finished = True
        self.cancelled = event.producer == "cli"
        return None

    # ---- what was drawn ----------------------------------------------------------------------------------------

    def _paths_drawn(self, event: Event, body: Any) -> None:
        place = (event.round, event.step)
        if self.finished or place in self._places:
            return self._late()
        if self._open():
            self.wrong.append(f"{place} is drawn while slots of {self._place} are open")
        self._place = place
        self._places.add(place)
        self.slots = []
        self.sprouts = {}
        for drawn in body.slots:
            self.slots.append(self._slot(drawn, 0))
            self.opened += 1
        for number in range(len(self.slots)):
            self._asks(number)
        return None

    def _slot_continued(self, event: Event, body: Any) -> None:
        slot = self._slot_at(event)
        if slot is None or slot.waits != DECISION or slot.attempt != body.attempt:
            return self._late()
        if body.given_up:
            self.counts["given_up"] += 1
            return self._settle(slot)
        self.slots[event.slot] = self._slot(body.drawn, slot.attempt + 1)
        return self._asks(event.slot)

    def _slot_expired(self, event: Event, body: Any) -> None:
        slot = self._slot_at(event)
        if slot is None or slot.waits not in (RESULT, SPROUT):
            return self._late()
        parent = slot.path[-1] if slot.path else _ROOT
        if body.request_hash != (slot.request_hash or self.sprouts[parent].request_hash):
            return self._late()
        if slot.waits == SPROUT:
            self.sprouts[parent].waiting.remove(event.slot)
            if not self.sprouts[parent].waiting:
                del self.sprouts[parent]
        self.counts["expired"] += 1
        self._settle(slot)
        return self._turns()

    def _slot(self, drawn: Any, attempt: int) -> Slot:
        path = tuple(drawn.path)
        return Slot(path, drawn.request_hash, attempt, RESULT if len(path) == _LEAF_LEVEL else SPROUT)

    def _asks(self, number: int) -> None:
        slot = self.slots[number]
        if slot.waits == RESULT:
            self.asked.setdefault(slot.request_hash, self._moment)
            return
        parent = slot.path[-1] if slot.path else _ROOT
        if parent not in self.sprouts:
            request_hash = derived_id(self.run_id, "sprout", parent, self.sequence)
            self.sprouts[parent] = Sprout(request_hash, [])
            self.asked[request_hash] = self._moment
        self.sprouts[parent].waiting.append(number)

    # ---- what came ---------------------------------------------------------------------------------------------

    def _harvest_judged(self, event: Event, body: Any) -> None:
        slot = self._answered(event, body)
        if slot is not None:
            path, sequence = slot.path, self.sequence

            def counts() -> None:
                self.counts["harvests" if body.counted else "no_verdict"] += 1
                if body.counted:
                    self.pairs.append(sequence)
                    (self.wins if body.reward else self.losses).update(path)

            self._comes_to(slot, counts)

    def _harvest_failed(self, event: Event, body: Any) -> None:
        slot = self._answered(event, body)
        if slot is not None:
            away = body.failure in _AWAY
            self._comes_to(slot, lambda: self.counts.update(["unavailable" if away else "rejected"]))

    def _rehearsal_answered(self, event: Event, body: Any) -> None:
        slot = self._answered(event, body)
        if slot is not None:
            self._comes_to(slot, lambda: self.counts.update(["rehearsals"]))

    def _domains_sprouted(self, event: Event, body: Any) -> None:
        self._sprout_answered(body, "new")

    def _sprout_failed(self, event: Event, body: Any) -> None:
        self._sprout_answered(body, "away" if body.failure in _AWAY else "none")

    def _sprout_answered(self, body: Any, answer: str) -> None:
        sprout = self.sprouts.get(body.parent)
        if sprout is None or sprout.answered or sprout.request_hash != body.request_hash:
            return self._late()
        sprout.answered = answer
        for number in sprout.waiting:
            self.slots[number].waits = TURN
        return self._turns() if self._lockstep else self._sprout_settled(body.parent)

    def _sprout_settled(self, parent: int) -> None:
        sprout = self.sprouts.pop(parent)
        for number in sprout.waiting:
            self.slots[number].waits = DECISION
        if sprout.answered == "away":
            self.counts["unavailable"] += 1
            for number in sprout.waiting:
                self._settle(self.slots[number])

    def _answered(self, event: Event, body: Any) -> Slot | None:
        slot = self._slot_at(event)
        if slot is None or slot.waits != RESULT or slot.request_hash != body.request_hash:
            self._late()
            return None
        return slot

    def _comes_to(self, slot: Slot, outcome: Callable[[], None]) -> None:
        slot.waits, slot.outcome = TURN, outcome
        if self._lockstep:
            self._turns()
        else:
            outcome()
            self._settle(slot)

    def _turns(self) -> None:
        """In lockstep what came counts once nothing more is to come."""
        if not self._lockstep or any(slot.waits in (RESULT, SPROUT) for slot in self.slots):
            return
        for slot in self.slots:
            if slot.waits == TURN and slot.outcome is not None:
                slot.outcome()
                self._settle(slot)
        for parent in list(self.sprouts):
            self._sprout_settled(parent)

    def _settle(self, slot: Slot) -> None:
        if slot.waits == SETTLED:
            self.wrong.append(f"a slot of {self._place} is settled twice")
        slot.waits = SETTLED
        self.settled += 1
        if not self._open():  # the step is over: what was not answered by then has no slot any more
            self.sprouts = {}

    def _slot_at(self, event: Event) -> Slot | None:
        if (event.round, event.step) != self._place or event.slot >= len(self.slots):
            return None
        return self.slots[event.slot]

    def _open(self) -> int:
        return sum(slot.waits != SETTLED for slot in self.slots)

    def _late(self) -> None:
        self.counts["late"] += 1

    # ---- rebirth and training ----------------------------------------------------------------------------------

    def _nodes_reborn(self, event: Event, body: Any) -> None:
        if self.finished or event.round in self._reborn:
            return self._late()
        self._reborn.add(event.round)
        for rebirth in body.rebirths:
            self.wins[rebirth.node] = rebirth.window_sum
            self.losses[rebirth.node] = rebirth.window_length - rebirth.window_sum
        return None

    def _training_drawn(self, event: Event, body: Any) -> None:
        if self.finished or event.round in self._trainings:
            return self._late()
        self._trainings.add(event.round)
        if body.samples:
            self.training = Training(body.request_hash, body.version)
            self.asked[body.request_hash] = self._moment
        return None

    def _target_promoted(self, event: Event, body: Any) -> None:
        if self._training_over(body):
            self.versions.append(body.version)

    def _training_failed(self, event: Event, body: Any) -> None:
        if self._training_over(body):
            self.counts["trainings_failed"] += 1
            if body.failure == FAILURE_CLASS_BLOCKED:  # drawn anew in its round
                self._trainings.discard(event.round)

    def _training_over(self, body: Any) -> bool:
        if self.training is None or self.training.request_hash != body.request_hash:
            self._late()
            return False
        self.training = None
        return True


def accounts(events: Iterable[tuple[int, Event]]) -> dict[str, Account]:
    """The account of every run whose events these are, each with its moment, in the order of its partition."""
    found: dict[str, Account] = {}
    for moment, event in events:
        found.setdefault(event.run_id, Account(event.run_id)).take(moment, event)
    return found


def sums(account: Account) -> dict[int, tuple[int, int]]:
    """(alpha, beta) of every node that was ever rewarded."""
    nodes = defaultdict(lambda: (1, 1))
    for node in sorted({*account.wins, *account.losses}):
        nodes[node] = (1 + account.wins[node], 1 + account.losses[node])
    return dict(nodes)
