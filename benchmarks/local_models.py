"""The local adapter: requests of one caller after another's answer, and of many callers at once."""

from __future__ import annotations

import asyncio
import json
import time
from functools import cache

from benchmarks.rows import Measured
from bohdi.embedded import real_parts
from bohdi.microworld import BENCHMARK, WEIGHTS
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, Message, ModelRef, Sampling

CALLERS = (1, 32, 128)
_MODEL = ModelRef("target")
_SAMPLING = Sampling(max_tokens=16, temperature=0.6)
_TURNS, _TURN_S = 5, 1.5


def per_second(callers: int) -> Measured:
    """Answers a second to held-out questions of the micro-world by its shipped target; each caller asks its next
    question when it has its answer. The best turn counts."""
    rates = _rates()
    return Measured(rates[callers], "requests/s", f"one caller, {rates[1]:.1f}", rates[callers] / rates[1])


@cache
def _rates() -> dict[int, float]:
    """By number of callers: all are measured in one run, in turn."""
    return asyncio.run(_turns())


async def _turns() -> dict[int, float]:
    asked = [json.loads(line)["question"] for line in BENCHMARK.read_text(encoding="utf-8").splitlines()]
    questions = [prompts.load("micro-v1").ask_answer(question) for question in asked]
    models = real_parts().models(lambda model: WEIGHTS / model.name)
    try:
        await models.complete(_MODEL, questions[0], _SAMPLING)  # loads it
        turns = [{callers: await _turn(models, questions, callers) for callers in CALLERS} for _ in range(_TURNS)]
    finally:
        await models.close()
    return {callers: max(turn[callers] for turn in turns) for callers in CALLERS}


async def _turn(models: ChatModels, questions: list[list[Message]], callers: int) -> float:
    start_s = time.perf_counter()

    async def caller(number: int) -> int:
        done = 0
        while time.perf_counter() < start_s + _TURN_S:
            await models.complete(_MODEL, questions[(number + done) % len(questions)], _SAMPLING)
            done += 1
        return done

    done = sum(await asyncio.gather(*map(caller, range(callers))))
    return done / (time.perf_counter() - start_s)
