"""TRL's SFTTrainer with all off that one fine-tune does not need: reports, evaluation, checkpoints, shuffling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from services.training.job import FineTuning, Row, TrainingDiverged, TrainingStopped
from services.training.packing import check_sound, rows_per_pass
from services.training.recipe import optimizer_for, schedule_for

# Rows times the token limit of one forward and backward; a larger batch is made of several (gradient accumulation).
MAX_TOKENS_PER_PASS = 16_384
_MAX_GRADIENT_NORM = 1.0

datasets.disable_progress_bars()


def train(
    job: FineTuning, model: Any, tokenizer: Any, rows: Sequence[Row], order: Sequence[int]
) -> tuple[Any, list[float]]:
    """Trains what is trainable of `model` on `rows` in `order`; returns the model on the CPU and the loss of every
    step. Raises TrainingDiverged, TrainingStopped, or ValueError for a model whose rows cannot be packed."""
    set_seed(job.seed)
    if job.packing:
        check_sound(model, rows, tokenizer.pad_token_id)
    optimizer = optimizer_for(
        model,
        learning_rate=job.learning_rate,
        muon_learning_rate=job.muon_learning_rate,
        weight_decay=job.weight_decay,
    )
    steps = job.epochs * math.ceil(len(order) / job.batch)
    schedule = schedule_for(optimizer, steps, warmup_share=job.warmup_share, decay_share=job.decay_share)
    watch = Watch(job)
    trainer = _Trainer(
        model=model,
        args=_settings(job, [len(rows[at].ids) for at in order]),
        train_dataset=_dataset(rows, order),
        processing_class=tokenizer,
        optimizers=(optimizer, schedule),
        callbacks=[watch],
    )
    return finished(trainer, watch, f"of {steps} steps"), watch.losses


def finished(trainer: Any, watch: Watch, of: str) -> Any:
    """Trains to the end; returns the model on the CPU. Raises TrainingStopped, with `of` in what it says."""
    watch.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if watch.stopped:
        raise TrainingStopped(f"stopped after {len(watch.losses)} {of}")
    return trainer.model.cpu()


class _Trainer(SFTTrainer):
    """Keeps each step's loss, which SFTTrainer gives away only by logging, and stops at one that is not finite."""

    step_loss = 0.0

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(f"the loss is {value} at step {self.state.global_step + 1}")
        # The parts of one step are each already divided by the tokens of the whole step.
        self.step_loss += value
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it walks over all parameters, 1 ms of the 33 of a step of the micro-world."""
        return 0


class Watch(TrainerCallback):
    """Tells the job of every step and asks whether to go on. `before`: steps that another trainer did already."""

    trainer: Any

    def __init__(self, job: FineTuning, before: int = 0) -> None:
        self._job = job
        self._before = before
        self.losses: list[float] = []
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.losses.append(self.trainer.step_loss)
        self.trainer.step_loss = 0.0
        self._job.on_step(self._before + state.global_step, self.losses[-1])
        self.stopped = state.global_step < state.max_steps and self._job.stop()
        control.should_training_stop = control.should_training_stop or self.stopped


def _settings(job: FineTuning, lengths: Sequence[int]) -> SFTConfig:
    """`lengths`: tokens of the rows in the order of training."""
    rows = rows_per_pass(lengths, job.batch, MAX_TOKENS_PER_PASS) if job.packing else padded_rows(job, job.max_tokens)
    return SFTConfig(
        **arguments(job, rows),
        num_train_epochs=job.epochs,
        completion_only_loss=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=job.packing,
        max_length=None,  # rows are cut already
    )


def arguments(job: FineTuning, rows: int) -> dict[str, Any]:
    """What every trainer here is told, with `rows` a pass and as many passes as make a batch."""
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(job.out),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": job.batch // rows,
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
    """The largest divisor of `batch` that keeps a pass of items of up to `tokens` within MAX_TOKENS_PER_PASS; one item
    at least."""
    fits = max(1, MAX_TOKENS_PER_PASS // tokens)
    return max(rows for rows in range(1, job.batch + 1) if job.batch % rows == 0 and rows <= fits)


def _dataset(rows: Sequence[Row], order: Sequence[int]) -> datasets.Dataset:
    """Rows by reference: an example that comes many times is stored once."""
    unique = datasets.Dataset.from_dict({"input_ids": [r.ids for r in rows], "labels": [r.labels for r in rows]})
    return unique.select(order)
