"""TRL's SFTTrainer with all off that one fine-tune does not need: reports, evaluation, its own checkpoints, shuffling.

Several processes train one model by torch's DistributedDataParallel, or by FSDP where a job is `sharded`: each takes
every n-th pass of a step, and their gradients are averaged. TRL divides the loss of a pass by the tokens of the whole
step, those of all processes, so a step is the same however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from services.training import ranks, sharding
from services.training.checkpoints import Checkpoint, Writer
from services.training.job import FineTuning, Row, TrainingDiverged, TrainingStopped
from services.training.packing import check_sound, rows_per_pass
from services.training.recipe import optimizer_for, schedule_for

# Rows times the token limit of one forward and backward; a larger batch is made of several (gradient accumulation).
MAX_TOKENS_PER_PASS = 16_384
_MAX_GRADIENT_NORM = 1.0
_IGNORED = -100
_FEW_LOGITS = 4_000_000  # of a pass: 16 MB in float32
STAGE = "examples"

datasets.disable_progress_bars()


def train(
    job: FineTuning,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    order: Sequence[int],
    since: Checkpoint | None,
    fresh: Callable[[], Any],
) -> tuple[Any, list[float]]:
    """Trains what is trainable of `model` on `rows` in `order`, from the checkpoint `since` on; returns the model on
    the CPU and the loss of every step. What was sharded is of no use after: `fresh` loads the model once more. Raises
    TrainingDiverged, TrainingStopped, or ValueError for a model whose rows cannot be packed."""
    set_seed(job.seed)
    if job.packing:
        check_sound(model, rows, tokenizer.pad_token_id)
    steps = job.epochs * math.ceil(len(order) / job.batch)
    watch = Watch(job, STAGE, since)
    settings = _settings(job, [len(rows[at].ids) for at in order])
    trainer = _Trainer(
        model=model,
        args=settings,
        train_dataset=_dataset(rows, order, settings.per_device_train_batch_size * ranks.count()),
        processing_class=tokenizer,
        callbacks=[watch],
    )
    trainer.optimizer_of = partial(
        optimizer_for,
        learning_rate=job.learning_rate,
        muon_learning_rate=job.muon_learning_rate,
        weight_decay=job.weight_decay,
    )
    trainer.schedule_of = partial(schedule_for, warmup_share=job.warmup_share, decay_share=job.decay_share)
    finish(trainer, watch, f"of {steps} steps")
    return sharding.whole_model(trainer.model, fresh) if job.sharded else plain_model(trainer), watch.losses


def finish(trainer: Any, watch: Watch, of: str) -> None:
    """Trains to the end. Raises TrainingStopped, with `of` in what it says."""
    watch.trainer = trainer
    trainer.since = watch.since
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(watch.since.folder) if watch.since else None)
    if watch.stopped:
        raise TrainingStopped(f"stopped after {len(watch.losses)} {of}")


def plain_model(trainer: Any) -> Any:
    """The trained model on the CPU, without what the trainer put around it: on a GPU that is autocast, and what is
    measured of the model later shall be without."""
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).cpu()


class OurOwn:
    """Has a trainer of transformers take optimizer and schedule from us, which with FSDP it does in no other way, and
    go on from a checkpoint of ours in the place of one of its own."""

    optimizer_of: Callable[[Any], torch.optim.Optimizer]
    schedule_of: Callable[[Any, int], Any]
    since: Checkpoint
    model: Any
    optimizer: Any = None
    lr_scheduler: Any = None

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        sharding.shard_on_cpu(self)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.optimizer_of(self.model if model is None else model)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = self.schedule_of(self.optimizer, num_training_steps)
        return self.lr_scheduler

    def _load_from_checkpoint(self, folder: str, model: Any = None) -> None:
        self.since.put(self.model)

    def _load_optimizer_and_scheduler(self, folder: str) -> None:
        self.since.put_rates(self.optimizer, self.lr_scheduler)

    def _load_rng_state(self, folder: str) -> None:
        self.since.put_random()


class _Trainer(OurOwn, SFTTrainer):
    """Keeps each step's loss, which SFTTrainer gives away only by logging."""

    step_loss = 0.0

    def compute_loss(self, model: Any, inputs: dict[str, Any], **kwargs: Any) -> Any:
        """TRL's head, which holds no logits, scores every position on a CPU, those of the prompts too, and measures
        more than a loss: a fifth of a step of the micro-world. Where the logits are few the model's own loss does."""
        logits = inputs["input_ids"].numel() * self.model.config.get_text_config().vocab_size
        loss_of = super(SFTTrainer, self).compute_loss if logits <= _FEW_LOGITS else super().compute_loss
        loss = loss_of(model, {**inputs, "use_cache": False}, **kwargs)
        # The parts of one step are each already divided by the tokens of the whole step.
        self.step_loss += loss.item()
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it walks over all parameters, 1 ms of the 33 of a step of the micro-world."""
        return 0


class Watch(TrainerCallback):
    """Tells the job of every step, asks whether to go on, stops at a loss that is not finite, and saves checkpoints.
    `before`: the losses of the stages that are done; `extra`: what else a checkpoint is to hold. `since`: the
    checkpoint, if it is of this stage."""

    trainer: Any

    def __init__(
        self,
        job: FineTuning,
        stage: str,
        since: Checkpoint | None,
        before: Mapping[str, list[float]] = MappingProxyType({}),
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._job = job
        self._stage = stage
        self._done_before = sum(map(len, before.values()))
        self._writer = Writer(job.checkpoints, stage, before, extra) if job.checkpoints else None
        self.since = since if since and since.stage == stage else None
        self.losses = list(self.since.losses) if self.since else []
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        loss = ranks.mean(self.trainer.step_loss)
        self.trainer.step_loss = 0.0
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss on {self._stage} is {loss} at step {state.global_step}")
        self.losses.append(loss)
        self._job.on_step(self._done_before + state.global_step, loss)
        more = state.global_step < state.max_steps
        self.stopped = more and ranks.anybody(self._job.stop())
        control.should_training_stop = control.should_training_stop or self.stopped
        if more and self._writer and ranks.first_says(self._writer.due(state.global_step)):
            self._writer.save(self.trainer, self.losses)


def _settings(job: FineTuning, lengths: Sequence[int]) -> SFTConfig:
    """`lengths`: tokens of the rows in the order of training."""
    share = job.batch // ranks.count()
    rows = rows_per_pass(lengths, share, MAX_TOKENS_PER_PASS) if job.packing else padded_rows(job, job.max_tokens)
    return SFTConfig(
        **arguments(job, rows),
        num_train_epochs=job.epochs,
        completion_only_loss=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=job.packing,
        max_length=None,  # rows are cut already
    )


def arguments(job: FineTuning, rows: int) -> dict[str, Any]:
    """What every trainer here is told, with `rows` a pass and as many passes on each process as make a batch."""
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(job.out),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": job.batch // (rows * ranks.count()),
        "ddp_find_unused_parameters": False,
        **sharding.arguments(job.sharded),
        "max_grad_norm": _MAX_GRADIENT_NORM,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "gradient_checkpointing": on_gpu,
        "seed": job.seed,
        "report_to": "none",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
    }


def padded_rows(job: FineTuning, tokens: int) -> int:
    """The largest divisor of a process's share of `batch` that keeps a pass of items of up to `tokens` within
    MAX_TOKENS_PER_PASS; one item at least."""
    share, fits = job.batch // ranks.count(), max(1, MAX_TOKENS_PER_PASS // tokens)
    return max(rows for rows in range(1, share + 1) if share % rows == 0 and rows <= fits)


def _dataset(rows: Sequence[Row], order: Sequence[int], round_of: int) -> datasets.Dataset:
    """Rows by reference: an example that comes many times is stored once. Where several processes take turns, rows with
    no loss fill the last turn, of `round_of` rows: accelerate would fill it with the first ones once more."""
    silent = Row(rows[0].ids[:2], [_IGNORED] * 2, cut=False)
    filling = [len(rows)] * (-len(order) % round_of if ranks.count() > 1 else 0)
    given = [*rows, silent]
    unique = datasets.Dataset.from_dict({"input_ids": [r.ids for r in given], "labels": [r.labels for r in given]})
    return unique.select([*order, *filling])
