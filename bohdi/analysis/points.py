"""Moments of a run: what `--at` names, and which is the first event behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig

_FORMS = "a run sequence (1234), the end of a round (round:3), a time (2026-11-25T12:00:00Z)"


class PastTheEnd(BadConfig):
    """The log does not go as far as was asked. The message is one line."""


@dataclass(frozen=True)
class Point:
    """A moment, `said` as by a person: after `sequence` events, at the end of `round` (0: the start), or before the
    first event that was written after `time_us`. All None: the end of the log as it is now."""

    said: str = ""
    sequence: int | None = None
    round: int | None = None
    time_us: int | None = None

    def before(self, state: RunState, event: Event) -> bool:
        """Whether the moment is `state`, and `event`, the next of the run, lies behind it."""
        if self.sequence is not None:
            return state.sequence >= self.sequence
        if self.round is not None:
            return self.at_round(state)
        return self.time_us is not None and event.time_us > self.time_us

    def at_round(self, state: RunState) -> bool:
        """Whether `state` is at the end of the round or behind it."""
        return self.round is not None and state.rules is not None and state.round >= self.round

    def missed(self, state: RunState) -> str:
        """Why `state`, the last before the moment or the log's end, is not what was asked for; empty when it is."""
        if self.sequence is not None and state.sequence < self.sequence:
            return f"--at {self.said}: the run has only {state.sequence} events"
        if self.round is not None and not self.at_round(state):
            over = "never trained" if not state.round else f"has ended {state.round} rounds only"
            return f"--at {self.said}: the run {over}: ask for an earlier moment (round:0 is the start)"
        if self.time_us is not None and not state.sequence:
            return f"--at {self.said}: the run began only later: ask for a later moment"
        return ""


END = Point()


def point(said: str) -> Point:
    """The moment that a person names. Raises BadConfig."""
    if re.fullmatch(r"\d{1,18}", said):
        return Point(said, sequence=int(said))
    if named := re.fullmatch(r"round:(\d{1,9})", said):
        return Point(said, round=int(named[1]))
    try:
        when = datetime.fromisoformat(said)
    except ValueError:
        raise BadConfig(f"--at {said}: no moment of a run: give {_FORMS}") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return Point(said, time_us=round(when.timestamp() * 1e6))
