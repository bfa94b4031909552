"""Evaluation beside a run: every model once, and one that cannot be evaluated stops nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bohdi.evaluation import Evaluation, Harness
from bohdi.harness import HarnessFailed, Place, Results, Tasks
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import RunStarted, Score
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


TASKS = Tasks(("tiny", "larger"), limit=5)
RESULTS = Results("lm_eval 0", "digest", (Score(domain="tiny", metric="exact_match,none", value=0.5, questions=5),))


async def scored_in(folder: Path, harness: Harness, every_round: bool) -> list[tuple[str, str]]:
    """Model and version of what the harness scored in a run of two rounds, which is evaluated twice."""
    log = SqliteLog.open(folder / "log", create=True)
    started = codec.by_hand("run", "1", 1, "run_started", RunStarted(settings=settings(1)))
    promoted = [codec.by_hand("run", f"p{n}", 2, "target_promoted", {"version": f"r{n + 1}"}) for n in range(2)]
    promoted[1].round = 1
    finished = codec.by_hand("run", "3", 3, "run_finished", {})
    await log.append([record_of(event) for event in (started, *promoted, finished)])
    for _ in range(2):
        evaluation = Evaluation("run", log, lambda model: Path(model.name), "", Path(), lambda folder, file: {})
        evaluation.tasks, evaluation.every_round, evaluation.harness = TASKS, every_round, harness
        await evaluation.follow()
    scored = [e.target_evaluated for _, e in feedback_events(log) if e.HasField("target_evaluated")]
    await log.close()
    assert all((body.benchmark, body.limit, body.scores[0].value) == ("tiny,larger", 5, 0.5) for body in scored)
    return [(body.model, body.version) for body in scored]


async def harness(model: Place, tasks: Tasks) -> Results:
    return RESULTS


async def test_the_harness_scores_the_target_at_the_start_and_after_the_last_round(tmp_path: Path) -> None:
    assert await scored_in(tmp_path, harness, every_round=False) == [("target", "base"), ("target", "r2")]


async def test_or_after_every_round_if_the_configuration_asks(tmp_path: Path) -> None:
    every = [("target", "base"), ("target", "r1"), ("target", "r2")]
    assert await scored_in(tmp_path, harness, every_round=True) == every


async def test_a_version_on_which_the_harness_fails_is_passed_over(tmp_path: Path) -> None:
    asked = []

    async def failing_once(model: Place, tasks: Tasks) -> Results:
        asked.append(model)
        if len(asked) == 1:
            raise HarnessFailed("lm_eval: no such task")
        return RESULTS

    every = {("target", "base"), ("target", "r1"), ("target", "r2")}
    assert set(await scored_in(tmp_path, failing_once, every_round=True)) == every
    assert len(asked) == 4  # base once more, when the run is evaluated again
