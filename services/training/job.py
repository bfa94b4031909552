"""What a fine-tune is given and what comes of it. No torch here: the handler and its tests need none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bohdi_common.models.port import Message


class TrainingDiverged(Exception):
    """A loss or a weight is not a finite number; the weights are worthless."""


class TrainingStopped(Exception):
    """`stop` asked for the end before the last step; nothing was saved."""


class LaunchFailed(Exception):
    """The processes of a training ended without a word on how it went, or were not done in time."""


class TrainingRegressed(Exception):
    """The loss on the held-back samples rose by more than is allowed; nothing was saved. Losses in nats a token."""

    def __init__(self, samples: int, base: float, new: float, rise: float) -> None:
        super().__init__(
            f"the loss on {samples} held-back samples rose from {base:.4g} to {new:.4g}, by more than the share "
            f"{rise:g} that training.held_back_loss_rise allows: lower the learning rate, or raise rehearsal_share"
        )
        self.samples, self.base, self.new, self.rise = samples, base, new, rise


@dataclass(frozen=True)
class Example:
    """One thing to learn: what the target was asked, what it should have said, and the model that said so."""

    messages: list[Message]
    completion: str
    author: str = ""


@dataclass(frozen=True)
class Preference:
    """Two answers to one question, of which the judges found one better."""

    messages: list[Message]
    better: str
    worse: str


@dataclass(frozen=True)
class Row:
    """One tokenised example. Labels are -100 on the prompt and on what is masked; `cut` when it did not fit."""

    ids: list[int]
    labels: list[int]
    cut: bool


@dataclass(frozen=True)
class Checkpointing:
    """Checkpoints in `folder`, every so many steps or seconds (0: not by this measure). Those of another `request` are
    left alone."""

    folder: Path
    request: str
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FineTuning:
    """One fine-tune of `base`, a version of the model in `root` (that one itself at first). `order` says which of the
    `examples` are seen, in which order, in each epoch; one may come many times. `preferences` are learnt after them,
    where `dpo_beta` is above 0; on `held_back` the result is measured. The settings are those of TrainingSettings in
    the events; `sharded`: by FSDP. With `checkpoints` it goes on from the last of them. `stop` and `on_step` (steps
    done, loss) are of the process that trains, and in no file."""

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
    stm_perplexity: float = 0.0
    packing: bool = False
    preferences: Sequence[Preference] = ()
    dpo_beta: float = 0.0
    dpo_learning_rate: float = 5e-7
    dpo_epochs: int = 1
    held_back: Sequence[Example] = ()
    held_back_loss_rise: float = 0.0
    average_with: Sequence[Path] = ()
    sharded: bool = False
    seed: int = 0
    checkpoints: Checkpointing | None = None
    stop: Callable[[], bool] = field(default=lambda: False)
    on_step: Callable[[int, float], None] = field(default=lambda step, loss: None)


@dataclass(frozen=True)
class Masked:
    """Tokens of completions, and how many of them carried no loss because they were too surprising."""

    tokens: int
    masked: int


@dataclass(frozen=True)
class FineTuned:
    """What came of it. `tokens` counts what the model read while it learnt the examples, padding left out; `too_long`
    the unique examples that were cut at `max_tokens`, or left out where nothing of the completion was left. `masked` is
    by author, `fully_masked` the unique examples that were left out because of it. `preferences` counts the pairs
    learnt, `held_back` the samples measured: 0 where there were too few. `processes` trained together, from the
    checkpoint at `resumed_step` on (0: from the start)."""

    steps: int
    first_loss: float
    last_loss: float
    tokens: int
    too_long: int
    seconds: float
    masked: Mapping[str, Masked] = field(default_factory=dict)
    fully_masked: int = 0
    preferences: int = 0
    preference_first_loss: float = 0.0
    preference_last_loss: float = 0.0
    held_back: int = 0
    held_back_loss_base: float = 0.0
    held_back_loss: float = 0.0
    processes: int = 1
    resumed_step: int = 0
