"""How the weights move: which optimizer has which parameter, and the learning rate over the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.lr_scheduler import LambdaLR

from bohdi_common.models.muon import Muon

# The share of the peak below which the decay does not go.
_FLOOR = 0.02
_BETAS = (0.9, 0.98)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon on some parameters and AdamW on the others behind one step, as a trainer wants it."""

    def __init__(self, muon: Muon, adamw: torch.optim.AdamW) -> None:
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, adamw)
        super().__init__(
            [{"params": g["params"], "lr": g["lr"]} for part in self._parts for g in part.param_groups], {}
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of both, at the learning rates that a schedule has set on the groups of this one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        inner = [group for part in self._parts for group in part.param_groups]
        for group, own in zip(inner, self.param_groups, strict=True):
            group["lr"] = own["lr"]
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What both remember, and the learning rates of this one's groups."""
        return {**super().state_dict(), "parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        own = dict(state_dict)
        for part, known in zip(self._parts, own.pop("parts"), strict=True):
            part.load_state_dict(known)
        super().load_state_dict(own)


def optimizer_for(
    model: torch.nn.Module, *, learning_rate: float, muon_learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW on what is trainable; with a `muon_learning_rate` Muon takes the hidden matrices, and alone decays them."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if muon_learning_rate == 0:
        return _adamw([p for _, p in trainable], learning_rate, weight_decay)
    hidden = [p for name, p in trainable if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in hidden}
    others = [p for _, p in trainable if id(p) not in chosen]
    muon = Muon(hidden, lr=muon_learning_rate, weight_decay=weight_decay)
    return MuonAndAdamW(muon, _adamw(others, learning_rate, weight_decay=0.0))


def schedule_for(optimizer: torch.optim.Optimizer, steps: int, *, warmup_share: float, decay_share: float) -> LambdaLR:
    """The schedule of `rate_factor` over `steps`."""
    return LambdaLR(optimizer, rate_factor(steps, warmup_share, decay_share))


def rate_factor(steps: int, warmup_share: float, decay_share: float) -> Callable[[int], float]:
    """Learning rate at a step (0, 1, ...) as a share of its peak: a linear rise over the first `warmup_share` of the
    steps times a linear fall over the last `decay_share`."""

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(1.0, warmup_share * steps))
        fall_steps = decay_share * steps
        fall = max(_FLOOR, (steps - step) / fall_steps) if step >= steps - fall_steps and fall_steps > 0 else 1.0
        return rise * min(1.0, fall)

    return factor


def _adamw(parameters: list[torch.nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=_BETAS, weight_decay=weight_decay, fused=True)
