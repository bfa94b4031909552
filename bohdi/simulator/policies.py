"""Who decides what is harvested next: DynaBranches as the core draws, and what it is compared with.

The others are flat: to them every leaf and every open `unk` arm is an arm of its own, with the same posterior. A
training's samples are drawn by the policy's own draws where it is DynaBranches, else every record equally often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from bohdi.simulator.forest import Forest
from bohdi.simulator.world import Floats, Ints
from bohdi_common.core import draws
from bohdi_common.core.state import Rules
from bohdi_common.core.tree import ROOT
from bohdi_common.runtime.config import BadConfig


class Policy(Protocol):
    """Draws for runs side by side."""

    def draw(self, forest: Forest, runs: Ints, rngs: Sequence[np.random.Generator], weakness: Floats) -> Ints:
        """Where the slots of a step of each of `runs` end, arms of shape (runs * slots,); `weakness` is the truth."""
        ...

    def samples(self, forest: Forest, run: int, count: int, rng: np.random.Generator) -> Ints:
        """Leaves with records for a training, arms of shape (count,)."""
        ...


class DynaBranches:
    """Draws and rules of the core."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def draw(self, forest: Forest, runs: Ints, rngs: Sequence[np.random.Generator], weakness: Floats) -> Ints:
        owners = np.repeat(np.arange(len(runs)), self._rules.slots)
        starts = forest.roots[runs][owners]
        return draws.draw_side_by_side(forest.tree, starts, owners, rngs, self._rules.sharpness, explore=True)

    def samples(self, forest: Forest, run: int, count: int, rng: np.random.Generator) -> Ints:
        starts = np.full(count, forest.arm[run, ROOT])
        return draws.draw_arms(forest.tree, starts, rng, self._rules.sharpness, explore=False)


class Flat:
    """A choice among all open ends of a run's tree."""

    def __init__(self, rules: Rules, choose: Choose) -> None:
        self._slots, self._choose = rules.slots, choose

    def draw(self, forest: Forest, runs: Ints, rngs: Sequence[np.random.Generator], weakness: Floats) -> Ints:
        chosen = [
            self._choose(forest, int(run), self._slots, rng, weakness[run]) for run, rng in zip(runs, rngs, strict=True)
        ]
        return np.concatenate(chosen)

    def samples(self, forest: Forest, run: int, count: int, rng: np.random.Generator) -> Ints:
        leaves = forest.paired(run)
        pairs = forest.pairs[leaves]
        return leaves[np.searchsorted(pairs.cumsum(), rng.integers(pairs.sum(), size=count), side="right")]


Choose = Callable[[Forest, int, int, np.random.Generator, Floats], Ints]


def _uniform(forest: Forest, run: int, slots: int, rng: np.random.Generator, weakness: Floats) -> Ints:
    ends = forest.open_ends(run)
    return ends[rng.integers(len(ends), size=slots)]


def _thompson(forest: Forest, run: int, slots: int, rng: np.random.Generator, weakness: Floats) -> Ints:
    """The largest theta ~ Beta, drawn anew for each slot (Thompson 1933)."""
    ends, tree = forest.open_ends(run), forest.tree
    alpha, beta = tree.column(tree.alpha)[ends], tree.column(tree.beta)[ends]
    return ends[rng.beta(alpha, beta, size=(slots, len(ends))).argmax(axis=1)]


def _ucb(forest: Forest, run: int, slots: int, rng: np.random.Generator, weakness: Floats) -> Ints:
    """The largest of mean + sqrt(2 log t / n) (UCB1, Auer and others 2002): those of the first `slots` ranks, equal
    ones in a random order; an arm never tried is before all others."""
    ends, tree = forest.open_ends(run), forest.tree
    wins, losses = tree.column(tree.alpha)[ends] - 1, tree.column(tree.beta)[ends] - 1
    tried = wins + losses
    with np.errstate(divide="ignore", invalid="ignore"):
        index = wins / tried + np.sqrt(2 * np.log(max(tried.sum(), 1)) / tried)
    index[tried == 0] = np.inf
    ranked = ends[np.lexsort((rng.random(len(ends)), -index))]
    return ranked[np.arange(slots) % len(ranked)]


def _oracle(forest: Forest, run: int, slots: int, rng: np.random.Generator, weakness: Floats) -> Ints:
    """Knows the truth: each slot goes to another of the weakest leaves there are, or to the `unk` arm above one that
    is not known yet; a closed one is passed over."""
    tree, places = forest.tree, forest.places
    chosen: list[int] = []
    for leaf in np.argsort(-weakness, kind="stable").tolist():
        place = places.of_leaf[leaf]
        while forest.arm[run, place] < 0:
            place = places.parent[place]
        arm = int(forest.arm[run, place])
        end = arm if place == places.of_leaf[leaf] else tree.unk_of[arm]
        if tree.open[end]:
            chosen.append(end)
        if len(chosen) == slots:
            break
    ends = chosen or forest.open_ends(run)[:1].tolist()
    return np.resize(np.array(ends, dtype=np.int64), slots)


_FLAT: dict[str, Choose] = {"uniform": _uniform, "ucb": _ucb, "thompson": _thompson, "oracle": _oracle}
NAMES = ("default", "paper", *_FLAT)


def policy(name: str, rules: Rules) -> Policy:
    """`default` and `paper` are DynaBranches under the rules of that preset. Raises BadConfig."""
    check(name)
    return Flat(rules, _FLAT[name]) if name in _FLAT else DynaBranches(rules)


def check(name: str) -> None:
    """Raises BadConfig for what names no policy."""
    if name not in NAMES:
        raise BadConfig(f"--policy {name}: there is no such policy: use some of {', '.join(NAMES)}")
