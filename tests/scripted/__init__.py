"""The services as in production, on models that are scripted: no torch, answers by the micro-world's own checker.

`python -m tests.scripted.NAME` is `python -m services.NAME` with such models; a variable of the environment says how
they behave, so that a test may make them slow or take them away while the process runs.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bohdi_common.models.port import Message, ModelRef, ModelUnavailable, Reply, Sampling
from bohdi_common.models.scripted import ScriptedModels
from services.training.job import FineTuned, FineTuning
from tests.integration.killable import answer

LATENCY = "SCRIPTED_LATENCY_S"  # of every call, on average
AWAY = "SCRIPTED_AWAY"  # a file: while it is there, no model answers


class Scripted(ScriptedModels):
    """Models that know the world, take their time, and may be away."""

    def __init__(self, folder_of: object) -> None:
        super().__init__(_reply)
        self._mean_s = float(os.environ.get(LATENCY, "0.01"))
        self._away = Path(os.environ.get(AWAY, "/nonexistent"))

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        await asyncio.sleep(random.expovariate(1 / self._mean_s) if self._mean_s else 0)
        if self._away.exists():
            raise ModelUnavailable("the scripted endpoint is away")
        return await super().complete(model, messages, sampling)


def _reply(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
    return [answer(model, messages[-1]["content"]) for _ in range(sampling.n)]


def copied(job: FineTuning) -> FineTuned:
    """A fine-tune that learns nothing, in a moment."""
    time.sleep(float(os.environ.get(LATENCY, "0.01")))
    shutil.copytree(job.base, job.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    return FineTuned(steps=1, first_loss=1.0, last_loss=1.0, tokens=1, too_long=0, seconds=0.0)


def small(bandit: dict[str, Any] | None = None) -> dict[str, Any]:
    """Overrides that make the demo's configuration a run of seconds."""
    return {
        "bandit": {"rounds": 2, "steps": 2, "slots": 24, "rehearsal_questions": 24, **(bandit or {})},
        "training": {"passes": 1.0},
        "evaluation": None,
    }


NAMES: Sequence[str] = ("bandit", "tree_expansion", "generation", "judging", "training")
