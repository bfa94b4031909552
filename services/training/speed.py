"""How fast this machine calculates."""

from __future__ import annotations

import time

import torch

_SIDE_ON_CPU, _SIDE_ON_GPU = 1024, 8192
_TURNS = 5
# Of the product's speed what a training reaches: docs/forecast.md.
_SHARE_ON_CPU, _SHARE_ON_GPU = 0.3, 0.45


def training_operations_per_second() -> float:
    """What a training is likely to reach of `operations_per_second`."""
    return (_SHARE_ON_GPU if torch.cuda.is_available() else _SHARE_ON_CPU) * operations_per_second()


def operations_per_second() -> float:
    """Floating point operations in a second of the product of two square matrices, the best of a few: bfloat16 on a
    GPU, float32 in one thread on a CPU, as the trainer has them. Under a second."""
    on_gpu = torch.cuda.is_available()
    side = _SIDE_ON_GPU if on_gpu else _SIDE_ON_CPU
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    left = torch.ones(side, side, device=device, dtype=dtype)
    best_s = float("inf")
    for _ in range(_TURNS):
        start_s = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for a GPU
        best_s = min(best_s, time.perf_counter() - start_s)
    return 2 * side**3 / best_s
