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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi_common.core.state import BASE_VERSION, Failure
from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.events_pb2 import Event, TrainingRequested
from bohdi_common.events.topics import TRAINING_REQUESTS
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, ModelBlocked, ModelRef, ModelRefused, Sampling
from bohdi_common.models.versions import MANIFEST, VersionStore
from bohdi_common.runtime.shell import Clock, wall_clock_us
from services.training import launchers
from services.training.job import (
    Checkpointing,
    FineTuned,
    FineTuning,
    LaunchFailed,
    TrainingDiverged,
    TrainingRegressed,
    TrainingStopped,
)
from services.training.job_files import FineTune, JobFolder
from services.training.lessons import Lessons, lessons_of
from services.training.samples import MissingSample, Samples

_log = logging.getLogger("bohdi")
CAPACITY = 1  # one training fills the machine
_SEED_BITS = 31
_REASON_CHARS = 500
_TRIALS = 4  # questions, before a version that says nothing is refused

Progress = Callable[[int, float], None]


@dataclass
class Training:
    """`folder_of` finds a version's folder, the base included; `store_of` a run's versions; `fine_tune` trains in
    this process, where a run's settings have it so."""

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
        """TargetPromoted, or TrainingFailed. Raises ModelBlocked for a disk that is full, say."""
        asked = event.training_requested
        try:
            about = await self._trained(event.run_id, asked)
            trial = await self._tried(event.run_id, asked)
        except (*_FAILURES, OSError) as error:
            _log.error("the training of %s failed: %s", asked.version, error)
            with suppress(ValueError, OSError):  # of a name that is none, or a disk that is away
                self._folder(event.run_id, asked).remove()  # it may be what fills the disk
            if isinstance(error, OSError):
                raise ModelBlocked(f"{_told(error)}: mend that, or make room") from error
            return [codec.result(event, self.name, self.clock(), "training_failed", _failed(asked, error))]
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
                self._folder(run_id, asked).remove()
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
        settings, folder = asked.settings.training, self._folder(run_id, asked)
        lessons = self._lessons(run_id, asked)
        folder.write(self._job(run_id, asked, lessons, folder), settings.timeout_s)
        done = launchers.run(folder, settings, self.fine_tune, stop.is_set, self.on_step)
        figures = _figures(len(lessons.order), done) | {"launcher": launchers.launcher_of(settings)}
        about = {"request_hash": asked.request_hash, "figures": figures}
        self.store_of(run_id).publish(asked.version, folder.out, about)
        folder.remove()
        return figures

    def _folder(self, run_id: str, asked: TrainingRequested) -> JobFolder:
        return JobFolder(self.store_of(run_id).job(asked.version, asked.request_hash))

    def _job(self, run_id: str, asked: TrainingRequested, lessons: Lessons, folder: JobFolder) -> FineTuning:
        settings, target = asked.settings.training, asked.settings.target
        saving = settings.checkpoint_steps or settings.checkpoint_s
        return FineTuning(
            base=self.folder_of(ModelRef.of(target, asked.base_version, run_id)),
            root=self.folder_of(ModelRef.of(target, BASE_VERSION, run_id)),
            out=folder.out,
            examples=lessons.examples,
            order=lessons.order,
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
            stm_perplexity=settings.stm_perplexity,
            packing=settings.packing,
            preferences=lessons.preferences,
            dpo_beta=settings.dpo_beta,
            dpo_learning_rate=settings.dpo_learning_rate,
            dpo_epochs=settings.dpo_epochs,
            held_back=lessons.held_back,
            held_back_loss_rise=settings.held_back_loss_rise,
            sharded=settings.sharding == pb.SHARDING_FSDP,
            average_with=[self.folder_of(ModelRef.of(target, v, run_id)) for v in asked.average_with],
            seed=int(asked.request_hash, 16) % 2**_SEED_BITS,
            checkpoints=Checkpointing(
                folder.checkpoints, asked.request_hash, settings.checkpoint_steps, settings.checkpoint_s
            )
            if saving
            else None,
        )

    def _lessons(self, run_id: str, asked: TrainingRequested) -> Lessons:
        """Raises MissingSample, and ValueError when all samples are held back."""
        prompt = prompts.load(asked.settings.prompts)
        found = self.samples.fetch(run_id, sorted(set(asked.samples)))
        return lessons_of(run_id, asked, found, prompt.ask_answer)

    async def _tried(self, run_id: str, asked: TrainingRequested) -> str:
        """The new version can be asked before anybody is told of it; one that will not do gives way to that before."""
        target = asked.settings.target
        before = ModelRef.of(target, asked.base_version, run_id)
        try:
            await self.models.serve(ModelRef.of(target, asked.version, run_id), before)
            return await self._trial(run_id, asked)
        except ModelRefused:
            await self.models.serve(before, before)
            raise

    async def _trial(self, run_id: str, asked: TrainingRequested) -> str:
        """What the new version answers to the first of the questions drawn that it answers at all: it loads, and it
        speaks. One empty answer among thousands is no reason to throw a training away."""
        first = list(dict.fromkeys(asked.samples))[:_TRIALS]
        prompt = prompts.load(asked.settings.prompts)
        sampling = Sampling(asked.settings.harvest.answer_max_tokens)
        model = ModelRef.of(asked.settings.target, asked.version, run_id)
        found = self.samples.fetch(run_id, first)
        for sequence in first:
            reply = await self.models.complete(model, prompt.ask_answer(found[sequence].question), sampling)
            if text := reply.completions[0].text.strip():
                return text
        raise ModelRefused(f"{asked.version} gives no answer to {len(first)} questions that it was trained on")


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)


_FAILURES = (TrainingDiverged, TrainingRegressed, LaunchFailed, MissingSample, ModelRefused, ValueError)


def _failed(asked: TrainingRequested, error: Exception) -> dict[str, Any]:
    """The body of TrainingFailed."""
    settings = asked.settings.training
    body = {
        "version": asked.version,
        "failure": Failure.REJECTED.value,
        "reason": str(error)[:_REASON_CHARS],
        "launcher": launchers.launcher_of(settings),
        "processes": launchers.processes_of(settings),
    }
    if isinstance(error, TrainingRegressed):
        body |= {"held_back": error.samples, "held_back_loss_base": error.base, "held_back_loss": error.new}
    return body


def _figures(examples: int, done: FineTuned) -> dict[str, Any]:
    """What TargetPromoted says of a fine-tune on so many draws, by its fields."""
    tokens = sum(counts.tokens for counts in done.masked.values())
    masked = sum(counts.masked for counts in done.masked.values())
    return {
        "examples": examples,
        "steps": done.steps,
        "loss_first": done.first_loss,
        "loss_last": done.last_loss,
        "seconds": done.seconds,
        "tokens": done.tokens,
        "masked_share": masked / tokens if tokens else 0.0,
        "masked": [
            {"model": model, "tokens": counts.tokens, "masked": counts.masked}
            for model, counts in sorted(done.masked.items())
        ],
        "fully_masked": done.fully_masked,
        "preferences": done.preferences,
        "preference_loss_first": done.preference_first_loss,
        "preference_loss_last": done.preference_last_loss,
        "held_back": done.held_back,
        "held_back_loss_base": done.held_back_loss_base,
        "held_back_loss": done.held_back_loss,
        "processes": done.processes,
        "resumed_step": done.resumed_step,
    }
