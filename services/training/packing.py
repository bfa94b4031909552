"""Rows laid end to end in one sequence instead of padded to the longest: the same steps and losses on fewer tokens.

That is sound only where the model keeps the rows apart by their positions, in attention and in whatever else looks
back. transformers does so for its own mask (SDPA and eager: a block-diagonal mask is made from position ids) and for
FlashAttention; a model with code of its own may not. So it is tried rather than looked up in a list.

TRL's bin packing (`packing` with best-fit decreasing) is not used, only its flattening: the bins reorder the samples,
longest first, and a step would be of as many samples as happen to fit, not of `batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from services.training.job import Row

_TRIED_TOKENS = 64
# Rounding moves logits by less than this share of the largest; a row that sees its neighbour moves them by far more.
_SAME = 1e-3


def check_sound(model: Any, rows: Sequence[Row], pad_token_id: int) -> None:
    """Raises ValueError when the second of two rows comes out otherwise behind the first than alone."""
    ids = [row.ids[:_TRIED_TOKENS] for row in (rows[0], rows[-1])]
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id, padding_free=True)
    with torch.no_grad():
        together, alone = (_logits(model, collate, part) for part in (ids, ids[1:]))
    apart = (together[-len(ids[1]) :] - alone).abs().max()
    if not apart <= _SAME * alone.abs().max():
        raise ValueError(
            f"packing is on, but this model's attention ({model.config._attn_implementation}) lets packed samples see "
            "each other: set training.packing to false"
        )


def _logits(model: Any, collate: Any, ids: Sequence[list[int]]) -> torch.Tensor:
    batch = collate([{"input_ids": row, "labels": row} for row in ids])
    del batch["labels"]
    logits: torch.Tensor = model(**batch, use_cache=False).logits[0]
    return logits.float()


def rows_per_pass(lengths: Sequence[int], batch: int, most_tokens: int) -> int:
    """The largest divisor of `batch` at which no so many rows in a row have more than `most_tokens` together; one at
    least. `lengths`: of the rows in the order of training."""
    fitting = [
        rows
        for rows in range(1, batch + 1)
        if batch % rows == 0 and all(sum(lengths[at : at + rows]) <= most_tokens for at in range(0, len(lengths), rows))
    ]
    return max(fitting, default=1)
