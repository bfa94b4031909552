"""Where a training can go on after its process was killed: weights, optimizer, schedule, random numbers and the losses
so far, in a folder that is written aside and renamed. The data need no more than the step: their order is given.

All take part in it, for each may hold a part of the weights; one writes, and all read. It does not depend on how many
train together.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bohdi_common.models.versions import make_durable
from services.training import ranks, sharding
from services.training.job import Checkpointing

_KEPT = 2
_NAME = "checkpoint-"
_ASIDE = ".aside"
_ABOUT = "about.json"
_STATE = "state.pt"
_TRAINER = "trainer_state.json"  # transformers reads the step from it


@dataclass(frozen=True)
class Checkpoint:
    """`step` of `stage` is done; `before`: the losses of the stages before it, by name. `state` holds what
    else a stage cannot compute again."""

    folder: Path
    stage: str
    step: int
    losses: list[float]
    before: Mapping[str, list[float]]
    state: Mapping[str, Any] = field(repr=False)

    @property
    def steps(self) -> int:
        """Done in all stages."""
        return self.step + sum(map(len, self.before.values()))

    def put(self, model: Any) -> None:
        """Gives `model` the weights."""
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, weight in self.state["weights"].items():
                weights[name].copy_(sharding.part_of(weight, weights[name]))

    def put_rates(self, optimizer: Any, schedule: Any) -> None:
        """Gives both what they had, so that the next step is the one that would have been."""
        optimizer.load_state_dict(sharding.parts_of(optimizer, self.state["optimizer"]))
        schedule.load_state_dict(self.state["schedule"])

    def put_random(self) -> None:
        torch.set_rng_state(self.state["random"])
        if torch.cuda.is_available() and self.state["random_cuda"] is not None:
            torch.cuda.set_rng_state(self.state["random_cuda"])


def last(asked: Checkpointing) -> Checkpoint | None:
    """The last whole checkpoint of this request, whose writer may have been killed at any moment."""
    for folder in reversed(_whole(asked.folder)):
        about = json.loads((folder / _ABOUT).read_bytes())
        if about.pop("request") == asked.request:
            state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
            return Checkpoint(folder, state=state, **about)
    return None


class Writer:
    """Saves one stage's checkpoints when they are due. `before` as in Checkpoint; `extra` goes into its state."""

    def __init__(
        self, asked: Checkpointing, stage: str, before: Mapping[str, list[float]], extra: Mapping[str, Any]
    ) -> None:
        self._asked, self._stage, self._before, self._extra = asked, stage, before, extra
        self._saved_s = time.monotonic()

    def due(self, step: int) -> bool:
        by_step = self._asked.steps > 0 and step % self._asked.steps == 0
        return by_step or 0 < self._asked.seconds <= time.monotonic() - self._saved_s

    def save(self, trainer: Any, losses: list[float]) -> None:
        """What a trainer of transformers has after step `len(losses)`; the two last checkpoints are kept. All processes
        must ask."""
        first = ranks.own() == 0
        trained = {name: weight.detach() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
        weights, optimizer = sharding.put_together([trained, trainer.optimizer.state_dict()], kept=first)
        if first:
            self._write(trainer, weights, optimizer, losses)
        self._saved_s = time.monotonic()

    def _write(self, trainer: Any, weights: Any, optimizer: Any, losses: list[float]) -> None:
        done_before = sum(map(len, self._before.values()))
        final = self._asked.folder / f"{_NAME}{done_before + len(losses):09d}"
        aside = final.with_suffix(_ASIDE)
        for leftover in self._asked.folder.glob(f"*{_ASIDE}"):
            shutil.rmtree(leftover)
        aside.mkdir(parents=True)
        state = {
            "weights": weights,
            "optimizer": optimizer,
            "schedule": trainer.lr_scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            **self._extra,
        }
        torch.save(state, aside / _STATE)
        trainer.state.save_to_json(str(aside / _TRAINER))
        about = {"request": self._asked.request, "stage": self._stage, "step": len(losses), "losses": losses}
        (aside / _ABOUT).write_text(json.dumps({**about, "before": dict(self._before)}), encoding="utf-8")
        make_durable(aside)
        shutil.rmtree(final, ignore_errors=True)  # of another request: this one's would have been gone on from
        aside.rename(final)
        for older in _whole(self._asked.folder)[:-_KEPT]:
            shutil.rmtree(older)


def _whole(folder: Path) -> list[Path]:
    """The checkpoints that were written to their end, the first first."""
    return sorted(path for path in folder.glob(f"{_NAME}*") if path.suffix != _ASIDE)
