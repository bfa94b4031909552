"""Selective token masking (STM, arXiv 2501.14315): what the model a fine-tune starts from finds too surprising carries
no loss. Unlikely tokens pull hardest at the weights, and so at what the model could do before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from services.training.job import Masked, Row
from services.training.scoring import token_log_probs

_IGNORED = -100


def masked(
    model: Any, rows: Sequence[Row], authors: Sequence[str], perplexity: float, stop: Callable[[], bool]
) -> tuple[list[Row], dict[str, Masked]]:
    """The rows with no loss on the tokens whose perplexity under `model`, 1 / p(token), is above `perplexity`; and by
    author of the completions how many of their tokens there are and how many of them that is. A row may be left without
    any loss: see `carries_loss`. Raises TrainingStopped."""
    least = -math.log(perplexity)
    done: list[Row] = []
    counts: dict[str, Masked] = {}
    for row, author, scores in zip(rows, authors, token_log_probs(model, rows, stop), strict=True):
        # "not at least" and not "below": a model that gives no number has nothing to say for a token.
        surprising = [not score >= least for score in scores.tolist()]
        turns = iter(surprising)
        labels = [label if label == _IGNORED or not next(turns) else _IGNORED for label in row.labels]
        done.append(replace(row, labels=labels))
        before = counts.get(author, Masked(0, 0))
        counts[author] = Masked(before.tokens + len(surprising), before.masked + sum(surprising))
    return done, counts


def carries_loss(row: Row) -> bool:
    """Whether any token of a row is still to be learnt. The first has nothing before it from which to be told."""
    return any(label != _IGNORED for label in row.labels[1:])
