"""Timing on a machine that others use too: what is compared runs in turn, and the best of several turns counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes."""
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s


def best_seconds(turns: int, *functions: Callable[[], Any]) -> list[float]:
    """The best time of each function. In every turn each is called once: a slow spell of the machine falls on all."""
    timed = [[seconds(function) for function in functions] for _ in range(turns)]
    return [min(times) for times in zip(*timed, strict=True)]
