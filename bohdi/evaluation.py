"""Held-out accuracy of the sources and of every version of the target, and what the harness makes of the target,
written into the log for people to read.

It follows the log beside the services. The bandit never looks at what it writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bohdi import harness
from bohdi.harness import Adapted, Place, Results, Served, Tasks
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Score, TargetEvaluated
from bohdi_common.log.port import EventLog
from bohdi_common.models.port import ModelRef
from bohdi_common.models.versions import is_adapter
from bohdi_common.runtime.feedback import feedback_events, follow_feedback
from bohdi_common.runtime.shell import Clock, record_of, wall_clock_us

_log = logging.getLogger("bohdi")

Accuracy = Callable[[Path, Path, Path], Mapping[str, float]]
Harness = Callable[[Place, Tasks], Awaitable[Results]]


@dataclass
class Evaluation:
    """Of one run. `accuracy(model folder, benchmark file, folder of its base)` gives the accuracy by domain, of every
    model at the start and of the target after every round; no `benchmark`: none of it. `tasks` are for the
    `harness`: of the target at the start and after the last round, or after `every_round`. Both raise ValueError for
    what cannot be evaluated."""

    run_id: str
    log: EventLog
    folder_of: Callable[[ModelRef], Path]
    benchmark: str
    benchmark_file: Path
    accuracy: Accuracy
    clock: Clock = wall_clock_us
    tasks: Tasks | None = None
    every_round: bool = False
    harness: Harness = harness.scored
    _scored: set[tuple[str, str, str]] = field(default_factory=set, init=False)

    async def follow(self) -> None:
        """Evaluates what has not been, until the run is finished and all of it is."""
        for _, event in feedback_events(self.log):
            self._note(event)
        async for _, event in follow_feedback(self.log, 0):
            match event.WhichOneof("body") if event.run_id == self.run_id else "":
                case "run_started":
                    self._settings = event.run_started.settings
                    base = ModelRef.of(self._settings.target, BASE_VERSION, event.run_id)
                    for model in (base, *(ModelRef.of(source) for source in self._settings.sources)):
                        await self._evaluate(event, model)
                    await self._score(event, base)
                case "target_promoted":
                    promoted = ModelRef.of(self._settings.target, event.target_promoted.version, event.run_id)
                    await self._evaluate(event, promoted)
                    if self.every_round or event.round + 1 == self._settings.bandit.rounds:
                        await self._score(event, promoted)
                case "run_finished":
                    return

    def _note(self, event: Event) -> None:
        if event.run_id == self.run_id and event.WhichOneof("body") == "target_evaluated":
            body = event.target_evaluated
            self._scored.add((body.model, body.version, body.benchmark))

    async def _evaluate(self, cause: Event, model: ModelRef) -> None:
        in_no_folder = not model.path  # it is behind servers alone
        if not self.benchmark or in_no_folder or (model.name, model.version, self.benchmark) in self._scored:
            return
        try:
            folder, base = self.folder_of(model), self.folder_of(replace(model, version=""))
            scores = await asyncio.to_thread(self.accuracy, folder, self.benchmark_file, base)
        except ValueError as error:  # a figure for people, missing: no reason to stop the run
            return _log.error("%s %s cannot be evaluated: %s", model.name, model.version, error)
        body = TargetEvaluated(model=model.name, version=model.version, benchmark=self.benchmark)
        body.scores.extend(Score(domain=domain, accuracy=share) for domain, share in sorted(scores.items()))
        return await self._append(cause, body)

    async def _score(self, cause: Event, model: ModelRef) -> None:
        if self.tasks is None or (model.name, model.version, self.tasks.benchmark) in self._scored:
            return
        try:
            results = await self.harness(place_of(model, self.folder_of), self.tasks)
        except ValueError as error:
            return _log.error("%s %s cannot be evaluated: %s", model.name, model.version, error)
        return await self._append(cause, scored_by_harness(model, self.tasks, results))

    async def _append(self, cause: Event, body: TargetEvaluated) -> None:
        event = Event(
            event_id=evaluated_id(cause.run_id, body),
            run_id=cause.run_id,
            cause_id=cause.event_id,
            round=cause.round,
            time_us=self.clock(),
            schema_version=codec.SCHEMA_VERSION,
            producer="evaluation",
            target_evaluated=body,
        )
        await self.log.append([record_of(event)])
        self._note(event)


def place_of(model: ModelRef, folder_of: Callable[[ModelRef], Path]) -> Place:
    """Where the harness finds a model. Servers whose weights change are the run's alone: its folders do."""
    if model.endpoint is None or model.endpoint.reloads:
        folder = folder_of(model)
        return Adapted(folder, folder_of(replace(model, version=""))) if is_adapter(folder) else folder
    from bohdi_common.models.vllm import served_name  # who has folders needs no HTTP client

    return Served(model.endpoint, served_name(model), model.system)


def scored_by_harness(model: ModelRef, tasks: Tasks, results: Results) -> TargetEvaluated:
    """What the harness gave, as a fact of the run."""
    return TargetEvaluated(
        model=model.name,
        version=model.version,
        benchmark=tasks.benchmark,
        scores=results.scores,
        harness=results.harness,
        tasks_digest=results.tasks_digest,
        limit=tasks.limit,
    )


def evaluated_id(run_id: str, body: TargetEvaluated) -> str:
    """The id of an evaluation: of a model on questions or tasks. Tasks that have changed since are others."""
    about: list[str | int] = [body.model, body.version, body.benchmark]
    about += [body.tasks_digest, body.limit] if body.harness else []
    return derived_id(run_id, "target_evaluated", *about)
