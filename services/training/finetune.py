"""One fine-tune of the target, by this process or by several together: TRL's SFTTrainer, on the completions only, in
the order given.

Nothing here knows of versions or events: a folder comes in and a folder goes out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from bohdi_common.models.huggingface import (
    load_adapted,
    load_model,
    load_tokenizer,
    positions_of,
    saved_dtype,
)
from bohdi_common.models.versions import is_adapter
from services.training import checkpoints, held_back, masking, ranks
from services.training.checkpoints import Checkpoint
from services.training.job import Example, FineTuned, FineTuning, Masked, Row, TrainingDiverged

# The losses that are reported are means over so many steps.
_LOSS_WINDOW = 10
_IGNORED = -100


def fine_tune(job: FineTuning) -> FineTuned:
    """Trains `job.base` on the examples, then on the preferences, and saves weights and tokenizer in `job.out`, a
    folder that transformers and vLLM load. With LoRA it holds the adapter alone; one in `job.base` goes on growing.

    Where torchrun started several processes, each is to call this, and the first of them saves. `stop` is asked and
    `on_step` (steps done, loss) called after every step. Raises ValueError for what cannot be
    trained, TrainingDiverged, TrainingStopped, or TrainingRegressed where the held-back samples say so."""
    started_s = time.monotonic()
    _check(job)
    tokenizer = load_tokenizer(job.base)
    model = _loaded(job)
    limit = min(job.max_tokens, positions_of(model) or job.max_tokens)
    rows = _tokenised(job.examples, tokenizer, limit)
    gate = _Gate(job, model, tokenizer, limit)
    learnt = _Learnt.of(job, model, rows)
    # TRL takes seconds to import, which only a training shall pay.
    from services.training import trainer

    since = checkpoints.last(job.checkpoints) if job.checkpoints else None
    if since and since.stage != trainer.STAGE:
        since.put(model)
        losses = since.before[trainer.STAGE]
    else:
        fresh = partial(_loaded, job)
        model, losses = trainer.train(job, model, tokenizer, learnt.rows, learnt.order, since, fresh)
    pairs, preference_losses = 0, [0.0]
    if job.dpo_beta > 0:
        model, pairs, preference_losses = _preferred(job, model, tokenizer, limit, losses, since)
    _average(model, job)
    _check_weights(model)
    gate.check(model)
    if ranks.own() == 0:
        _save(model, tokenizer, job)
    return FineTuned(
        steps=len(losses),
        first_loss=_mean(losses[:_LOSS_WINDOW]),
        last_loss=_mean(losses[-_LOSS_WINDOW:]),
        tokens=job.epochs * sum(len(learnt.rows[at].ids) for at in learnt.order),
        too_long=sum(row is None or row.cut for row in rows),
        seconds=time.monotonic() - started_s,
        masked=learnt.masked,
        fully_masked=learnt.fully_masked,
        preferences=pairs,
        preference_first_loss=_mean(preference_losses[:_LOSS_WINDOW]),
        preference_last_loss=_mean(preference_losses[-_LOSS_WINDOW:]),
        held_back=len(gate.rows),
        held_back_loss_base=gate.base,
        held_back_loss=gate.new,
        processes=ranks.count(),
        resumed_step=since.steps if since else 0,
    )


@dataclass(frozen=True)
class _Learnt:
    """The rows that are trained on, their order, and what masking took."""

    rows: list[Row]
    order: list[int]
    masked: Mapping[str, Masked]
    fully_masked: int

    @classmethod
    def of(cls, job: FineTuning, model: Any, rows: Sequence[Row | None]) -> _Learnt:
        """Of the rows those with something to learn. Raises ValueError when there is none in the order."""
        fitting = {index: row for index, row in enumerate(rows) if row is not None}
        masked: Mapping[str, Masked] = {}
        if job.stm_perplexity > 0:
            authors = [job.examples[index].author for index in fitting]
            found, masked = masking.masked(model, list(fitting.values()), authors, job.stm_perplexity, job.stop)
            fitting = dict(zip(fitting, found, strict=True))
        kept = {index: row for index, row in fitting.items() if masking.carries_loss(row)}
        position = {index: at for at, index in enumerate(kept)}
        order = [position[index] for index in job.order if index in position]
        if not order and any(index in fitting for index in job.order):
            raise ValueError(
                f"every token of every example has a perplexity above {job.stm_perplexity:g}: raise stm_perplexity"
            )
        if not order:
            raise ValueError(f"no example has a completion within {job.max_tokens} tokens; raise max_tokens")
        return cls(list(kept.values()), order, masked, len(fitting) - len(kept))


class _Gate:
    """The loss on the held-back samples, before and after. `rows` is empty where there are too few to measure."""

    def __init__(self, job: FineTuning, model: Any, tokenizer: Any, limit: int) -> None:
        self._job = job
        found = [row for row in _tokenised(job.held_back, tokenizer, limit) if row is not None]
        self.rows = found if len(found) >= held_back.FEWEST else []
        self.base = held_back.loss_on(model, self.rows, "the base version", job.stop) if self.rows else 0.0
        self.new = 0.0

    def check(self, model: Any) -> None:
        """Measures the trained model. Raises TrainingRegressed or TrainingDiverged."""
        if self.rows:
            self.new = held_back.loss_on(model, self.rows, "the new version", self._job.stop)
            held_back.check(len(self.rows), self.base, self.new, self._job.held_back_loss_rise)


def _preferred(
    job: FineTuning, model: Any, tokenizer: Any, limit: int, losses: list[float], since: Checkpoint | None
) -> tuple[Any, int, list[float]]:
    """The model after the preferences, the number of pairs, and the losses; as it came where there is no pair."""
    from services.training.preferences import prefer

    better = _tokenised([Example(p.messages, p.better) for p in job.preferences], tokenizer, limit)
    worse = _tokenised([Example(p.messages, p.worse) for p in job.preferences], tokenizer, limit)
    pairs = [(b, w) for b, w in zip(better, worse, strict=True) if b and w and b.ids != w.ids]
    if not pairs:
        return model, 0, [0.0]
    model, preference_losses = prefer(job, model, tokenizer, pairs, losses, since)
    return model, len(pairs), preference_losses


def _check(job: FineTuning) -> None:
    if not job.order:
        raise ValueError("order is empty: nothing to train on")
    if not all(0 <= index < len(job.examples) for index in job.order):
        raise ValueError(f"order names an example beyond the {len(job.examples)} there are")
    if min(job.batch, job.epochs, job.max_tokens) < 1:
        raise ValueError(f"batch {job.batch}, epochs {job.epochs}, max_tokens {job.max_tokens}: all must be at least 1")
    if job.batch % ranks.count():
        raise ValueError(f"a batch of {job.batch} cannot be shared evenly by {ranks.count()} processes")
    if job.sharded and (job.muon_learning_rate > 0 or job.dpo_beta > 0):
        raise ValueError("sharding fsdp is for AdamW on examples: set muon_learning_rate and dpo_beta to 0")
    if job.lora_rank > 0 and job.muon_learning_rate > 0:
        raise ValueError(
            "muon_learning_rate is for the hidden matrices, which LoRA freezes; set it to 0 or lora_rank to 0"
        )


def _tokenised(examples: Sequence[Example], tokenizer: Any, limit: int) -> list[Row | None]:
    """Every example through the chat template; None where nothing of the completion is within `limit` tokens."""
    if not examples:
        return []
    asked = [example.messages for example in examples]
    told = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in examples]
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

    lora = LoraConfig(r=job.lora_rank, lora_alpha=job.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    set_seed(job.seed)
    return get_peft_model(load_model(job.base, torch.float32), lora)


def _save(model: Any, tokenizer: Any, job: FineTuning) -> None:
    """Raises OSError: what safetensors and tokenizers raise where they cannot write are errors of their own."""
    try:
        _save_weights(model, job)
        tokenizer.save_pretrained(job.out)
    except OSError:
        raise
    except Exception as error:
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise OSError(f"{job.out.parent}: the version cannot be saved: {said}") from error


def _save_weights(model: Any, job: FineTuning) -> None:
    if job.lora_rank > 0:  # in float32: it goes on growing, and a server takes it as it likes
        # The folder's name, not its path: the adapter is read on other machines.
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
