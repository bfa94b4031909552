"""Direct preference optimisation (arXiv 2305.18290) after the supervised fine-tune: TRL's DPOTrainer, on pairs of the
answer that the judges found best and one that they did not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader
from transformers import set_seed
from trl import DPOConfig, DPOTrainer

from services.training import trainer as supervised
from services.training.checkpoints import Checkpoint
from services.training.job import FineTuning, Row, TrainingStopped
from services.training.recipe import optimizer_for, schedule_for
from services.training.trainer import OurOwn, Watch, arguments, finish, padded_rows, plain_model

_IGNORED = -100
STAGE = "preferences"
_REFERENCE = "reference"  # in a checkpoint: what the model as it came made of the pairs, which it cannot say again


def prefer(
    job: FineTuning,
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[Row, Row]],
    losses: list[float],
    since: Checkpoint | None,
) -> tuple[Any, list[float]]:
    """Trains `model` to prefer the first row of each pair to the second, over what it preferred when it came, in the
    order given, `dpo_epochs` times, from the checkpoint `since` on; returns it on the CPU and the loss of every step.
    `losses`: those of the steps on examples before. A model under an adapter is trained in that adapter. Raises
    TrainingDiverged or TrainingStopped.

    Where several processes take turns, the first pairs come once more in the last turn of an epoch, to fill it."""
    set_seed(job.seed)
    steps = job.dpo_epochs * math.ceil(len(pairs) / job.batch)
    known = since.state[_REFERENCE] if since and since.stage == STAGE else None
    trainer = _PreferenceTrainer(
        job,
        known,
        model=model,
        args=_settings(job),
        train_dataset=_dataset(pairs),
        processing_class=tokenizer,
    )
    trainer.optimizer_of = partial(
        optimizer_for, learning_rate=job.dpo_learning_rate, muon_learning_rate=0.0, weight_decay=job.weight_decay
    )
    trainer.schedule_of = partial(schedule_for, warmup_share=job.warmup_share, decay_share=job.decay_share)
    watch = Watch(job, STAGE, since, {supervised.STAGE: losses}, {_REFERENCE: trainer.reference})
    trainer.add_callback(watch)
    finish(trainer, watch, f"of {steps} steps on preferences")
    trained = plain_model(trainer)
    if job.lora_rank > 0:
        trained.delete_adapter("ref")  # TRL's copy of the adapter as it came
    return trained, watch.losses


class _PreferenceTrainer(OurOwn, DPOTrainer):
    """Takes pairs that are tokenised, as the supervised rows are, and keeps each step's loss. `reference`: the
    log-probabilities of chosen and rejected completions under the model as it came, two tensors; computed unless known.
    """

    step_loss = 0.0

    def __init__(self, job: FineTuning, reference: list[torch.Tensor] | None, **kwargs: Any) -> None:
        self._job = job
        self.reference = reference
        super().__init__(**kwargs)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.step_loss += loss.item() / self.current_gradient_accumulation_steps
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted, as in the supervised trainer."""
        return 0

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """As TRL's, but it can be stopped, and leaves no progress bar and no cache file."""
        if self.reference is None:
            found: list[tuple[torch.Tensor, torch.Tensor]] = []
            for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False):
                if self._job.stop():
                    raise TrainingStopped("stopped while preferences were scored")
                found.append(self.compute_ref_log_probs(self.model, self._prepare_inputs(batch)))
            self.reference = [torch.cat(scores).cpu() for scores in zip(*found, strict=True)]
        for column, scores in zip(("ref_chosen_logps", "ref_rejected_logps"), self.reference, strict=True):
            dataset = dataset.add_column(column, scores.tolist())
        return dataset


def _settings(job: FineTuning) -> DPOConfig:
    return DPOConfig(
        **arguments(job, padded_rows(job, 2 * job.max_tokens)),
        num_train_epochs=job.dpo_epochs,
        beta=job.dpo_beta,
        max_length=None,  # rows are cut already
        precompute_ref_log_probs=True,  # else a second model stays in memory
    )


def _dataset(pairs: Sequence[tuple[Row, Row]]) -> datasets.Dataset:
    columns: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for better, worse in pairs:
        start = min(_start(better), _start(worse))
        columns["prompt_ids"].append(better.ids[:start])
        columns["chosen_ids"].append(better.ids[start:])
        columns["rejected_ids"].append(worse.ids[start:])
    return datasets.Dataset.from_dict(columns)


def _start(row: Row) -> int:
    """Where the completion begins."""
    return next(at for at, label in enumerate(row.labels) if label != _IGNORED)
