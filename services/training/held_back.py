"""The gate before a promotion: on samples that were never trained on, a new version may not be much worse than the one
it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from services.training.job import Row, TrainingDiverged, TrainingRegressed
from services.training.scoring import token_log_probs

# The mean over fewer completions says more of them than of the model: they are not measured, and nothing is refused.
FEWEST = 8


def loss_on(model: Any, rows: Sequence[Row], which: str, stop: Callable[[], bool]) -> float:
    """Mean loss, in nats, of the tokens of the rows' completions under `model`; `which` names it in an error. Raises
    TrainingDiverged when it is no number, TrainingStopped."""
    loss = -float(torch.cat(token_log_probs(model, rows, stop)).double().mean())
    if not math.isfinite(loss):
        raise TrainingDiverged(f"the loss on the held-back samples is {loss} under {which}")
    return loss


def check(samples: int, base: float, new: float, rise: float) -> None:
    """Raises TrainingRegressed when the loss rose from `base` to `new` by more than the share `rise`."""
    if new > base * (1 + rise):
        raise TrainingRegressed(samples, base, new, rise)
