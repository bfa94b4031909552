"""What a process says of itself: the cause, not what follows from it."""

from __future__ import annotations

import time

from bohdi_common.runtime.health import Health


def running(assigned: int | None = 4, broker_silent_s: float = 0.0, problem: str = "") -> Health:
    health = Health("judging", stuck_after_s=60.0, phase="running", problem=problem, assigned=assigned)
    health.broker_seen_s = time.monotonic() - broker_silent_s
    return health


def test_one_that_has_its_partitions_and_its_broker_is_ready() -> None:
    assert running().not_ready() == ""


def test_who_starts_says_what_it_waits_for() -> None:
    assert Health("judging", 60.0).not_ready() == "starting"
    assert Health("judging", 60.0, problem="no broker answers").not_ready() == "no broker answers"


def test_a_broker_that_is_away_is_named_though_the_partitions_are_lost_with_it() -> None:
    for assigned in (4, None):
        assert running(assigned, broker_silent_s=100.0).not_ready() == "the broker has not answered for 100 s"
        assert running(assigned, problem="no broker answers").not_ready() == "no broker answers"
    assert running(None).not_ready() == "waiting for its partitions"


def test_a_broker_that_is_away_is_no_reason_to_be_started_again() -> None:
    assert running(None, broker_silent_s=1000.0).not_live() == ""


def test_a_loop_that_stands_still_is_one() -> None:
    health = running()
    health.loop_turned_s -= 1000.0
    assert "the event loop has not turned" in health.not_live()
    assert health.not_ready() == health.not_live()
