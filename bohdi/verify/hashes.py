"""The hashes that decisions recorded of their states, held to those that the fold gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from bohdi.verify.report import Report
from bohdi_common.core.state import STATE_VERSION, Next, RunState, state_sha256
from bohdi_common.events.events_pb2 import Event, PathsDrawn, RunFinished

_KEPT = 16  # of the states that one decision may have been made in: each costs the whole state


def hashed(event: Event) -> PathsDrawn | RunFinished | None:
    """The decision in an event, if it recorded the hash of its state."""
    kind = event.WhichOneof("body")
    if kind not in ("paths_drawn", "run_finished"):
        return None
    body: PathsDrawn | RunFinished = getattr(event, kind)
    return body if body.state_sha256 else None


@dataclass
class Hashes:
    """Of one run, as it is folded. A state is hashed when a decision names it; and, as long as that is to come, after
    every event that came before it, the first few of them."""

    report: Report
    _of: dict[int, str] = field(default_factory=dict)
    _due: bool = False

    def wrong(self, state: RunState, event: Event) -> str:
        """What is wrong with the hash in the event that comes next after `state`; empty for none."""
        decision = hashed(event)
        was_due, self._due = self._due, state.step == 0 and state.next() in (Next.STEP, Next.FINISH)
        if self._due and not was_due:
            self._of.clear()
        if self._due and len(self._of) < _KEPT and (decision is None or decision.based_on == state.sequence):
            self._of[state.sequence] = state_sha256(state)
        if decision is None or decision.state_version != STATE_VERSION or decision.based_on not in self._of:
            return ""
        self.report.hashes += 1
        if decision.state_sha256 == self._of[decision.based_on]:
            return ""
        return f"recorded the hash {decision.state_sha256} of state {decision.based_on}, which the fold does not give"
