"""How fast each model writes: a short burst of requests as a run makes them.

A model of this process is loaded and asked in a process of its own: that one can be ended in time, and when the memory
is not enough the system ends it and not the doctor. `python -m bohdi.doctor.speed` is that process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bohdi.doctor.asked import asked_of
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, Message, ModelRef, ModelRefused, ModelUnavailable, Sampling
from bohdi_common.runtime.config import Config, Model

AT_ONCE = 8  # of each kind
LONGEST_TOKENS = 128  # of a text: longer ones tell nothing more of the speed
_QUESTION = "Which river flows through both Vienna and Budapest, and into which sea?"
_DOMAIN = ("Geography", "Europe", "Rivers")
_ANSWERS = ("The Danube, into the Black Sea.", "The Rhine, into the North Sea.", "The Elbe.", "I cannot say.")


@dataclass(frozen=True)
class Request:
    """One request, so often; as JSON it goes to the other process."""

    kind: str
    messages: list[Message]
    max_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Speed:
    """`tokens_s`: completion tokens of all requests a second. `lengths`: mean tokens of a text by kind of request,
    where none was cut."""

    tokens_s: float
    lengths: dict[str, float]


def requests_of(config: Config, model: Model) -> list[Request]:
    """One of each kind that the model gets in a run, with its settings, but no longer than is good for a burst."""
    prompt, harvest, sprout, judging = prompts.load(config.prompts), config.harvest, config.sprout, config.judging
    candidates = _ANSWERS[: len(config.sources) + 1]
    every = {
        "answer": Request("answer", prompt.ask_answer(_QUESTION), harvest.answer_max_tokens, model.temperature_answer,
                          harvest.answer_top_p),
        "question": Request("question", prompt.ask_question(_DOMAIN), harvest.question_max_tokens,
                            model.temperature_question, harvest.question_top_p),
        "proposal": Request("proposal", prompt.ask_names(_DOMAIN[:1], [], config.bandit.sprout_names),
                            sprout.max_tokens, model.temperature_proposal, sprout.top_p),
        "verdict": Request("verdict", prompt.ask_verdict(_QUESTION, candidates), judging.max_tokens,
                           model.temperature_verdict, judging.top_p),
    }  # fmt: skip
    wanted = [asked.kind for asked in asked_of(config, model)]
    return [replace(every[kind], max_tokens=min(every[kind].max_tokens, LONGEST_TOKENS)) for kind in wanted]


async def burst(models: ChatModels, model: ModelRef, asked: Sequence[Request], at_once: int) -> Speed:
    """Asks all together, each `at_once` times. Raises ModelUnavailable or ModelRefused."""
    loop = asyncio.get_running_loop()
    if model.endpoint is None:  # loading is no part of the speed
        await models.complete(model, asked[0].messages, Sampling(max_tokens=1))
    start_s = loop.time()
    many = [request for request in asked for _ in range(at_once)]
    replies = await asyncio.gather(
        *(models.complete(model, r.messages, Sampling(r.max_tokens, r.temperature, r.top_p)) for r in many)
    )
    seconds = loop.time() - start_s
    written: dict[str, list[int]] = {}
    cut = set()
    for request, reply in zip(many, replies, strict=True):
        written.setdefault(request.kind, []).append(reply.completions[0].completion_tokens)
        cut |= {request.kind} if reply.completions[0].finish_reason == "length" else set()
    lengths = {kind: sum(counts) / len(counts) for kind, counts in written.items() if kind not in cut}
    return Speed(sum(map(sum, written.values())) / max(seconds, 1e-6), lengths)


async def burst_apart(model: ModelRef, asked: Sequence[Request], at_once: int) -> Speed:
    """The same of a model in a folder, in a process of its own, which ends with this call. Raises ModelUnavailable."""
    told = {"path": model.path, "name": model.name, "system": model.system, "at_once": at_once,
            "asked": [asdict(request) for request in asked]}  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "bohdi.doctor.speed",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, complaints = await process.communicate(json.dumps(told).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = (complaints.decode(errors="replace").strip().splitlines() or [f"ended with {process.returncode}"])[-1]
        killed = "the system ended it: not enough memory?" if process.returncode < 0 else last
        raise ModelUnavailable(killed)
    return Speed(**json.loads(said.splitlines()[-1]))


async def _here(told: dict[str, Any]) -> Speed:
    from bohdi_common.models.adapters import models

    made = models(lambda model: Path(model.path))
    try:
        ref = ModelRef(told["name"], path=told["path"], system=told["system"])
        return await burst(made, ref, [Request(**request) for request in told["asked"]], told["at_once"])
    finally:
        await made.close()


def main() -> None:
    try:
        print(json.dumps(asdict(asyncio.run(_here(json.load(sys.stdin))))))
    except (ModelUnavailable, ModelRefused, ValueError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
