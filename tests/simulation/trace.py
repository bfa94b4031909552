"""What happened in a schedule, for people and for the comparison of two runs of it."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from bohdi_common.events import codec
from bohdi_common.log.port import Stored
from tests.simulation.loop import SimulatedLoop

_BYTES_SHOWN = 24


class Line(NamedTuple):
    turn: int
    time_s: float
    who: str
    what: str
    about: tuple[Any, ...]


class Trace:
    """Lines are kept as they come and made readable only when somebody reads them."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.lines: list[Line] = []
        self._loop = loop

    def note(self, who: str, what: str, *about: Any) -> None:
        """`about`: plain values and log records, nothing that says where in memory it stands."""
        self.lines.append(Line(self._loop.turns, self._loop.time(), who, what, about))

    def digest(self) -> str:
        """SHA-256 of all lines: two schedules with one digest did the same things in the same order."""
        whole = hashlib.sha256()
        for line in self.lines:
            whole.update(repr(line).encode("utf-8", "surrogatepass"))
        return whole.hexdigest()

    def text(self, lines_max: int | None = None) -> str:
        """One line a happening: turn of the loop, time, who, what; all of them, or only the last ones."""
        lines = self.lines if lines_max is None else self.lines[-lines_max:]
        return "\n".join(
            f"{line.turn:6d} {line.time_s:9.3f}s  {line.who:<18} {line.what} {' '.join(map(_shown, line.about))}"
            for line in lines
        )


def _shown(about: Any) -> str:
    return described(about) if isinstance(about, Stored) else str(about)


def described(stored: Stored) -> str:
    """Place and content of a record, for people."""
    where = f"{stored.topic.removeprefix('bohdi.')}/{stored.partition}@{stored.offset}"
    try:
        event = codec.decode(stored.value)
    except (codec.Undecodable, codec.NewerSchema):
        return f"{where} {stored.value[:_BYTES_SHOWN]!r}"
    kind = codec.kind_of(event)
    body = getattr(event, kind)
    request = f" of {body.request_hash[:8]}" if getattr(body, "request_hash", "") else ""
    place = f"{event.round}.{event.step}.{event.slot}"
    return f"{where} {kind} {event.event_id[:8]} {event.run_id} {place}{request}{_more(kind, body)} by {event.producer}"


def _more(kind: str, body: Any) -> str:
    match kind:
        case "paths_drawn":
            slots = ", ".join(f"{list(slot.path)} {slot.request_hash[:8]}" for slot in body.slots)
            return f" based on {body.based_on}: {slots}"
        case "slot_continued":
            drawn = body.drawn
            goes_on = "given up" if body.given_up else f"{list(drawn.path)} {drawn.request_hash[:8]}"
            return f" based on {body.based_on}, attempt {body.attempt}: {goes_on}"
        case "domains_sprouted":
            return f" under {body.parent}: {', '.join(name.name for name in body.names)}"
        case "harvest_judged":
            return f" counted {body.counted}, reward {body.reward}"
        case "harvest_failed" | "sprout_failed" | "training_failed" | "run_paused":
            return f" ({body.reason})"
    return ""
