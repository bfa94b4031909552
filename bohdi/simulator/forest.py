"""The trees of many runs in one `Tree` of the core, a Root for each, and what a simulation knows of every arm.

What happens in one step to all runs is one vectorised pass; that it comes to what the fold makes of the same events one
by one is what tests/unit/test_simulator.py is about.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bohdi.simulator.world import Floats, Ints, Places
from bohdi_common.core.tree import LEAF_LEVEL, Tree


class Forest:
    """`tree` holds every run's arms. Per arm: `run` whose it is; `place` which domain it is (of an `unk` arm: that of
    its parent); `pairs` how many records are in store; `chances` the true chances behind the rewards of its window, a
    ring; `chance_sum` of all since its last rebirth."""

    def __init__(self, places: Places, runs: int, window: int, *, given: bool) -> None:
        self.places, self.tree = places, Tree(window)
        inner = sum(1 for children in places.children if children)
        arms = runs * (len(places) + inner)
        self.run = np.zeros(arms, dtype=np.int32)
        self.place = np.zeros(arms, dtype=np.int32)
        self.pairs = np.zeros(arms, dtype=np.int64)
        self.chances = np.zeros((arms, window), dtype=np.float32)
        self.chance_sum = np.zeros(arms)
        self.rewards = np.zeros(arms, dtype=np.int64)  # all that ever came: the place in the ring
        self.arm = np.full((runs, len(places)), -1, dtype=np.int32)
        self.leaf = np.array(places.leaf, dtype=np.int64)  # of a place
        self.leaves_paired = np.zeros(runs, dtype=np.int64)
        self._paired = np.zeros((runs, places.leaves), dtype=np.int64)
        self.ends: list[list[int]] = [[] for _ in range(runs)]  # leaves and `unk` arms: where a path can end
        self.grows = not given
        for run in range(runs):
            root = len(self.tree)
            self.tree.plant(self.grows)
            self._born(run, root, 0)
        if given:
            for run in range(runs):
                for place in range(1, len(places)):
                    self.add(run, int(self.arm[run, places.parent[place]]), place)

    @property
    def roots(self) -> Ints:
        return self.arm[:, 0].astype(np.int64)

    def add(self, run: int, parent: int, place: int) -> int:
        """A new child of the arm `parent`."""
        arm = self.tree.add(parent, self.places.name[place], self.grows)
        self._born(run, arm, place)
        return arm

    def _born(self, run: int, arm: int, place: int) -> None:
        self.arm[run, place] = arm
        self.run[arm], self.place[arm] = run, place
        if self.tree.level[arm] == LEAF_LEVEL:
            self.ends[run].append(arm)
        else:
            unk = self.tree.unk_of[arm]
            self.run[unk], self.place[unk] = run, place
            self.ends[run].append(unk)

    def paired(self, run: int) -> Ints:
        """The run's leaves with records in store, in the order of their first."""
        return self._paired[run, : self.leaves_paired[run]]

    def leaf_of(self, arms: Ints) -> Ints:
        """Which of all leaves there are the arms of leaves are."""
        return self.leaf[self.place[arms]]

    def open_ends(self, run: int) -> Ints:
        """Where a path of the run may end, as ids of arms."""
        ends = np.array(self.ends[run], dtype=np.int64)
        return ends[self.tree.column(self.tree.open)[ends] != 0]

    # ---- what happened -----------------------------------------------------------------------------------------

    def harvested(self, leaves: Ints, rewards: Ints, chances: Floats) -> None:
        """Counted harvests of one wave, in their order: `leaves` the arms, `rewards` 0 or 1, `chances` the true ones;
        each of shape (harvests,)."""
        if not len(leaves):
            return
        self._store(leaves)
        tree = self.tree
        parents = tree.column(tree.parent)
        nodes = leaves
        for _ in range(LEAF_LEVEL):
            self._count(nodes, rewards, chances)
            nodes = parents[nodes]

    def _store(self, leaves: Ints) -> None:
        fresh = leaves[self.pairs[leaves] == 0]
        if len(fresh):
            for leaf in dict.fromkeys(fresh.tolist()):
                self.tree.pair_stored(leaf)
                run = self.run[leaf]
                self._paired[run, self.leaves_paired[run]] = leaf
                self.leaves_paired[run] += 1
        np.add.at(self.pairs, leaves, 1)

    def _count(self, nodes: Ints, rewards: Ints, chances: Floats) -> None:
        """Rewards of nodes of one level, each node's in the order of the wave."""
        tree, w = self.tree, self.tree.window_length
        order = np.argsort(nodes, kind="stable")
        nodes, rewards, chances = nodes[order], rewards[order], chances[order]
        first = np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1]))
        each = nodes[first]
        many = np.diff(np.append(first, len(nodes)))
        wins = np.add.reduceat(rewards, first)
        tree.column(tree.alpha)[each] += wins
        tree.column(tree.beta)[each] += many - wins
        rank = np.arange(len(nodes)) - np.repeat(first, many)
        later = np.repeat(many, many) - 1 - rank  # rewards of the same node that came after
        bits = np.where(later < w, rewards.astype(np.uint64) << np.minimum(later, 63).astype(np.uint64), 0)
        windows = tree.column(tree.window)
        old = np.where(many < 64, windows[each] << np.minimum(many, 63).astype(np.uint64), np.uint64(0))
        windows[each] = (old | np.bitwise_or.reduceat(bits, first)) & np.uint64((1 << w) - 1)
        kept = later < w
        place = (np.repeat(self.rewards[each], many) + rank) % w
        self.chances[nodes[kept], place[kept]] = chances[kept]
        self.chance_sum[each] += np.add.reduceat(chances, first)
        self.rewards[each] += many

    def judged(self, leaves: Ints, counted: NDArray[np.bool_], limit: int) -> None:
        """Verdicts or none of one wave, in their order: none in a row `limit` times closes a leaf."""
        misses = self.tree.column(self.tree.misses)
        if counted.all():
            misses[leaves] = 0
            return
        del misses
        for leaf, verdict in zip(leaves.tolist(), counted.tolist(), strict=True):
            if verdict:
                self.tree.misses[leaf] = 0
            else:
                self.tree.missed(leaf, limit)

    def reborn(self, nodes: Ints, window_sum: Ints) -> None:
        """Beta(1 + S, 1 + w - S), as `Tree.reborn`."""
        tree, w = self.tree, self.tree.window_length
        tree.column(tree.alpha)[nodes] = 1 + window_sum
        tree.column(tree.beta)[nodes] = 1 + w - window_sum
        tree.column(tree.rebirths)[nodes] += 1
        self.chance_sum[nodes] = self.chances[nodes].sum(axis=1, dtype=np.float64)

    def change(self, nodes: Ints) -> Floats:
        """By how much the true chance of a reward in a node's full window lies from that before it, since its last
        rebirth; 0 where nothing was before."""
        tree, w = self.tree, self.tree.window_length
        seen = tree.column(tree.alpha)[nodes] + tree.column(tree.beta)[nodes] - 2
        inside = self.chances[nodes].sum(axis=1, dtype=np.float64)
        before = (self.chance_sum[nodes] - inside) / np.maximum(seen - w, 1)
        return np.where(seen > w, np.abs(inside / w - before), 0.0)
