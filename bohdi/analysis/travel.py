"""The state of a run at any moment: the fold of its log up to there, from the nearest state that was kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from bohdi.analysis.kept_states import KeptStates
from bohdi.analysis.points import PastTheEnd, Point
from bohdi.run_places import RunPlace, no_events
from bohdi.verify.hashes import hashed
from bohdi_common.core.state import STATE_VERSION, RunState, state_sha256
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.port import LogReader, Stored
from bohdi_common.runtime.feedback import feedback_records

_ON_THE_WAY = 16  # events that are looked at behind a state


@dataclass(frozen=True)
class Moment:
    """A state, its hash, and the one that a decision made in it recorded then; empty where none did."""

    state: RunState
    state_sha256: str
    recorded_sha256: str = ""

    @property
    def differs(self) -> bool:
        """The log says that the state was another."""
        return bool(self.recorded_sha256) and self.recorded_sha256 != self.state_sha256


def kept_states(place: RunPlace, wanted: bool = True) -> KeptStates:
    """Beside the run's log, or on Kafka beside its versions. Not `wanted`: all is folded from nothing."""
    return KeptStates(place.versions.parent / "states" if wanted else None, place.run_id)


def moment(place: RunPlace, at: Point, kept: KeptStates) -> Moment:
    """The run at a moment. Raises PastTheEnd, NoRun, LogError and NewerSchema."""
    log = place.reader()
    start, bandit = kept.nearest(at, log)
    records = _records(log, start, bandit.run_id)
    ahead: list[Event] = []
    for stored, event in records:
        if at.before(bandit.state, event):
            ahead.append(event)
            break
        bandit.fold(event)
        kept.keep(stored, bandit)
    if not bandit.state.sequence and not ahead:
        raise no_events(place)
    if why := at.missed(bandit.state):
        raise PastTheEnd(why)
    recorded = _recorded(bandit.state, chain(ahead, (event for _, event in records)))
    return Moment(bandit.state, state_sha256(bandit.state), recorded)


def _records(log: LogReader, start: int, run_id: str) -> Iterator[tuple[Stored, Event]]:
    for stored, event in feedback_records(log, start):
        if event is not None and event.run_id == run_id:
            yield stored, event


def _recorded(state: RunState, following: Iterator[Event]) -> str:
    """The hash that a decision made in `state` recorded. It stands right behind it in the log, or a few events later,
    those that came while it was on its way."""
    for event in islice(following, _ON_THE_WAY):
        decision = hashed(event)
        if decision is not None and decision.based_on == state.sequence and decision.state_version == STATE_VERSION:
            return decision.state_sha256
    return ""
