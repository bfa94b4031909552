"""Training: fine-tunes the target on the samples drawn, publishes the result as a new version, tries it, promotes it.

A training that fails leaves the target as it is and is recorded as such. One that was killed after its version was
published finds the version complete and goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi_common.core.state import BASE_VERSION, Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, TrainingRequested
from bohdi_common.events.topics import TRAINING_REQUESTS
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, ModelRef, ModelRefused, Sampling
from bohdi_common.models.versions import MANIFEST, VersionStore
from bohdi_common.runtime.shell import Clock, wall_clock_us
from services.training.job import Example, FineTuned, FineTuning, TrainingDiverged, TrainingStopped
from services.training.samples import MissingSample, Samples

_log = logging.getLogger("bohdi")
CAPACITY = 1  # one training fills the machine
_SEED_BITS = 31

FineTune = Callable[[FineTuning], FineTuned]
Progress = Callable[[int, float], None]


@dataclass
class Training:
    """`folder_of` finds a version's folder, the base included; `store_of` a run's versions; `fine_tune` trains."""

    models: ChatModels
    samples: Samples
    store_of: Callable[[str], VersionStore]
    folder_of: Callable[[ModelRef], Path]
    fine_tune: FineTune
    on_step: Progress = field(default=lambda step, loss: None)
    clock: Clock = wall_clock_us
    name: str = field(default="training", init=False)
    topic = TRAINING_REQUESTS

    async def handle(self, event: Event) -> Sequence[Event]:
        """TargetPromoted, or TrainingFailed."""
        asked = event.training_requested
        try:
            about = await self._trained(event.run_id, asked)
            await self._served(event.run_id, asked)
            trial = await self._trial(event.run_id, asked)
        except (TrainingDiverged, MissingSample, ModelRefused, ValueError, OSError) as error:
            _log.error("the training of %s failed: %s", asked.version, error)
            body = {"version": asked.version, "failure": Failure.REJECTED.value, "reason": str(error)[:500]}
            return [codec.result(event, self.name, self.clock(), "training_failed", body)]
        manifest = self.store_of(event.run_id).path(asked.version) / MANIFEST
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        body = {**about, "version": asked.version, "manifest_digest": digest, "trial_answer": trial}
        return [codec.result(event, self.name, self.clock(), "target_promoted", body)]

    async def _trained(self, run_id: str, asked: TrainingRequested) -> dict[str, Any]:
        """Makes the version unless it is there already; gives the figures of its making."""
        versions = self.store_of(run_id)
        standing = versions.path(asked.version) / MANIFEST
        if standing.is_file() and not versions.check(asked.version):
            about = json.loads(standing.read_bytes())["about"]
            if about["request_hash"] == asked.request_hash:
                return dict(about["figures"])
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._train, run_id, asked, stop)
        except asyncio.CancelledError:
            stop.set()  # the thread cannot be cancelled: it ends itself at its next step
            raise
        except TrainingStopped as error:
            raise asyncio.CancelledError from error

    def _train(self, run_id: str, asked: TrainingRequested, stop: threading.Event) -> dict[str, Any]:
        settings = asked.settings.training
        examples, order = self._examples(run_id, asked)
        target, versions = asked.settings.target, self.store_of(run_id)
        out = versions.aside(asked.version)
        done = self.fine_tune(
            FineTuning(
                base=self.folder_of(ModelRef.of(target, asked.base_version, run_id)),
                root=self.folder_of(ModelRef.of(target, BASE_VERSION, run_id)),
                out=out,
                examples=examples,
                order=order,
                batch=settings.batch,
                epochs=settings.epochs,
                learning_rate=settings.learning_rate,
                muon_learning_rate=settings.muon_learning_rate,
                weight_decay=settings.weight_decay,
                warmup_share=settings.warmup_share,
                decay_share=settings.decay_share,
                max_tokens=settings.max_tokens,
                lora_rank=settings.lora_rank,
                lora_alpha=settings.lora_alpha,
                average_with=[self.folder_of(ModelRef.of(target, v, run_id)) for v in asked.average_with],
                seed=int(asked.request_hash, 16) % 2**_SEED_BITS,
                stop=stop.is_set,
                on_step=self.on_step,
            )
        )
        figures = {
            "examples": len(order),
            "steps": done.steps,
            "loss_first": done.first_loss,
            "loss_last": done.last_loss,
            "seconds": done.seconds,
            "tokens": done.tokens,
        }
        versions.publish(asked.version, out, {"request_hash": asked.request_hash, "figures": figures})
        return figures

    def _examples(self, run_id: str, asked: TrainingRequested) -> tuple[list[Example], list[int]]:
        """Every sample once, and the order in which they are seen. Raises MissingSample."""
        unique = sorted(set(asked.samples))
        prompt = prompts.load(asked.settings.prompts)
        found = self.samples.fetch(run_id, unique)
        examples = [Example(prompt.ask_answer(found[seq].question), found[seq].answer) for seq in unique]
        position = {seq: index for index, seq in enumerate(unique)}
        return examples, [position[seq] for seq in asked.samples]

    async def _served(self, run_id: str, asked: TrainingRequested) -> None:
        """The new version can be asked, before anybody is told of it."""
        target = asked.settings.target
        before = ModelRef.of(target, asked.base_version, run_id)
        await self.models.serve(ModelRef.of(target, asked.version, run_id), before)

    async def _trial(self, run_id: str, asked: TrainingRequested) -> str:
        """What the new version answers to a question it was trained on: it loads, and it speaks."""
        first = next(iter(self.samples.fetch(run_id, [asked.samples[0]]).values()))
        messages = prompts.load(asked.settings.prompts).ask_answer(first.question)
        sampling = Sampling(asked.settings.harvest.answer_max_tokens)
        model = ModelRef.of(asked.settings.target, asked.version, run_id)
        reply = await self.models.complete(model, messages, sampling)
        text = reply.completions[0].text.strip()
        if not text:
            raise ModelRefused(f"{asked.version} gives no answer")
        return text
