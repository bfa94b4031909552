"""One fine-tune of the target in this process: TRL's SFTTrainer, on the completions only, in the order given.

Nothing here knows of versions or events: a folder comes in and a folder goes out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bohdi_common.models.huggingface import load_model, load_tokenizer, positions_of, saved_dtype
from bohdi_common.models.port import Message

# The losses that are reported are means over so many steps.
_LOSS_WINDOW = 10
_IGNORED = -100


class TrainingDiverged(Exception):
    """A loss or a weight is not a finite number; the weights are worthless."""


class TrainingStopped(Exception):
    """`stop` asked for the end before the last step; nothing was saved."""


@dataclass(frozen=True)
class Example:
    """One thing to learn: what the target was asked, and what it should have said."""

    messages: list[Message]
    completion: str


@dataclass(frozen=True)
class FineTuning:
    """One fine-tune. `order` says which of the `examples` are seen, in which order, in each epoch; one may come many
    times. The settings are those of TrainingSettings in the events."""

    base: Path
    out: Path
    examples: Sequence[Example]
    order: Sequence[int]
    batch: int
    learning_rate: float
    max_tokens: int
    epochs: int = 1
    muon_learning_rate: float = 0.0
    weight_decay: float = 0.0
    warmup_share: float = 0.0
    decay_share: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 0.0
    average_with: Sequence[Path] = ()
    seed: int = 0
    stop: Callable[[], bool] = field(default=lambda: False)
    on_step: Callable[[int, float], None] = field(default=lambda step, loss: None)


@dataclass(frozen=True)
class FineTuned:
    """What came of it. `tokens` counts what the model read, padding left out; `too_long` the unique examples that were
    cut at `max_tokens`, or left out where nothing of the completion was left."""

    steps: int
    first_loss: float
    last_loss: float
    tokens: int
    too_long: int
    seconds: float


def fine_tune(job: FineTuning) -> FineTuned:
    """Trains `job.base` on the examples and saves weights and tokenizer in `job.out`, a folder that transformers and
    vLLM load, whether LoRA was used or not.

    `stop` is asked and `on_step` (steps done, loss) called after every step. Raises ValueError for what cannot be
    trained, TrainingDiverged, or TrainingStopped."""
    started_s = time.monotonic()
    _check(job)
    tokenizer = load_tokenizer(job.base)
    model = load_model(job.base, torch.float32)
    rows = _tokenised(job, tokenizer, positions_of(model))
    position = {index: at for at, index in enumerate(i for i, row in enumerate(rows) if row is not None)}
    kept = [row for row in rows if row is not None]
    order = [position[index] for index in job.order if index in position]
    if not order:
        raise ValueError(f"no example has a completion within {job.max_tokens} tokens; raise max_tokens")
    # TRL takes seconds to import, which only a training shall pay.
    from services.training.trainer import train

    model, losses = train(job, model, tokenizer, kept, order)
    _average(model, job.average_with)
    _check_weights(model)
    model.to(saved_dtype(job.base)).save_pretrained(job.out)
    tokenizer.save_pretrained(job.out)
    return FineTuned(
        steps=len(losses),
        first_loss=_mean(losses[:_LOSS_WINDOW]),
        last_loss=_mean(losses[-_LOSS_WINDOW:]),
        tokens=job.epochs * sum(len(kept[at].ids) for at in order),
        too_long=sum(row is None or row.cut for row in rows),
        seconds=time.monotonic() - started_s,
    )


@dataclass(frozen=True)
class Row:
    """One tokenised example. Labels are -100 on the prompt; `cut` when it did not fit."""

    ids: list[int]
    labels: list[int]
    cut: bool


def _check(job: FineTuning) -> None:
    if not job.order:
        raise ValueError("order is empty: nothing to train on")
    if not all(0 <= index < len(job.examples) for index in job.order):
        raise ValueError(f"order names an example beyond the {len(job.examples)} there are")
    if min(job.batch, job.epochs, job.max_tokens) < 1:
        raise ValueError(f"batch {job.batch}, epochs {job.epochs}, max_tokens {job.max_tokens}: all must be at least 1")
    if job.lora_rank > 0 and job.muon_learning_rate > 0:
        raise ValueError(
            "muon_learning_rate is for the hidden matrices, which LoRA freezes; set it to 0 or lora_rank to 0"
        )


def _tokenised(job: FineTuning, tokenizer: Any, positions: int | None) -> list[Row | None]:
    """Every unique example through the chat template, once; None where nothing of the completion fits."""
    limit = job.max_tokens if positions is None else min(job.max_tokens, positions)
    asked = [example.messages for example in job.examples]
    told = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in job.examples]
    prompts = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    wholes = tokenizer.apply_chat_template(told, tokenize=False)
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    whole_ids = tokenizer(wholes, add_special_tokens=False)["input_ids"]
    return [
        _row(prompt, whole, tokenizer.eos_token_id, limit) for prompt, whole in zip(prompt_ids, whole_ids, strict=True)
    ]


def _row(prompt: list[int], whole: list[int], end: int, limit: int) -> Row | None:
    """The completion starts where prompt and whole part, as in TRL, and ends with its end token: what a template
    writes after that (a line feed) is never generated."""
    start = next(
        (i for i, (p, w) in enumerate(zip(prompt, whole, strict=False)) if p != w), min(len(prompt), len(whole))
    )
    ends = [i for i in range(start, len(whole)) if whole[i] == end]
    ids = whole[: ends[-1] + 1] if ends else whole
    cut = len(ids) > limit
    ids = ids[:limit]
    return Row(ids, [_IGNORED] * start + ids[start:], cut) if start < len(ids) else None


def _average(model: Any, others: Sequence[Path]) -> None:
    """Makes every weight the plain mean of its own and those of the same name in `others`, in float32."""
    total = dict(model.named_parameters())
    with torch.no_grad():
        for folder in others:
            weights = dict(load_model(folder, torch.float32).named_parameters())
            if {name: w.shape for name, w in weights.items()} != {name: w.shape for name, w in total.items()}:
                raise ValueError(f"{folder}: cannot be averaged with a model of other weights")
            for name, weight in weights.items():
                total[name].add_(weight)
        for weight in total.values():
            weight.div_(1 + len(others))


def _check_weights(model: Any) -> None:
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise TrainingDiverged(f"weight {name} is not finite after the last step")


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)
