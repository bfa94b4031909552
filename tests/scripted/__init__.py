"""The services as in production, on models that are scripted: no torch, answers by the micro-world's own checker.

`python -m tests.scripted.NAME` is `python -m services.NAME` with such models; a variable of the environment says how
they behave, so that a test may make them slow or take them away while the process runs.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bohdi_common.models.port import Message, ModelRef, ModelUnavailable, Reply, Sampling
from bohdi_common.models.scripted import ScriptedModels
from services.training.job import FineTuned, FineTuning
from tests.integration.killable import answer

LATENCY = "SCRIPTED_LATENCY_S"  # of every call, on average
FIXED = "SCRIPTED_LATENCY_FIXED"  # set: every call takes just that long
IN_FLIGHT = "SCRIPTED_IN_FLIGHT"  # calls that each pool answers at once; unset: any number
AWAY = "SCRIPTED_AWAY"  # a file: while it is there, no model answers
LONG_BYTES = "SCRIPTED_LONG_BYTES"  # every eighth text of the first source is so long
_TIMER_LATE_S = 0.0005  # asyncio's timers are up to a millisecond late: calls of 0.1 s took 0.1007 on average


class Scripted(ScriptedModels):
    """Models that know the world, take their time, and may be away."""

    def __init__(self, folder_of: object) -> None:
        super().__init__(_reply)
        self._mean_s = float(os.environ.get(LATENCY, "0.01"))
        self._fixed = FIXED in os.environ
        self._free_s: dict[str, list[float]] = defaultdict(lambda: [0.0] * int(os.environ.get(IN_FLIGHT, "0")))
        self._away = Path(os.environ[AWAY]) if AWAY in os.environ else None

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        over_s = self._over_s(_pool(messages[-1]["content"]))
        await asyncio.sleep(over_s - time.monotonic() - _TIMER_LATE_S)
        if self._away is not None and self._away.exists():
            raise ModelUnavailable("the scripted endpoint is away")
        return await super().complete(model, messages, sampling)

    def _over_s(self, pool: str) -> float:
        """When the call that is made now is over: it waits for the server of its pool that is free first. A server goes
        on with the next call when it is done with one, whether or not the caller has heard of it by then."""
        servers, now_s = self._free_s[pool], time.monotonic()
        if not servers:
            return now_s + self._takes_s()
        over_s = max(now_s, servers[0]) + self._takes_s()
        heapq.heapreplace(servers, over_s)
        return over_s

    def _takes_s(self) -> float:
        if self._fixed or not self._mean_s:
            return self._mean_s
        return random.expovariate(1 / self._mean_s)


def _pool(prompt: str) -> str:
    """Which service asks: each has models of its own, also where all of them are in one process."""
    return {"Propose": "tree_expansion", "Judge": "judging"}.get(prompt.partition(":")[0], "generation")


def _reply(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
    return [answer(model, messages[-1]["content"]) + _rambling(model, messages) for _ in range(sampling.n)]


def _rambling(model: ModelRef, messages: list[Message]) -> str:
    """What follows on an answer of a model that does not stop."""
    prompt, size = messages[-1]["content"], int(os.environ.get(LONG_BYTES, "0"))
    asked = prompt.startswith(("Propose: ", "Ask: ", "Judge: "))
    return "u" * size if size and not asked and model.name != "target" and len(prompt) % 8 == 0 else ""


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
