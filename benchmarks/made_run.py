"""Logs as long as asked, of runs that might have been: the bandit's own decisions on a growing tree, answered by the
closed loop's scripted world. A made log is kept in benchmarks/work/ and used again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bohdi.simulator.recorded import append, history
from bohdi_common.core.ids import derived_id
from bohdi_common.events.events_pb2 import Event, RunStarted, Settings
from services.bandit.handler import Bandit
from tests.closed_loop import World, settings

WORK = Path("benchmarks/work/logs")
RUN_ID = "made"
_MADE_BY = 2  # to be raised with every change of what is made here: older logs are then made anew
_LOG = "log.sqlite"
_BANDIT = {"rounds": 100_000, "steps": 10, "window": 20, "rehearsal_questions": 0, "introspection": "two_sample"}


@dataclass(frozen=True)
class Panel(World):
    """A world in which every source answers and judges, and all of it is recorded, as in a real harvest."""

    width: tuple[int, int, int] = (10, 10, 10)
    judges: tuple[str, ...] = ("a", "b", "c")

    def _harvest_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        kind, body = super()._harvest_requested(request)
        tokens = {"prompt_tokens": 9, "completion_tokens": 4}
        said = {"finish_reason": "stop", "seconds": 0.125, "text": self.text, **tokens}
        answers = [said | {"model": "target", "version": body["target_version"]}]
        answers += [said | {"model": judge} for judge in self.judges]
        order = list(range(len(answers)))
        verdicts = [
            {"judge": judge, "order": order, "choice": body["best"], "reply": "none", "counted": True, **tokens}
            for judge in self.judges
        ]
        return kind, body | {"answers": answers, "verdicts": verdicts, "prompts": "chat-v1"}


@dataclass(frozen=True)
class MadeRun:
    """`events` events of a run in `world`."""

    name: str
    events: int
    world: World
    slots: int = 200

    @property
    def rules(self) -> Settings:
        return settings(bandit=_BANDIT | {"slots": self.slots}, training={"passes": 0.0, "examples": 180})

    def log(self) -> Path:
        """The run's log, made if it is not there yet."""
        world = self.world
        rules = self.rules.SerializeToString(deterministic=True).hex()
        made_of = derived_id(_MADE_BY, self.events, type(world).__name__, *world.width, world.text, world.seed, rules)
        folder = WORK / f"{self.name}-{made_of[:8]}"
        if not folder.exists():
            aside = folder.with_suffix(".making")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            append(aside / _LOG, islice(self.history(), self.events))
            aside.rename(folder)
        return folder / _LOG

    def history(self) -> Iterator[Event]:
        """The run's events, in order. Results come in the order of the slots."""
        bandit = Bandit(RUN_ID, now_us := lambda: 1_000_000 + bandit.state.sequence)
        started = RunStarted(settings=self.rules)
        first = Event(event_id="start", run_id=RUN_ID, schema_version=1, producer="cli", run_started=started)
        return history(bandit, now_us, first, self.world.answer)
