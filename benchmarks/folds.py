"""Folds of a run's log: read, checksum, decode, evolve, as `bohdi replay` does, against decoding the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from benchmarks.made_run import RUN_ID, MadeRun, Panel
from benchmarks.rows import Measured
from benchmarks.timing import best_seconds, seconds
from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.sqlite_file import open_readonly
from bohdi_common.runtime.feedback import events_of
from services.bandit.handler import Bandit, folded
from tests.closed_loop import World

_QUESTION = "What is the third digit of the sum of 4711 and 1147? Say only that digit."
_TREE = (10, 10, 10)
START = MadeRun("start", 1_000, World(width=(2, 2, 2), text=_QUESTION), slots=20)
SHORT = MadeRun("short", 1_000_000, World(width=_TREE, text=_QUESTION))
AS_IN_THE_DEMO = MadeRun("panel", 100_000, Panel(text="August October October: September"))
LONG = MadeRun("long", 50_000, Panel(text=_QUESTION * 10))
_CHUNK = 10_000


def many_times(made: MadeRun) -> Measured:
    """A log from nothing, time and again; the best time counts."""
    log = open_readonly(made.log())
    values = [stored.value for stored in log.read(FEEDBACK.name)]
    fold_s, decode_s = best_seconds(
        max(5, 20_000 // made.events), lambda: folded(events_of(log, RUN_ID), RUN_ID), lambda: decode(values)
    )
    _check(folded(events_of(log, RUN_ID), RUN_ID), made.events)
    log.close_reading()
    return _measured(made.events, fold_s, decode_s, values)


def throughout(made: MadeRun) -> Measured:
    """A long log, in turns of some ten thousand events, folding and decoding. The best turn of the second half counts,
    when the state is large."""
    log = open_readonly(made.log())
    bandit, events = Bandit(RUN_ID), events_of(log, RUN_ID)
    turns: list[tuple[float, float]] = []
    for start in range(0, made.events, _CHUNK):
        values = [stored.value for stored in log.read(FEEDBACK.name, start, start + _CHUNK)]
        turns.append((seconds(lambda: _fold(bandit, events)), seconds(lambda values=values: decode(values))))
    _check(bandit.state, made.events)
    log.close_reading()
    fold_s, decode_s = (min(times) for times in zip(*turns[len(turns) // 2 :], strict=True))
    return _measured(_CHUNK, fold_s, decode_s, values)


def _fold(bandit: Bandit, events: Iterator[Event]) -> None:
    for event in islice(events, _CHUNK):
        bandit.fold(event)


def decode(values: list[bytes]) -> None:
    """What every reading of the same events costs at least."""
    for value in values:
        Event.FromString(value)


def _measured(events: int, fold_s: float, decode_s: float, values: list[bytes]) -> Measured:
    size = sum(map(len, values)) / len(values)
    return Measured(
        events / fold_s, "folds/s", f"protobuf decoding alone, {size:.0f} bytes an event", decode_s / fold_s
    )


def _check(state: RunState, events: int) -> None:
    """A log that does not fold as it was made would measure something else."""
    strange = {what: count for what, count in state.counts.items() if what in {"late", "invalid", "unknown"}}
    if state.sequence != events or strange:
        raise RuntimeError(f"{state.sequence} of {events} events, {strange}: remove benchmarks/work and run again")
