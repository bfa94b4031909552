"""Held-out accuracy of the sources and of every version of the target, written into the log for people to read.

It follows the log beside the services. The bandit never looks at what it writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Score, TargetEvaluated
from bohdi_common.log.port import EventLog
from bohdi_common.models.port import ModelRef
from bohdi_common.runtime.feedback import feedback_events, follow_feedback
from bohdi_common.runtime.shell import Clock, record_of, wall_clock_us

_log = logging.getLogger("bohdi")

Accuracy = Callable[[Path, Path, Path], Mapping[str, float]]


@dataclass
class Evaluation:
    """Of one run. `accuracy(model folder, benchmark file, folder of the model's base)` gives the accuracy by domain;
    ValueError for what is no model."""

    run_id: str
    log: EventLog
    folder_of: Callable[[ModelRef], Path]
    benchmark: str
    benchmark_file: Path
    accuracy: Accuracy
    clock: Clock = wall_clock_us
    _scored: set[tuple[str, str]] = field(default_factory=set, init=False)

    async def follow(self) -> None:
        """Evaluates what has not been, until the run is finished and all of it is."""
        for _, event in feedback_events(self.log):
            self._note(event)
        async for _, event in follow_feedback(self.log, 0):
            match event.WhichOneof("body") if event.run_id == self.run_id else "":
                case "run_started":
                    settings = event.run_started.settings
                    self._target = settings.target
                    await self._evaluate(event, ModelRef.of(self._target, BASE_VERSION, event.run_id))
                    for source in settings.sources:
                        await self._evaluate(event, ModelRef.of(source))
                case "target_promoted":
                    await self._evaluate(event, ModelRef.of(self._target, event.target_promoted.version, event.run_id))
                case "run_finished":
                    return

    def _note(self, event: Event) -> None:
        if event.run_id == self.run_id and event.WhichOneof("body") == "target_evaluated":
            self._scored.add((event.target_evaluated.model, event.target_evaluated.version))

    async def _evaluate(self, cause: Event, model: ModelRef) -> None:
        if (model.name, model.version) in self._scored:
            return
        try:
            folder, base = self.folder_of(model), self.folder_of(replace(model, version=""))
            scores = await asyncio.to_thread(self.accuracy, folder, self.benchmark_file, base)
        except ValueError as error:  # a figure for people, missing: no reason to stop the run
            return _log.error("%s %s cannot be evaluated: %s", model.name, model.version, error)
        body = TargetEvaluated(model=model.name, version=model.version, benchmark=self.benchmark)
        body.scores.extend(Score(domain=domain, accuracy=share) for domain, share in sorted(scores.items()))
        event = Event(
            event_id=derived_id(cause.run_id, "target_evaluated", model.name, model.version, self.benchmark),
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
        return None
