"""Training a micro-world model from scratch on one thread: loss on the completions, Muon on the hidden matrices."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bohdi.microworld.corpus import Example
from bohdi_common.models.muon import Muon

BATCH = 128
_WINDOW = 32  # batches that are drawn and sorted by length together
_MUON_RATE = 1e-2
_ADAMW_RATE = 4e-3
_WEIGHT_DECAY = 0.02
_WARM_UP_SHARE = 0.05
_DECAY_SHARE = 0.5
_IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt and its completion, of which the first `prompt_tokens` are the prompt's."""

    ids: list[int]
    prompt_tokens: int


def encode(tokenizer: Any, examples: Sequence[Example]) -> list[Encoded]:
    """The examples through the tokenizer's own chat template. Raises ValueError where a prompt's tokens change as its
    completion follows: the model would be trained on what it is never shown."""
    conversations = [e.messages for e in examples]
    replied = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in examples]
    prompts = tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True)
    wholes = tokenizer.apply_chat_template(replied, tokenize=False)
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    whole_ids = tokenizer(wholes, add_special_tokens=False)["input_ids"]
    for prompt, whole, text in zip(prompt_ids, whole_ids, wholes, strict=True):
        if whole[: len(prompt)] != prompt:
            raise ValueError(f"the prompt's tokens are no prefix of the whole's: {text!r}")
    return [Encoded(whole, len(prompt)) for prompt, whole in zip(prompt_ids, whole_ids, strict=True)]


def train(
    model: Any, tokenizer: Any, draw: Callable[[], Example], *, steps: int, rng: random.Random
) -> Iterator[float]:
    """Trains `model` in place for `steps` batches of fresh examples; yields the loss of each step."""
    optimizers = _optimizers(model)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    batches = _batches(tokenizer, draw, rng)
    model.train()
    for step in range(steps):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * _schedule(step, steps)
            optimizer.zero_grad()
        loss = _completion_loss(model, *next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        yield loss.item()
    model.eval()


def _optimizers(model: Any) -> list[torch.optim.Optimizer]:
    embedding = model.get_input_embeddings().weight  # tied: the head is the same parameter
    hidden = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim != 2 or p is embedding]
    return [
        torch.optim.AdamW(others, lr=_ADAMW_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        Muon(hidden, lr=_MUON_RATE, weight_decay=_WEIGHT_DECAY),
    ]


def _schedule(step: int, steps: int) -> float:
    """Share of the peak rate: a short warm-up, a plateau, a linear descent over the last half."""
    warm_up = min(1.0, (step + 1) / max(1.0, _WARM_UP_SHARE * steps))
    descent = min(1.0, (steps - step) / (_DECAY_SHARE * steps))
    return warm_up * descent


def _completion_loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the completion tokens; `ids` and `labels` are (batch, tokens), padded on the right, which
    under a causal mask needs no attention mask. Logits are computed only where there is something to learn."""
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    learnt = labels[:, 1:] != _IGNORED
    logits = model.get_output_embeddings()(hidden[:, :-1][learnt])
    return F.cross_entropy(logits, labels[:, 1:][learnt])


def _batches(tokenizer: Any, draw: Callable[[], Example], rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, each of examples of about one length."""
    while True:
        encoded = encode(tokenizer, [draw() for _ in range(_WINDOW * BATCH)])
        encoded.sort(key=lambda example: len(example.ids))
        batches = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
        rng.shuffle(batches)
        yield from (_tensors(batch, tokenizer.pad_token_id) for batch in batches)


def _tensors(batch: Sequence[Encoded], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and labels, both (batch, tokens); labels are `_IGNORED` on prompts and padding."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.full((len(batch), longest), pad)
    labels = torch.full((len(batch), longest), _IGNORED)
    for row, example in enumerate(batch):
        tokens = torch.tensor(example.ids)
        ids[row, : len(tokens)] = tokens
        labels[row, example.prompt_tokens : len(tokens)] = tokens[example.prompt_tokens :]
    return ids, labels
