"""Trees of a given shape, and histories of rewards for their nodes, for measurements that need no run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bohdi_common.core.tree import ROOT, Tree

WINDOW = 20


def full_tree(mains: int, secondaries: int, leaves: int) -> Tree:
    """Every node of a level with as many children, and an open `unk` arm at each that is no leaf."""
    tree = Tree(WINDOW)
    tree.plant(grow=True)
    for m in range(mains):
        main = tree.add(ROOT, f"m{m}", grow=True)
        for s in range(secondaries):
            secondary = tree.add(main, f"s{s}", grow=True)
            for leaf in range(leaves):
                tree.add(secondary, f"l{leaf}", grow=True)
    return tree


def give_history(
    tree: Tree,
    nodes: NDArray[np.int64],
    before: NDArray[np.int64] | int,
    chance: NDArray[np.float64],
    chance_in_window: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Gives `nodes` the posteriors and windows of `before` rewards, 1 with `chance`, and then a full window of rewards,
    1 with `chance_in_window`; each array of shape (nodes,)."""
    rewards = rng.random((len(nodes), WINDOW)) < chance_in_window[:, None]
    wins = rng.binomial(before, chance) + rewards.sum(axis=1)
    tree.column(tree.alpha)[nodes] = 1 + wins
    tree.column(tree.beta)[nodes] = 1 + before + WINDOW - wins
    tree.column(tree.window)[nodes] = rewards @ (1 << np.arange(WINDOW))


def with_stationary_history(tree: Tree, seed: int, most_before: int = 100) -> Tree:
    """The tree after each of its nodes has had `WINDOW` to `most_before` rewards and a full window, at a chance of its
    own that never changed."""
    rng = np.random.default_rng(seed)
    nodes = np.flatnonzero((tree.column(tree.is_unk) == 0) & (tree.column(tree.level) > 0))
    chance = rng.random(len(nodes))
    give_history(tree, nodes, rng.integers(WINDOW, most_before, len(nodes)), chance, chance, rng)
    return tree
