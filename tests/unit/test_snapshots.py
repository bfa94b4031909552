"""A snapshot of the fold is the fold: the same hash and decisions, from there on too; a bad one is passed over."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_common.core.decide import decide, requests
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState, Waits, canonical, restored, state_sha256
from bohdi_common.events.events_pb2 import Event
from services.bandit.runs import Runs
from services.bandit.snapshots import Snapshots
from tests.recorded_run import RecordedRun
from tests.recorded_run import settings as run_settings


@functools.cache
def log(lockstep: bool = False) -> list[Event]:
    told = run_settings(5, bandit={"slots": 14, "threshold": 0.95, "lockstep": lockstep})
    run = RecordedRun(seed=5, away=0.02, withheld=0.04, settings=told)
    run.run()
    return run.feedback


def folded(events: list[Event], state: RunState | None = None) -> RunState:
    state = state or RunState()
    for event in events:
        evolve(state, event)
    return state


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.booleans())
def test_a_state_that_was_written_and_read_goes_on_as_it_would_have(share: float, lockstep: bool) -> None:
    events = log(lockstep)
    cut = int(share * len(events))
    kept = folded(events[:cut])
    read = restored(canonical(kept))
    assert canonical(read) == canonical(kept)
    assert decide(read, 10**15) == decide(kept, 10**15)
    assert read.ready.keys() == kept.ready.keys()
    assert list(requests(read)) == list(requests(kept))
    assert state_sha256(folded(events[cut:], read)) == state_sha256(folded(events))


@pytest.mark.parametrize("lockstep", [False, True])
def test_who_asks_after_every_event_for_what_it_made_due_misses_nothing(lockstep: bool) -> None:
    state, asked = RunState(), set[str]()
    for event in log(lockstep):
        before = state.sequence
        evolve(state, event)
        asked |= {fact.event_id for fact in decide(state, since=before)}
        assert {fact.event_id for fact in decide(state)} <= asked
        ready = {number for number, slot in enumerate(state.slots) if slot.waits == Waits.DECISION}
        assert state.ready.keys() == ready


@pytest.mark.parametrize("form", [b"", b"{}", b"null", b"[1]", b"\xff", b'{"state_version": 99}'])
def test_what_is_no_state_is_a_value_error(form: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        restored(form)


def runs(events: list[Event]) -> Runs:
    made = Runs()
    for event in events:
        made.fold(event)
    return made


def test_a_snapshot_gives_back_runs_and_offset(tmp_path: Path) -> None:
    some = log()[:60]
    ended = Event.FromString(some[0].SerializeToString())
    ended.run_id = "ended"
    over = Event(event_id="over", run_id="ended", schema_version=1)
    over.run_finished.reason = "cancelled"
    kept = runs([ended, over, *some])
    Snapshots(tmp_path / "deep" / "a.snapshot").save(62, some[-1].event_id, kept)
    offset, read = Snapshots(tmp_path / "deep" / "a.snapshot").load({61: some[-1].event_id}.get)
    assert (offset, read.over, set(read.going)) == (62, {"ended"}, {"run"})
    assert state_sha256(read.going["run"].state) == state_sha256(kept.going["run"].state)
    assert [e.event_id for e in read.start()] == [e.event_id for e in kept.start()]


def test_a_snapshot_of_another_log_or_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    some = log()[:60]
    snapshots = Snapshots(tmp_path / "a.snapshot")
    assert snapshots.load({}.get) == (0, Runs())
    snapshots.save(60, some[-1].event_id, runs(some))
    assert snapshots.load({59: "another"}.get)[0] == 0
    assert snapshots.load({}.get)[0] == 0
    whole = snapshots.file.read_bytes()
    for place in (3, 100, len(whole) - 5):
        snapshots.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert snapshots.load({59: some[-1].event_id}.get)[0] == 0
    snapshots.file.write_bytes(whole[:-40])
    assert snapshots.load({59: some[-1].event_id}.get)[0] == 0
    snapshots.file.write_bytes(whole)
    assert snapshots.load({59: some[-1].event_id}.get)[0] == 60
