"""A whole run whose trainings are two processes beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bohdi.embedded import Watcher, host_run, new_run, real_parts
from bohdi.run_folder import RunFolder, resolved
from bohdi.verify import problems
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import events_pb2 as pb
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.runtime import config
from bohdi_common.runtime.feedback import feedback_events

DEMO = Path("configs/demo.yaml")


class Steps(Watcher):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step(self, step: int, loss: float) -> None:
        self.losses.append(loss)


def test_a_run_is_trained_by_two_processes_and_verifies(tmp_path: Path) -> None:
    overrides = {
        "bandit": {"rounds": 1, "steps": 2, "slots": 24, "rehearsal_questions": 24},
        "training": {"passes": 2.0, "launcher": "torchrun", "processes": 2, "checkpoint_steps": 2},
        "evaluation": None,
    }
    run, parts, steps = RunFolder(tmp_path / "run"), real_parts(), Steps()
    new_run(resolved(config.load(DEMO, overrides), DEMO.parent), run, 1, parts)
    state = asyncio.run(host_run(run.load_config(), run, parts, steps, resume=False))
    assert state.finished and state.versions == [BASE_VERSION, "r1"]
    log = SqliteLog.open(run.log, create=False)
    kept = list(feedback_events(log))
    asyncio.run(log.close())
    (promoted,) = [event.target_promoted for _, event in kept if event.HasField("target_promoted")]
    assert (promoted.launcher, promoted.processes, promoted.resumed_step) == (pb.LAUNCHER_TORCHRUN, 2, 0)
    assert promoted.steps == len(steps.losses) > 2
    assert promoted.loss_first == pytest.approx(sum(steps.losses[:10]) / len(steps.losses[:10]))
    assert [path.name for path in sorted(run.versions.iterdir())] == ["r1"]
    assert list(problems(kept, versions=run.versions)) == []
