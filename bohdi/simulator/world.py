"""The domains as they are: what a model of them comes to for each of many seeds, and how trainings move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from bohdi.simulator.model import DomainModel
from bohdi_common.core import draws

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Places:
    """All domains there are, known to a run or not, by number: 0 is Root, parents before children. Per place its name,
    its children in the order in which they are found, and which leaf it is, or -1."""

    def __init__(self, paths: Sequence[tuple[str, ...]]) -> None:
        self.name = ["Root"]
        self.parent = [-1]
        self.children: list[list[int]] = [[]]
        self.leaf = [-1]
        self.of_leaf: list[int] = []
        by_path: dict[tuple[str, ...], int] = {(): 0}
        for path in paths:
            for depth in range(1, len(path) + 1):
                if path[:depth] not in by_path:
                    by_path[path[:depth]] = self._add(by_path[path[: depth - 1]], path[depth - 1])
            self.leaf[by_path[path]] = len(self.of_leaf)
            self.of_leaf.append(by_path[path])
        self.by_path = by_path

    def _add(self, parent: int, name: str) -> int:
        place = len(self.name)
        self.name.append(name)
        self.parent.append(parent)
        self.children.append([])
        self.leaf.append(-1)
        self.children[parent].append(place)
        return place

    def __len__(self) -> int:
        return len(self.name)

    @property
    def leaves(self) -> int:
        return len(self.of_leaf)

    def path(self, place: int) -> tuple[str, ...]:
        names: list[str] = []
        while place > 0:
            names.append(self.name[place])
            place = self.parent[place]
        return tuple(reversed(names))


@dataclass
class World:
    """`weakness`, shape (runs, leaves): the chance that the target of each run loses in each leaf, as it stands."""

    model: DomainModel
    places: Places
    seeds: list[int]
    weakness: Floats

    @classmethod
    def of(cls, model: DomainModel, seeds: Sequence[int]) -> World:
        """The world of each of `seeds` at its start."""
        places = Places(model.paths)
        if model.leaves:
            start = np.array([leaf.weakness for leaf in model.leaves])
            weakness = np.tile(start, (len(seeds), 1))
        else:
            weakness = np.stack([_drawn(model, places, seed) for seed in seeds])
        return cls(model, places, list(seeds), weakness)

    def seen(self, weakness: Floats) -> Floats:
        """The chance that the verdicts say that the target lost, where it loses with the chances `weakness`."""
        error = self.model.judge_error
        return weakness * (1 - error) + (1 - weakness) * error

    def luck(self, run: int, round_: int, step: int, slots: int) -> Floats:
        """Of each slot of a step, shape (2, slots): below the chance of `seen` the target loses; below `no_verdict` the
        judges come to none. The same whoever is asked, and when."""
        return draws.generator(self.seeds[run], "world", round_, step).random((2, slots))

    def found(self, run: int, round_: int, step: int, place: int, known: int, want: int, asked: int) -> list[int]:
        """The children of a place that a sprout finds, `want` at most, `known` of them known; empty when it finds
        none. `asked`: how many sprouts were asked for under this place in this step before."""
        missing = self.places.children[place][known : known + want]
        if not missing or self.model.sprout_finds == 1:
            return missing
        luck = draws.generator(self.seeds[run], "world", round_, step, "sprout", place, asked).random()
        return missing if luck < self.model.sprout_finds else []

    def train(self, samples: Ints) -> None:
        """A training of each run. `samples`, shape (runs, leaves): how many of each leaf; a run without any has none.
        See DomainModel for what follows."""
        model, weakness = self.model, self.weakness
        lost = -np.expm1(-model.forgets * samples.sum(axis=1, keepdims=True) / 1000)
        run, leaf = np.nonzero(samples)
        keeps = np.exp(-model.learns * samples[run, leaf])
        before = weakness[run, leaf]
        weakness += lost * np.maximum(model.ceiling - weakness, 0.0)
        learnt = before - (1 - keeps) * np.maximum(before - model.floor, 0.0)
        weakness[run, leaf] = learnt + keeps * lost[run, 0] * np.maximum(model.ceiling - learnt, 0.0)


def _drawn(model: DomainModel, places: Places, seed: int) -> Floats:
    """Weakness at the start, shape (leaves,)."""
    rng = draws.generator(seed, "world")
    effects = rng.standard_normal(len(places))
    effects[0] = logit(model.weakness)
    total = np.zeros(len(places))
    depth = [0] * len(places)
    for place in range(len(places)):
        above = places.parent[place]
        depth[place] = 0 if above < 0 else depth[above] + 1
        total[place] = effects[place] if above < 0 else total[above] + effects[place] * model.spread[depth[place] - 1]
    return np.asarray(expit(total[places.of_leaf]))
