"""Which outcomes of harvests took effect, with which event, and on which leaf: what the fold does and does not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState, Slot, Waits
from bohdi_common.events.events_pb2 import Event

_EFFECTS = ("harvests", "no_verdict", "rejected")
_RESULTS = frozenset({"harvest_judged", "harvest_failed"})


class Effect(NamedTuple):
    """The result at a run sequence moved its leaf: `counted` with a reward, else only as one more that came to none."""

    leaf: int
    sequence: int
    counted: bool


@dataclass
class Effects:
    """Folds a run, event by event, into `state`."""

    state: RunState = field(default_factory=RunState)
    _count: int = 0
    _taken: set[int] = field(default_factory=set)

    def take(self, event: Event) -> Sequence[Effect]:
        """Folds the next event. Gives the outcomes that took effect with it outside a rehearsal, in that order. In
        lockstep those of a whole step come at once."""
        state = self.state
        slots, rehearsing = state.slots, state.rehearsing
        slot = slots[event.slot] if event.slot < len(slots) else None
        evolve(state, event)
        count = sum(state.counts.get(what, 0) for what in _EFFECTS)
        if count == self._count:
            return ()
        self._count = count
        assert state.rules is not None
        if state.rules.lockstep:
            turns = list(self._turns(slots))
            return () if rehearsing else turns
        if slot is None or rehearsing or event.WhichOneof("body") not in _RESULTS:
            return ()
        return (Effect(slot.path[-1], state.sequence - 1, event.harvest_judged.counted),)

    def _turns(self, slots: list[Slot]) -> Iterator[Effect]:
        """The outcomes that have just taken effect together, in the order of the slots."""
        for slot in slots:
            outcome = slot.outcome
            if slot.waits == Waits.NOTHING and outcome is not None and outcome.sequence not in self._taken:
                self._taken.add(outcome.sequence)
                if outcome.what in _EFFECTS:
                    yield Effect(slot.path[-1], outcome.sequence, outcome.what == "harvests")
        if not self.state.slots:  # the step is over
            self._taken.clear()
