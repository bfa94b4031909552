"""The tree of domains as it was at some moments of a run, few enough to show and evenly over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bohdi_common.core.state import RunState
from bohdi_common.core.tree import LEAF_LEVEL, ROOT

MOST = 64  # moments of each kind

T = TypeVar("T")
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Moment:
    """The tree after `sequence` events of the run. `round`: how many rounds had ended, the last one just then where
    `ends_round` says so. By arm: `alpha` and `beta` of the posterior, `rebirths`, and the counted `harvests`, those
    below a node included."""

    sequence: int
    round: int
    step: int
    time_us: int
    version: str
    ends_round: bool
    alpha: Counts
    beta: Counts
    rebirths: Counts
    harvests: Counts


def moment(state: RunState, ends_round: bool) -> Moment:
    """The tree as it stands in `state`. Costs the tree."""
    tree = state.tree
    alpha, beta, rebirths = (tree.column(column).astype(np.int32) for column in (tree.alpha, tree.beta, tree.rebirths))
    return Moment(
        state.sequence, state.round, state.step, state.last_us, state.target_version, ends_round,
        alpha, beta, rebirths, _harvests(state),
    )  # fmt: skip


def _harvests(state: RunState) -> Counts:
    """By arm: the pairs in store of a leaf, which are its counted harvests, and of a node the sum over its leaves."""
    tree = state.tree
    counts = np.zeros(len(tree), np.int32)
    for leaf, sequences in state.pairs.items():
        counts[leaf] = len(sequences)
    parents, levels = tree.column(tree.parent), tree.column(tree.level)
    for level in range(LEAF_LEVEL, ROOT, -1):
        arms = np.flatnonzero(levels == level)
        np.add.at(counts, parents[arms], counts[arms])
    return counts


@dataclass
class Thinned(Generic[T]):
    """An even choice of a series whose length is not known: when `most` are kept every second goes, and from then on
    only every second of what came before is taken. The first stays."""

    most: int
    kept: list[T] = field(default_factory=list)
    every: int = 1
    seen: int = 0

    def due(self) -> bool:
        """Whether the next of the series is to be given to `add`. To be asked once for each."""
        if self.seen % self.every == 0 and len(self.kept) == self.most:
            del self.kept[1::2]
            self.every *= 2
        self.seen += 1
        return (self.seen - 1) % self.every == 0

    def add(self, item: T) -> None:
        """Keeps the one that was due."""
        self.kept.append(item)


@dataclass
class Moments:
    """The ends of rounds, the start among them, and those of steps."""

    ends: Thinned[Moment] = field(default_factory=lambda: Thinned(MOST))
    steps: Thinned[Moment] = field(default_factory=lambda: Thinned(MOST))

    def round_ended(self, state: RunState) -> None:
        """To be called behind the event that ended a round, and behind the one that started the run."""
        if self.ends.due():
            self.ends.add(moment(state, ends_round=True))

    def step_begins(self, state: RunState) -> None:
        """To be called before a step is drawn."""
        if self.steps.due():
            self.steps.add(moment(state, ends_round=False))

    def until(self, state: RunState) -> list[Moment]:
        """Those that were kept, in their order, and last the one that `state` is."""
        kept = {found.sequence: found for found in (*self.steps.kept, *self.ends.kept)}
        if state.sequence not in kept:
            kept[state.sequence] = moment(state, ends_round=False)
        return [kept[sequence] for sequence in sorted(kept)]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items (two at least), evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
