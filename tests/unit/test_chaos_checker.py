"""The campaign's checker finds nothing in a sound run, and what was lost or counted twice where it was."""

from __future__ import annotations

import functools
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from bohdi import figures
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from tests.chaos import checker
from tests.recorded_run import RecordedRun, settings


@functools.cache
def recorded() -> tuple[RecordedRun, RunState]:
    told = settings(3, bandit={"slots": 10, "introspection": "off"})
    run = RecordedRun(seed=3, away=0.02, withheld=0.05, twice=0.05, settings=told)
    return run, run.run()


def topics(feedback: list[Event], requests: list[Event]) -> dict[str, list[Any]]:
    empty: dict[str, list[Any]] = {name: [] for name in (checker.FEEDBACK, checker.DEAD, *checker.INPUTS)}
    found: dict[str, list[Any]] = defaultdict(list, empty)
    for event in (*feedback, *requests):
        name = codec.topic_of(event).name
        headers = [("event-id", event.event_id.encode())]
        found[name].append(record(name, 0, len(found[name]), event.SerializeToString(), headers))
    return found


def record(topic: str, partition: int, offset: int, value: bytes, headers: list[tuple[str, bytes]]) -> Any:
    return SimpleNamespace(topic=topic, partition=partition, offset=offset, value=value, headers=headers)


def tree(state: RunState) -> list[tuple[tuple[str, ...], int, int]]:
    return [(tuple(row["path"]), row["alpha"], row["beta"]) for row in figures.tree_rows(state)]


def test_a_sound_run_has_nothing_lost_and_nothing_counted_twice() -> None:
    run, state = recorded()
    kept = checker.account(topics(run.feedback, run.requests), {"run": tree(state)})
    assert (kept.lost, kept.double_counted) == ([], [])
    assert kept.duplicates > 0 and kept.settled > 30


def test_a_settlement_that_is_missing_is_lost() -> None:
    run, state = recorded()
    judged = next(event for event in run.feedback if event.HasField("harvest_judged") and event.harvest_judged.counted)
    left = [event for event in run.feedback if event.event_id != judged.event_id]
    kept = checker.account(topics(left, run.requests), {"run": tree(state)})
    request = judged.harvest_judged.request_hash
    assert any(f"slot {request} was never settled" in line for line in kept.lost)
    assert any("nothing came of it" in line for line in kept.lost)
    assert kept.double_counted


def test_an_input_among_the_dead_is_accounted_for() -> None:
    run, state = recorded()
    some = topics(run.feedback, run.requests)
    some["bohdi.answers"].append(record("bohdi.answers", 5, 77, b"\xff", []))
    assert any("bohdi.answers/5/77" in line for line in checker.account(some, {"run": tree(state)}).lost)
    headers = [("topic", b"bohdi.answers"), ("partition", b"5"), ("offset", b"77")]
    some[checker.DEAD].append(record(checker.DEAD, 0, 0, b"\xff", headers))
    kept = checker.account(some, {"run": tree(state)})
    assert (kept.lost, kept.dead_letters) == ([], 1)


def test_a_reward_that_stands_twice_in_the_tree_is_found() -> None:
    run, state = recorded()
    path, alpha, beta = tree(state)[0]
    kept = checker.account(topics(run.feedback, run.requests), {"run": [(path, alpha + 1, beta)]})
    assert len(kept.double_counted) == 1
