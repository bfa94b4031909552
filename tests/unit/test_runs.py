"""The bandits of all runs of one feedback log."""

from __future__ import annotations

from bohdi_common.core.state import state_sha256
from services.bandit.handler import folded
from services.bandit.runs import Runs
from tests.closed_loop import RUN_ID, Loop


def test_what_the_log_holds_of_a_run_before_its_start_counts_live_as_it_does_in_a_replay() -> None:
    loop = Loop()
    log = [loop.event("run_paused", {"reason": "too early"}, "early"), *loop.log]
    runs = Runs()
    asked = [output for event in log for output in runs.handle(event)]
    assert state_sha256(runs.going[RUN_ID].state) == state_sha256(folded(log, RUN_ID))
    assert [output.paths_drawn.based_on for output in asked] == [2]


def test_of_a_run_that_is_over_nothing_is_kept_and_nothing_moves() -> None:
    loop = Loop()
    loop.run()
    runs = Runs()
    for event in loop.log:
        runs.fold(event)
    assert (runs.going, runs.over) == ({}, {RUN_ID})
    assert runs.handle(loop.event("run_resumed", {}, "again")) == []
    assert runs.start() == runs.tick() == []
