"""What a fine-tune is given and what comes of it. No torch here: the handler and its tests need none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bohdi_common.models.port import Message


class TrainingDiverged(Exception):
    """A loss or a weight is not a finite number; the weights are worthless."""


class TrainingStopped(Exception):
    """`stop` asked for the end before the last step; nothing was saved."""


@dataclass(frozen=True)
class Example:
    """One thing to learn: what the target was asked, and what it should have said."""

    messages: list[Message]
    completion: str


@dataclass(frozen=True)
class FineTuning:
    """One fine-tune of `base`, a version of the model in `root` (that one itself at first). `order` says which of the
    `examples` are seen, in which order, in each epoch; one may come many times. The settings are those of
    TrainingSettings in the events."""

    base: Path
    root: Path
    out: Path
    examples: Sequence[Example]
    order: Sequence[int]
    batch: int
    learning_rate: float
    max_tokens: int
    epochs: int = 1
    muon_learning_rate: float = 0.0
    weight_decay: float = 0.0
    warmup_share: float = 0.0
    decay_share: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 0.0
    average_with: Sequence[Path] = ()
    seed: int = 0
    stop: Callable[[], bool] = field(default=lambda: False)
    on_step: Callable[[int, float], None] = field(default=lambda step, loss: None)


@dataclass(frozen=True)
class FineTuned:
    """What came of it. `tokens` counts what the model read, padding left out; `too_long` the unique examples that were
    cut at `max_tokens`, or left out where nothing of the completion was left."""

    steps: int
    first_loss: float
    last_loss: float
    tokens: int
    too_long: int
    seconds: float
