"""Evaluation beside a run: every model once, and one that cannot be evaluated stops nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bohdi.evaluation import Evaluation
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import RunStarted
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.shell import record_of
from tests.recorded_run import settings


async def test_a_model_that_does_not_load_is_passed_over_and_the_others_are_evaluated(tmp_path: Path) -> None:
    def accuracy(folder: Path, benchmark: Path, base: Path) -> Mapping[str, float]:
        if folder.name == "b":
            raise ValueError("b: no model")
        return {"domain": 0.5}

    log = SqliteLog.open(tmp_path / "log", create=True)
    started = codec.by_hand("run", "1", 1, "run_started", RunStarted(settings=settings(1)))
    await log.append([record_of(started), record_of(codec.by_hand("run", "2", 2, "run_finished", {}))])
    evaluation = Evaluation("run", log, lambda model: Path(model.name), "benchmark", Path("benchmark"), accuracy)
    await evaluation.follow()
    await evaluation.follow()
    scored = [e.target_evaluated.model for _, e in feedback_events(log) if e.HasField("target_evaluated")]
    assert scored == ["target", "a", "c"]
    await log.close()
