"""A run read once for what other settings could change: which outcomes took effect, in which order, and when the sweeps
of Introspection-Rebirth came."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from bohdi.analysis.ballots import Ballots
from bohdi.analysis.points import END, PastTheEnd, Point
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import Introspection, Next, RunState, Slot, Waits
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig

FAILED = -1  # in the place of a row of the ballots: nobody could answer
_EFFECTS = ("harvests", "no_verdict", "rejected")
_RESULTS = frozenset({"harvest_judged", "harvest_failed"})


@dataclass(frozen=True)
class SweepMoment:
    """A sweep after the first `outcomes` of the tape; `nodes`: those that the log has as reborn in it."""

    outcomes: int
    nodes: tuple[int, ...]


@dataclass
class Tape:
    """`state`: the run as it was recorded. Of each outcome that took effect on a leaf, in that order: the `leaf`, the
    run `sequence` of the result and its `row` of the ballots, or FAILED. A sweep is where the log has one; where the
    run was without introspection, before each training, which is where the method has it."""

    ballots: Ballots
    state: RunState = field(default_factory=RunState)
    leaf: array[int] = field(default_factory=lambda: array("i"))
    sequence: array[int] = field(default_factory=lambda: array("Q"))
    row: array[int] = field(default_factory=lambda: array("i"))
    sweeps: list[SweepMoment] = field(default_factory=list)
    of_step: dict[int, int] = field(default_factory=dict)  # in lockstep: rows of the results of the step at hand
    _effects: int = 0
    _taken: set[int] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """The next event of the run. Raises BadConfig."""
        state = self.state
        kind = event.WhichOneof("body") or ""
        slots, rehearsing, due = state.slots, state.rehearsing, state.next()
        slot = slots[event.slot] if event.slot < len(slots) else None
        row = FAILED
        if kind == "harvest_judged":
            row = self.ballots.add(event.harvest_judged, state.sequence)
            if state.rules is not None and state.rules.lockstep:
                self.of_step[state.sequence] = row
        evolve(state, event)
        effects = sum(state.counts.get(what, 0) for what in _EFFECTS)
        if effects > self._effects:
            self._effects = effects
            assert state.rules is not None
            if state.rules.lockstep:
                self._turns(slots, rehearsing)
            elif kind in _RESULTS and slot is not None:
                self._effect(slot.path[-1], state.sequence - 1, row, rehearsing)
        self._sweep(event, kind, due)

    def _turns(self, slots: list[Slot], rehearsing: bool) -> None:
        """The outcomes that have just taken effect together, in the order of the slots."""
        for slot in slots:
            outcome = slot.outcome
            if slot.waits == Waits.NOTHING and outcome is not None and outcome.sequence not in self._taken:
                self._taken.add(outcome.sequence)
                if outcome.what in _EFFECTS:
                    row = self.of_step.get(outcome.sequence, FAILED)
                    self._effect(slot.path[-1], outcome.sequence, row, rehearsing)
        if not self.state.slots:  # the step is over
            self._taken.clear()
            self.of_step.clear()

    def _effect(self, leaf: int, sequence: int, row: int, rehearsing: bool) -> None:
        if not rehearsing:
            self.leaf.append(leaf)
            self.sequence.append(sequence)
            self.row.append(row)

    def _sweep(self, event: Event, kind: str, due: Next) -> None:
        rules = self.state.rules
        if kind == "nodes_reborn" and due == Next.INTROSPECTION and self.state.introspected:
            reborn = tuple(rebirth.node for rebirth in event.nodes_reborn.rebirths)
            self.sweeps.append(SweepMoment(len(self.leaf), reborn))
        elif kind == "training_drawn" and due == Next.TRAINING and self.state.next() != Next.TRAINING:
            assert rules is not None
            if rules.introspection == Introspection.OFF:
                self.sweeps.append(SweepMoment(len(self.leaf), ()))


def tape(events: Iterable[Event], voted: bool, at: Point = END) -> Tape:
    """The tape of a run up to a moment. `voted`: with what another rule of rewards needs. Raises BadConfig."""
    read = Tape(Ballots(voted))
    for event in events:
        if at.before(read.state, event):
            break
        read.take(event)
    if why := at.missed(read.state):
        raise PastTheEnd(why)
    if read.state.rules is None:
        raise BadConfig(
            "what-if: the log does not say by what rules the run went: its RunStarted is missing or invalid"
        )
    return read
