"""Models and a trainer that say what chance says: fast and slow, away, refusing, abstaining, and rubbish at times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import TRAINING_REQUESTS
from bohdi_common.models.port import Completion, Message, ModelRef, ModelRefused, ModelUnavailable, Reply, Sampling
from bohdi_common.runtime.shell import Clock
from tests.simulation.weather import Weather

_LETTERS = "msl"  # main, secondary and leaf domains are called m0, s0, l0, ...
_WIDTH = 2  # children of a node; then nothing is missing
_LATENCY_S = 0.5
_DAWDLE_S = 120.0
_RUBBISH = ("", "none", "\n\n", "?!", "1. \ud7ff\n2. x\n" * 3, "a" * 300, "Judge: | | |")


@dataclass
class Models:
    """The chat-model port. One and the same request may be answered differently when it is made again."""

    weather: Weather

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        weather, chance = self.weather, self.weather.chance.random
        await asyncio.sleep(_DAWDLE_S * chance() if chance() < weather.dawdle else _LATENCY_S * chance())
        if chance() < weather.away:
            raise ModelUnavailable(f"{model.name} is away")
        if chance() < weather.refuse:
            raise ModelRefused(f"{model.name} refuses")
        prompt = messages[-1]["content"]
        texts = [self._text(prompt) for _ in range(sampling.n)]
        return Reply(tuple(Completion(text, "stop", 1) for text in texts), 1, 0.0)

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        if self.weather.chance.random() < self.weather.away:
            raise ModelUnavailable(f"{model.version} cannot be served")

    async def close(self) -> None: ...

    def _text(self, prompt: str) -> str:
        chance = self.weather.chance
        if chance.random() < self.weather.rubbish:
            return chance.choice(_RUBBISH)
        if prompt.startswith("Propose: "):
            place, *known = prompt.removeprefix("Propose: ").split(" | ")
            letter = _LETTERS[place.count(" > ")]
            missing = [f"{letter}{n}" for n in range(_WIDTH) if f"{letter}{n}" not in known]
            return chance.choice(missing) if missing else "none"
        if prompt.startswith("Ask: "):
            return f"what of {prompt.removeprefix('Ask: ')} {chance.randrange(1000)}"
        if prompt.startswith("Judge: "):
            return chance.choice(prompt.split(" | ")[1:])
        return chance.choice(("one", "two"))


@dataclass
class ScriptedTraining:
    """The training service without a training: nothing is written, the version is said to be there."""

    weather: Weather
    clock: Clock
    name: str = field(default="training", init=False)
    topic = TRAINING_REQUESTS

    async def handle(self, event: Event) -> Sequence[Event]:
        weather, chance = self.weather, self.weather.chance.random
        await asyncio.sleep(2 * _LATENCY_S * chance())
        asked = event.training_requested
        if chance() < weather.away:
            raise ModelUnavailable("no accelerator is free")
        if chance() < weather.refuse:
            body: dict[str, Any] = {"failure": Failure.REJECTED.value, "reason": "the loss is no number"}
            return [codec.result(event, self.name, self.clock(), "training_failed", {"version": asked.version, **body})]
        body = {"version": asked.version, "manifest_digest": "0" * 64, "examples": len(asked.samples)}
        return [codec.result(event, self.name, self.clock(), "target_promoted", body)]
