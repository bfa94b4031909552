"""The processes that train together: torch's process group as torchrun sets it up, or this process alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed


def count() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own() -> int:
    """The number of this one, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def mean(value: float) -> float:
    """The mean of everybody's `value`, the same for all. They wait here for each other."""
    if count() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=_device())
    distributed.all_reduce(total)
    return float(total) / count()


def anybody(flag: bool) -> bool:
    """Whether anybody's `flag` is set, the same for all. They wait here for each other."""
    return mean(float(flag)) > 0


def first_says(flag: bool) -> bool:
    """The `flag` of the first, for all. They wait here for each other."""
    return anybody(flag and own() == 0)


def interleaved(parts: Sequence[Any]) -> list[Any]:
    """What each has computed of its share, every `count`-th from its own number on, put together again; for all."""
    if count() == 1:
        return list(parts)
    shares: list[Any] = [None] * count()
    distributed.all_gather_object(shares, list(parts))
    whole = [None] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        whole[rank :: count()] = share
    return whole


def _device() -> str:
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
