"""One fine-tune of the target in this process: TRL's SFTTrainer, on the completions only, in the order given.

Nothing here knows of versions or events: a folder comes in and a folder goes out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from bohdi_common.models.huggingface import (
    is_adapter,
    load_adapted,
    load_model,
    load_tokenizer,
    positions_of,
    saved_dtype,
)
from services.training.job import FineTuned, FineTuning, TrainingDiverged

# The losses that are reported are means over so many steps.
_LOSS_WINDOW = 10
_IGNORED = -100


def fine_tune(job: FineTuning) -> FineTuned:
    """Trains `job.base` on the examples and saves weights and tokenizer in `job.out`, a folder that transformers and
    vLLM load. With LoRA it holds the adapter alone; one in `job.base` goes on growing.

    `stop` is asked and `on_step` (steps done, loss) called after every step. Raises ValueError for what cannot be
    trained, TrainingDiverged, or TrainingStopped."""
    started_s = time.monotonic()
    _check(job)
    tokenizer = load_tokenizer(job.base)
    model = _loaded(job)
    rows = _tokenised(job, tokenizer, positions_of(model))
    position = {index: at for at, index in enumerate(i for i, row in enumerate(rows) if row is not None)}
    kept = [row for row in rows if row is not None]
    order = [position[index] for index in job.order if index in position]
    if not order:
        raise ValueError(f"no example has a completion within {job.max_tokens} tokens; raise max_tokens")
    # TRL takes seconds to import, which only a training shall pay.
    from services.training.trainer import train

    model, losses = train(job, model, tokenizer, kept, order)
    _average(model, job)
    _check_weights(model)
    _save(model, job)
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


def _loaded(job: FineTuning) -> Any:
    """What is trained: every weight, or an adapter on the model of `job.root`."""
    if job.lora_rank == 0:
        return load_model(job.base, torch.float32, job.root)
    if is_adapter(job.base):
        return load_adapted(job.base, torch.float32, job.root, trainable=True)
    from peft import LoraConfig, get_peft_model

    # The folder's name, not its path: the adapter is read on other machines.
    lora = LoraConfig(
        r=job.lora_rank, lora_alpha=job.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM",
        base_model_name_or_path=job.root.name,
    )  # fmt: skip
    set_seed(job.seed)
    return get_peft_model(load_model(job.base, torch.float32), lora)


def _save(model: Any, job: FineTuning) -> None:
    if job.lora_rank > 0:  # in float32: it goes on growing, and a server takes it as it likes
        model.peft_config["default"].base_model_name_or_path = job.root.name
        model.save_pretrained(job.out, save_embedding_layers=False)  # "auto" would look for the base at the hub
        return
    model.to(saved_dtype(job.root)).save_pretrained(job.out)


def _average(model: Any, job: FineTuning) -> None:
    """Makes every weight the plain mean of its own and those of the same name in `job.average_with`, in float32. Of
    adapters, the mean of their matrices: those of one run have one beginning."""
    total = {name: weight for name, weight in model.named_parameters() if job.lora_rank == 0 or "lora_" in name}
    with torch.no_grad():
        for folder in job.average_with:
            weights = _weights_of(folder, job)
            if {name: w.shape for name, w in weights.items()} != {name: w.shape for name, w in total.items()}:
                raise ValueError(f"{folder}: cannot be averaged with a model of other weights")
            for name, weight in weights.items():
                total[name].add_(weight)
        for weight in total.values():
            weight.div_(1 + len(job.average_with))


def _weights_of(folder: Path, job: FineTuning) -> dict[str, torch.Tensor]:
    """By the names that they have in the model that is trained."""
    if job.lora_rank == 0:
        return dict(load_model(folder, torch.float32, job.root).named_parameters())
    if not is_adapter(folder):
        return {}
    return {
        name: weight
        for name, weight in load_adapted(folder, torch.float32, job.root, trainable=False).named_parameters()
        if "lora_" in name
    }


def _check_weights(model: Any) -> None:
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise TrainingDiverged(f"weight {name} is not finite after the last step")


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)
