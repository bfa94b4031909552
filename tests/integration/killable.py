"""A run that kills its own process at a chosen moment: `python -m tests.integration.killable FOLDER PHASE NTH MODELS`.

PHASE is one of PHASES or `none`; the process sends itself SIGKILL when the phase comes for the NTH time, after leaving
the phase's name in FOLDER.hit. MODELS is `scripted` (answers by the world's own checker, no torch) or `real` (the
shipped micro-world and its training). Every input that a service takes up is written to FOLDER.handled.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi.embedded import Parts, Watcher, host_run, new_run, real_parts
from bohdi.microworld import world
from bohdi.run_folder import RunFolder, resolved
from bohdi_common.core.decide import Fact
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.models.port import Message, ModelRef, Sampling
from bohdi_common.models.scripted import ScriptedModels
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime import config
from bohdi_common.runtime.shell import Service
from services.bandit.handler import Bandit
from services.training.job import FineTuned, FineTuning

PHASES = ("sprout", "answers_before_verdict", "verdict_before_fold", "training", "before_rename", "introspection")
DEMO = Path("configs/demo.yaml")


@dataclass
class Killer:
    """Ends the process when `phase` has come `nth` times."""

    phase: str
    nth: int
    marker: Path
    seen: int = 0

    def passing(self, phase: str) -> None:
        if phase != self.phase:
            return
        self.seen += 1
        if self.seen == self.nth:
            self.marker.write_text(phase)
            os.kill(os.getpid(), signal.SIGKILL)


_solved = functools.lru_cache(maxsize=4096)(world.solve)  # each question is answered and judged by all


def answer(model: ModelRef, prompt: str) -> str:
    """What a perfect source, or the target that learns nothing, says: it knows its own fields and no others."""
    if prompt.startswith("Propose: "):
        path, *known = prompt.removeprefix("Propose: ").split(" | ")
        missing = [c for c in world.children(tuple(path.split(" > ")[1:])) if c not in known]
        return random.choice(missing) if missing else "none"
    if prompt.startswith("Ask: "):
        return world.ask(tuple(prompt.removeprefix("Ask: ").split(" > ")), random.Random())[0]
    if prompt.startswith("Judge: "):
        question, *candidates = prompt.removeprefix("Judge: ").split(" | ")
        solved = _solved(question)
        return solved[1] if solved and solved[1] in candidates else "none"
    solved = _solved(prompt)
    assert solved is not None
    knows = world.TARGET_KNOWS if model.name == "target" else world.EXPERTS[model.name]
    return solved[1] if solved[0][0] in knows else f"{model.name} does not know"


def scripted_parts(killer: Killer) -> Parts:
    def reply(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
        prompt = messages[-1]["content"]
        if prompt.startswith("Propose: "):
            killer.passing("sprout")
        if prompt.startswith("Judge: "):
            killer.passing("answers_before_verdict")
        return [answer(model, prompt) for _ in range(sampling.n)]

    def copy(job: FineTuning) -> FineTuned:
        killer.passing("training")
        shutil.copytree(job.base, job.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        return FineTuned(steps=1, first_loss=1.0, last_loss=1.0, tokens=1, too_long=0, seconds=0.0)

    return Parts(models=lambda folder_of: ScriptedModels(reply), fine_tune=copy)


def with_kills(parts: Parts, killer: Killer, handled: Path) -> Parts:
    """The parts, with the moments in them at which the process may be killed, and a note of every input handled."""

    class KillableStore(VersionStore):
        def _rename(self, written: Path, final: Path) -> None:
            killer.passing("before_rename")
            super()._rename(written, final)

    class KillableBandit(Bandit):
        def handle(self, event: Event) -> list[Event]:
            if event.WhichOneof("body") == "harvest_judged":
                killer.passing("verdict_before_fold")
            return super().handle(event)

        def _decisions(self, cause: str, due: list[Fact]) -> list[Event]:
            given = super()._decisions(cause, due)
            if any(event.WhichOneof("body") == "nodes_reborn" for event in given):
                killer.passing("introspection")
            return given

    class Noted:
        def __init__(self, inner: Service) -> None:
            self.name, self.topic, self._inner = inner.name, inner.topic, inner

        async def handle(self, event: Event) -> Sequence[Event]:
            with handled.open("a") as file:
                file.write(f"{self.name} {event.event_id}\n")
            return await self._inner.handle(event)

    parts.versions, parts.bandit, parts.around = KillableStore, KillableBandit, Noted
    return parts


class StepWatcher(Watcher):
    def __init__(self, killer: Killer) -> None:
        self.killer = killer

    def on_step(self, step: int, loss: float) -> None:
        self.killer.passing("training")


def small(models: str) -> config.Config:
    """The demo's configuration, small enough to be killed many times."""
    overrides: dict[str, Any] = {
        "bandit": {"rounds": 3, "steps": 2, "slots": 24, "introspection": "two_sample", "window": 4,
                   "rehearsal_questions": 24},
        "training": {"passes": 1.0},
    }  # fmt: skip
    whole = resolved(config.load(DEMO, overrides), DEMO.parent)
    return whole if models == "real" else whole.model_copy(update={"evaluation": None})


def main(folder: Path, phase: str, nth: int, models: str) -> None:
    run = RunFolder(folder)
    killer = Killer(phase, nth, folder.with_suffix(".hit"))
    make: Callable[[], Parts] = real_parts if models == "real" else lambda: scripted_parts(killer)
    parts = with_kills(make(), killer, folder.with_suffix(".handled"))
    parts.log = lambda path, create: SqliteLog.open(path, create=create)
    fresh = not folder.exists()
    if fresh:
        new_run(small(models), run, 1, parts)
    state = asyncio.run(host_run(run.load_config(), run, parts, StepWatcher(killer), resume=not fresh))
    print(state.finished)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
