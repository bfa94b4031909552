"""What a model makes of completions that it did not write: a log-probability for each of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from services.training import ranks
from services.training.job import Row, TrainingStopped

# Padded tokens of one forward. Here every position has its logits, in a vocabulary of 150,000 1.2 GB of them, which is
# why it is less than in training.
MAX_TOKENS_PER_PASS = 2_048
_IGNORED = -100


def token_log_probs(model: Any, rows: Sequence[Row], stop: Callable[[], bool]) -> list[torch.Tensor]:
    """For each row the natural log-probabilities, float32 on the CPU, of the tokens that carry loss, in their order.

    Processes that train together share the work. The model is left on the CPU, with dropout off. `stop` is asked before
    every pass. Raises TrainingStopped."""
    rows = rows[ranks.own() :: ranks.count()]
    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    with torch.no_grad():  # not inference_mode: a buffer that a model renews in it could not be trained through
        for batch in _batches(rows):
            if stop():
                raise TrainingStopped("stopped while completions were scored")
            for index, scores in zip(batch, _scored(model, [rows[i] for i in batch]), strict=True):
                found[index] = scores
    model.cpu()
    return ranks.interleaved(found)


def _batches(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Indices of rows of about one length, as many as fit in a pass; one at least."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i)):
        if batch and len(rows[index].ids) * (len(batch) + 1) > MAX_TOKENS_PER_PASS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _scored(model: Any, rows: Sequence[Row]) -> Iterator[torch.Tensor]:
    width = max(len(row.ids) for row in rows)
    padded = torch.zeros((3, len(rows), width), dtype=torch.long)
    ids, labels, there = padded
    labels.fill_(_IGNORED)
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids[number, :length] = torch.tensor(row.ids)
        labels[number, :length] = torch.tensor(row.labels)
        there[number, :length] = 1
    device = model.device
    logits = model(input_ids=ids.to(device), attention_mask=there.to(device), use_cache=False).logits[:, :-1].float()
    told = labels[:, 1:].to(device)
    scores = logits.log_softmax(-1).gather(-1, told.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    for row_scores, row_told in zip(scores, told, strict=True):
        yield row_scores[row_told != _IGNORED].cpu()
