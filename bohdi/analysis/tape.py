"""A run read once for what other settings could change: which outcomes took effect, in which order, and when the sweeps
of Introspection-Rebirth came."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from bohdi.analysis.ballots import Ballots
from bohdi.analysis.effects import Effects
from bohdi.analysis.points import END, PastTheEnd, Point
from bohdi_common.core.state import Introspection, Next, RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig

FAILED = -1  # in the place of a row of the ballots: nobody could answer


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
    effects: Effects = field(default_factory=Effects)
    leaf: array[int] = field(default_factory=lambda: array("i"))
    sequence: array[int] = field(default_factory=lambda: array("Q"))
    row: array[int] = field(default_factory=lambda: array("i"))
    sweeps: list[SweepMoment] = field(default_factory=list)
    of_step: dict[int, int] = field(default_factory=dict)  # rows of the results of the step at hand

    @property
    def state(self) -> RunState:
        return self.effects.state

    def take(self, event: Event) -> None:
        """The next event of the run. Raises BadConfig."""
        state = self.state
        kind, due = event.WhichOneof("body") or "", state.next()
        if kind == "harvest_judged":
            self.of_step[state.sequence] = self.ballots.add(event.harvest_judged, state.sequence)
        for leaf, sequence, _ in self.effects.take(event):
            self.leaf.append(leaf)
            self.sequence.append(sequence)
            self.row.append(self.of_step.get(sequence, FAILED))
        if not state.slots:  # the step is over
            self.of_step.clear()
        self._sweep(event, kind, due)

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
