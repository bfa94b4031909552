"""The run at any moment: the moments that can be named, what lies between two, and the states kept on the way."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bohdi.analysis.diff import View, diff, views
from bohdi.analysis.kept_states import KeptStates
from bohdi.analysis.points import END, PastTheEnd, Point, point
from bohdi.analysis.travel import moment
from bohdi.verify import Kind, Problem, Report, problems
from bohdi_common.core.state import state_sha256
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.port import LogReader, Stored
from bohdi_common.runtime.config import BadConfig
from services.bandit.handler import folded
from tests.recorded_run import RecordedRun, settings


@functools.cache
def recorded(seed: int = 4, lockstep: bool = False) -> RecordedRun:
    bandit = {"slots": 14, "rounds": 3, "threshold": 0.95, "introspection": "paper", "lockstep": lockstep}
    run = RecordedRun(seed=seed, away=0.02, withheld=0.04, settings=settings(seed, bandit=bandit))
    run.run()
    return run


@dataclass
class Place:
    """The recorded run as a place to look at; counts the records that were read."""

    run: RecordedRun
    read_records: int = 0
    how_to: str = "here"
    run_id: str = "run"
    versions: Path = Path("nowhere")
    folder: None = None

    def reader(self) -> LogReader:
        return self

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        for stored in self.run.read(topic, start, stop):
            self.read_records += 1
            yield stored

    def end(self, topic: str) -> int:
        return self.run.end(topic)

    def records(self, topic: str, start: int = 0) -> Iterator[Stored]:
        return self.read(topic, start)

    def keep_summary(self, text: str) -> None:
        raise AssertionError("nothing is written")


NOTHING_KEPT = KeptStates(None, "run")


def hash_at(said: str, kept: KeptStates = NOTHING_KEPT) -> str:
    return moment(Place(recorded()), point(said), kept).state_sha256


# ---- moments ---------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.floats(0, 1))
def test_a_sequence_names_the_fold_of_so_many_events(share: float) -> None:
    events = recorded().feedback
    count = round(share * len(events))
    assert hash_at(str(count)) == state_sha256(folded(events[:count], "run"))


def test_a_round_names_the_first_state_after_it_and_round_0_the_start() -> None:
    for number in range(4):
        found = moment(Place(recorded()), point(f"round:{number}"), NOTHING_KEPT).state
        before = moment(Place(recorded()), point(str(found.sequence - 1)), NOTHING_KEPT).state
        assert found.round == number
        assert before.round == number - 1 if number else before.sequence == 0


def test_a_time_names_what_stood_in_the_log_before_the_first_event_that_is_later() -> None:
    events = recorded().feedback
    for count in (1, 40, len(events)):
        time_us = max(event.time_us for event in events[:count])
        first_later = next((n for n, event in enumerate(events) if event.time_us > time_us), len(events))
        found = moment(Place(recorded()), Point("then", time_us=time_us), NOTHING_KEPT)
        assert found.state.sequence == first_later


def test_a_time_without_a_zone_is_utc() -> None:
    assert point("2026-11-25T12:00:00") == Point("2026-11-25T12:00:00", time_us=1_795_608_000_000_000)
    assert point("2026-11-25T13:00:00+01:00").time_us == point("2026-11-25T12:00:00Z").time_us


@pytest.mark.parametrize("said", ["", "-1", "round:", "round:x", "yesterday", "1.5", "2026-13-01T00:00:00Z"])
def test_what_names_no_moment_is_refused_with_the_forms_that_do(said: str) -> None:
    with pytest.raises(BadConfig, match=r"round:3"):
        point(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("100000", "the run has only"),
        ("round:9", "has ended 3 rounds only"),
        ("1969-01-01T00:00:00Z", "began only later"),
    ],
)
def test_a_moment_that_the_log_does_not_hold_is_refused_with_what_it_does(said: str, why: str) -> None:
    with pytest.raises(PastTheEnd, match=why):
        hash_at(said)


# ---- hashes recorded live --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lockstep", [False, True])
def test_at_every_rounds_end_the_replay_gives_the_hash_that_was_recorded_then(lockstep: bool) -> None:
    run = recorded(lockstep=lockstep)
    for number in range(4):
        found = moment(Place(run), point(f"round:{number}"), NOTHING_KEPT)
        assert found.recorded_sha256 == found.state_sha256
        assert not found.differs


def test_a_run_whose_recorded_hash_is_another_differs() -> None:
    run = RecordedRun(feedback=changed(recorded().feedback))
    assert moment(Place(run), point("round:1"), NOTHING_KEPT).differs


def changed(events: list[Event]) -> list[Event]:
    """The log with another hash in the first draw of round 1."""
    copies = [Event.FromString(event.SerializeToString()) for event in events]
    drawn = next(e for e in copies if e.round == 1 and e.HasField("paths_drawn") and e.paths_drawn.state_sha256)
    drawn.paths_drawn.state_sha256 = "0" * 64
    return copies


def test_verify_holds_every_recorded_hash_to_the_fold() -> None:
    report = Report()
    assert list(problems(enumerate(recorded().feedback), report=report)) == []
    assert report.hashes == 4  # the first draws of three rounds, and the end
    found: list[Problem] = list(problems(enumerate(changed(recorded().feedback))))
    assert [problem.kind for problem in found] == [Kind.STATE]
    assert "0000 of state" in found[0].what


def test_only_a_rounds_first_draw_and_the_runs_end_pay_for_a_hash() -> None:
    drawn = [event for event in recorded().feedback if event.HasField("paths_drawn")]
    assert all(bool(event.paths_drawn.state_sha256) == (event.step == 0) for event in drawn)
    assert {event.step for event in drawn} > {0}


# ---- kept states -----------------------------------------------------------------------------------------------


def test_a_moment_is_the_same_from_a_kept_state_and_far_less_is_read(tmp_path: Path) -> None:
    kept = KeptStates(tmp_path, "run", every=50)
    events = recorded().feedback
    hash_at(str(len(events)), kept)
    assert len(list(tmp_path.iterdir())) == (len(events) - 1) // 50
    for said in ("round:2", str(len(events) - 20), "140"):
        place = Place(recorded())
        found = moment(place, point(said), kept)
        assert found.state_sha256 == hash_at(said)
        assert place.read_records < 80 + 20


def test_a_kept_state_that_is_damaged_or_of_another_log_is_passed_over(tmp_path: Path) -> None:
    kept = KeptStates(tmp_path, "run", every=50)
    said = str(len(recorded().feedback))
    hash_at(said, kept)
    files = sorted(tmp_path.iterdir())
    files[-1].write_bytes(files[-1].read_bytes()[:-9] + b"AAAAAAAAA")
    files[0].rename(tmp_path / files[0].name.replace("-50-", "-51-"))
    assert hash_at(said, kept) == hash_at(said)
    other = Place(recorded(seed=5))
    of_other = moment(other, END, kept)
    assert of_other.state_sha256 == state_sha256(folded(recorded(seed=5).feedback, "run"))


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptStates(tmp_path / "not" / "there", "run", every=50)
    assert hash_at("120", kept) == hash_at("120")
    # Clients that an earlier test left may still be saying that their broker is gone.
    assert not [said for said in caplog.records if said.name.startswith("bohdi")]


# ---- diff ------------------------------------------------------------------------------------------------------


def at(*said: str, run: RecordedRun | None = None) -> list[View]:
    return views((run or recorded()).feedback, [point(one) if one else END for one in said])


def test_nothing_lies_between_a_moment_and_itself() -> None:
    found = diff(*at("round:1", "round:1"))
    assert not any(found[what] for what in ("born", "gone", "reborn", "moved"))
    assert found["samples"]["a"] == found["samples"]["b"]


def test_between_the_start_and_the_end_lies_all_that_the_state_has() -> None:
    state = folded(recorded().feedback, "run")
    found = diff(*at("0", ""))
    assert len(found["born"]) == sum(state.tree.nodes_by_level[1:])
    assert sum(count["b"] for count in found["wins"].values()) == state.counts["harvests"]
    assert found["b"]["state_sha256"] == state_sha256(state)
    drawn = [e.training_drawn.samples for e in recorded().feedback if e.HasField("training_drawn")]
    assert found["samples"]["b"]["drawn"] == sum(map(len, drawn))
    assert found["samples"]["b"]["different"] == len({sample for samples in drawn for sample in samples})


def test_what_moved_comes_furthest_first_and_rebirths_are_those_of_the_log() -> None:
    before, after = at("round:1", "round:2")
    found = diff(before, after)
    moves = [abs(row["moved"]) for row in found["moved"]]
    assert moves == sorted(moves, reverse=True) and moves[0] > 0
    reborn = [e.nodes_reborn for e in recorded().feedback if e.HasField("nodes_reborn") and e.round == 1]
    assert sum(node["rebirths"] for node in found["reborn"]) == len(reborn[0].rebirths) > 0


def test_domains_of_two_runs_are_the_same_when_their_names_are() -> None:
    (a,), (b,) = at("round:1"), at("round:1", run=recorded(seed=5))
    found = diff(a, b)
    assert len(found["born"]) - len(found["gone"]) == len(b.nodes) - len(a.nodes)
    assert all(tuple(row["path"]) in a.nodes and tuple(row["path"]) in b.nodes for row in found["moved"])
