"""One run of one arm of the study, in this process; its figures go to a JSON file."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from bohdi.embedded import Watcher, host_run, new_run, real_parts
from bohdi.figures import Figures
from bohdi.microworld import world
from bohdi.microworld.evaluate import accuracy, summary
from bohdi.run_folder import RunFolder, resolved
from bohdi_common.models.places import model_folder
from bohdi_common.models.port import ModelRef
from bohdi_common.models.scripted import ScriptedModels
from bohdi_common.runtime import config as configs

WORK = Path("benchmarks/work/study")
ORACLE = "oracle"


def result_file(arm: str, seed: int) -> Path:
    """Where the figures of a run are."""
    name = "".join(ch if ch.isalnum() else "-" for ch in arm)
    return WORK / f"{name}-{seed}.json"


def run_one(arm: str, raw: dict[str, Any], seed: int) -> None:
    """Runs the configuration `raw` to its end, scores every version of its target, and leaves the figures."""
    out = result_file(arm, seed)
    folder = RunFolder(out.with_suffix(".run"))
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder.path, ignore_errors=True)
    config = resolved(configs.parse(raw, arm), Path("configs"))
    parts = real_parts()
    if config.sources[0].name == ORACLE:
        parts.models = with_oracle(parts.models, seed)
    started, counting = time.process_time(), Counting()
    new_run(config, folder, seed, parts)
    state = asyncio.run(host_run(config, folder, parts, counting, resume=False))
    cpu_s = time.process_time() - started
    if not state.finished:
        raise RuntimeError(f"{arm}, seed {seed}: not finished: {state.paused or 'interrupted'}")
    scored = [accuracy(model_folder(folder.versions, ModelRef.of(config.target, v))) for v in state.versions]
    rounds = [used | vars(summary(domains)) for used, domains in zip(counting.used, scored, strict=True)]
    result = {
        "arm": arm, "seed": seed, "cpu_s": cpu_s, "rounds": rounds, "counts": state.counts,
        "questions": counting.questions, "tokens": state.spent_tokens,
        "steps": sum(training["steps"] for training in counting.figures.trainings),
        "trainings": counting.figures.trainings, "refused": len(counting.refused), "why_refused": counting.refused,
        "worst": min(scored[-1].values()), "sd": statistics.pstdev(scored[-1].values()), "domains": scored[-1],
    }  # fmt: skip
    out.write_text(json.dumps(result))
    shutil.rmtree(folder.path)


class Counting(Watcher):
    """What a run used up to each of its versions: pairs in store, samples trained on, and how many different ones; and
    why trainings gave no version."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.refused: list[str] = []
        self.questions = self._samples = 0
        self.used: list[dict[str, int]] = [{"pairs": 0, "samples": 0, "different": 0}]
        self._pairs = 0
        self._seen: set[int] = set()

    def on_event(self, event: Any) -> None:
        self.figures.add(event)
        match event.WhichOneof("body"):
            case "harvest_judged":
                self.questions += 1
                self._pairs += event.harvest_judged.counted
            case "harvest_failed" | "rehearsal_answered":
                self.questions += 1
            case "training_drawn":
                samples = event.training_drawn.samples
                self._seen.update(samples)
                self._samples += len(samples)
                self.used.append({"pairs": self._pairs, "samples": self._samples, "different": len(self._seen)})
            case "training_failed":
                self.refused.append(event.training_failed.reason)
                self.used.pop()


def with_oracle(local: Any, seed: int) -> Any:
    """The target in this process, and beside it a source that asks, answers and judges by the world's checker."""
    rng = random.Random(seed)

    def reply(model: Any, messages: Any, sampling: Any) -> list[str]:
        prompt = messages[-1]["content"]
        if prompt.startswith("Ask: "):
            path = tuple(prompt.removeprefix("Ask: ").split(" > "))
            return [world.ask(path, rng)[0] for _ in range(sampling.n)]
        question = prompt.removeprefix("Judge: ").split(" | ")[0]
        solved = world.solve(question)
        return [solved[1] if solved else "none"] * sampling.n

    class WithOracle:
        def __init__(self, folder_of: Any) -> None:
            self.local, self.oracle = local(folder_of), ScriptedModels(reply)

        async def complete(self, model: Any, messages: Any, sampling: Any) -> Any:
            models = self.oracle if model.name == ORACLE else self.local
            return await models.complete(model, messages, sampling)

        async def serve(self, model: Any, before: Any) -> None:
            await self.local.serve(model, before)

        async def close(self) -> None:
            await self.local.close()

    return WithOracle
