"""The knowledge tree: Root, main domains, secondary domains, sub-domains, and an `unk` arm under all but the last.

Nodes and `unk` arms alike are arms with ids 0, 1, 2, ... in the order of their birth (0 is Root). What the bandit
knows of an arm stands in parallel arrays, so that one harvest touches three entries of each and a sweep over all nodes
is one vectorised pass. The children of a node are a contiguous block of `arena`, doubled when full.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bohdi_common.core import names

LEAF_LEVEL = 3
ROOT = 0
_FIRST_BLOCK = 4


class Tree:
    """Arms in parallel arrays, indexed by id. Per arm:

    alpha, beta  Beta posterior of lambda (of "a name is found" for an `unk` arm); 1, 1 at birth
    window       the last rewards of a node as bits, the newest lowest
    level        0 Root, 1 to 3 the domains; an `unk` arm has the level that its child would have
    open         may be drawn: itself not closed and, for an inner node, some arm under it open
    paired       a question-answer pair is stored under it
    misses       failures in a row: sprouts of an `unk` arm, harvests without a verdict of a leaf
    """

    def __init__(self, window: int) -> None:
        self.window_length = window
        self._mask = (1 << window) - 1
        self.parent = array("i")
        self.level = array("b")
        self.is_unk = array("b")
        self.alpha = array("q")
        self.beta = array("q")
        self.window = array("Q")
        self.open = array("b")
        self.closed = array("b")
        self.paired = array("b")
        self.misses = array("i")
        self.rebirths = array("i")
        self.open_children = array("i")
        self.unk_of = array("i")
        self.block = array("i")
        self.degree = array("i")
        self.capacity = array("i")
        self.arena = array("i")
        self.name: list[str] = []
        self._child_by_key: dict[tuple[int, str], int] = {}
        self.nodes_by_level = [0] * (LEAF_LEVEL + 1)

    def __len__(self) -> int:
        return len(self.parent)

    @classmethod
    def of_rows(cls, window: int, rows: Iterable[Sequence[Any]]) -> Tree:
        """The tree whose `rows` these are."""
        tree = cls(window)
        for arm, row in enumerate(rows):
            parent, level, is_unk, name, alpha, beta, bits, is_open, closed, misses, rebirths = row
            tree._add_arm(parent, level, name, bool(is_unk), is_open=False)
            for column, value in (
                (tree.alpha, alpha), (tree.beta, beta), (tree.window, bits), (tree.open, is_open),
                (tree.closed, closed), (tree.misses, misses), (tree.rebirths, rebirths),
            ):  # fmt: skip
                column[arm] = value
            if is_unk:
                tree.unk_of[parent] = arm
            else:
                tree.nodes_by_level[level] += 1
                if parent >= 0:
                    tree._child_by_key[parent, names.key(name)] = arm
            if parent >= 0:
                tree.open_children[parent] += is_open
        return tree

    def rows(self) -> list[list[Any]]:
        """What makes the tree, an arm a row, in the order of their birth. `paired` follows from the pairs in store."""
        columns = (
            self.parent, self.level, self.is_unk, self.name, self.alpha, self.beta, self.window, self.open,
            self.closed, self.misses, self.rebirths,
        )  # fmt: skip
        return [list(row) for row in zip(*columns, strict=True)]

    # ---- growth ------------------------------------------------------------------------------------------------

    def plant(self, grow: bool) -> None:
        """Makes Root, with its `unk` arm open if the tree may grow."""
        self._add_node(-1, 0, "Root", grow)

    def add(self, parent: int, name: str, grow: bool) -> int:
        """A new child of the inner node `parent`; returns its id. The caller has checked the name."""
        child = self._add_node(parent, self.level[parent] + 1, name, grow)
        self._child_by_key[parent, names.key(name)] = child
        return child

    def child_named(self, parent: int, name: str) -> int | None:
        """Id of the child of `parent` whose name compares equal to `name`."""
        return self._child_by_key.get((parent, names.key(name)))

    def _add_node(self, parent: int, level: int, name: str, grow: bool) -> int:
        is_leaf = level == LEAF_LEVEL
        node = self._add_arm(parent, level, name, is_unk=False, is_open=is_leaf)
        self.nodes_by_level[level] += 1
        if not is_leaf:
            self.unk_of[node] = self._add_arm(node, level + 1, "unk", is_unk=True, is_open=grow)
        return node

    def _add_arm(self, parent: int, level: int, name: str, is_unk: bool, is_open: bool) -> int:
        arm = len(self.parent)
        self.name.append(name)
        for column, value in (
            (self.parent, parent), (self.level, level), (self.is_unk, is_unk), (self.alpha, 1), (self.beta, 1),
            (self.window, 0), (self.open, 0), (self.closed, 0), (self.paired, 0), (self.misses, 0),
            (self.rebirths, 0), (self.open_children, 0), (self.unk_of, -1), (self.block, 0), (self.degree, 0),
            (self.capacity, 0),
        ):  # fmt: skip
            column.append(value)
        if parent >= 0:
            self._place(parent, arm)
        if is_open:
            self._opened(arm)
        else:
            self.closed[arm] = is_unk
        return arm

    def _place(self, parent: int, arm: int) -> None:
        degree = self.degree[parent]
        if degree == self.capacity[parent]:
            wider = max(_FIRST_BLOCK, 2 * degree)
            start = self.block[parent]
            self.block[parent] = len(self.arena)
            self.arena.extend(self.arena[start : start + degree])
            self.arena.extend([-1] * (wider - degree))
            self.capacity[parent] = wider
        self.arena[self.block[parent] + degree] = arm
        self.degree[parent] = degree + 1

    # ---- what is open ------------------------------------------------------------------------------------------

    def close(self, arm: int) -> None:
        """Takes a leaf or an `unk` arm out of the draws for the rest of the run, and every node left without an arm."""
        if self.closed[arm]:
            return
        self.closed[arm] = 1
        self.open[arm] = 0
        node = self.parent[arm]
        while node >= 0:
            self.open_children[node] -= 1
            if self.open_children[node] > 0:
                return
            self.open[node] = 0
            node = self.parent[node]

    def _opened(self, arm: int) -> None:
        self.open[arm] = 1
        node = self.parent[arm]
        while node >= 0:
            self.open_children[node] += 1
            if self.open_children[node] > 1:
                return
            self.open[node] = 1
            node = self.parent[node]

    # ---- what happened -----------------------------------------------------------------------------------------

    def reward(self, leaf: int, r: int) -> None:
        """One counted harvest: alpha + r and beta + 1 - r on the three nodes of the path, r into each window."""
        node = leaf
        mask = self._mask
        while node > 0:
            if r:
                self.alpha[node] += 1
            else:
                self.beta[node] += 1
            self.window[node] = (self.window[node] << 1 | r) & mask
            node = self.parent[node]

    def pair_stored(self, leaf: int) -> None:
        """Marks the path of `leaf` as holding a question-answer pair."""
        node = leaf
        while node >= 0 and not self.paired[node]:
            self.paired[node] = 1
            node = self.parent[node]

    def missed(self, arm: int, limit: int) -> None:
        """One more failure in a row of a leaf or an `unk` arm; the `limit`-th closes it."""
        self.misses[arm] += 1
        if self.misses[arm] >= limit:
            self.close(arm)

    def reborn(self, node: int, window_sum: int, window_length: int) -> None:
        """Beta(1 + S, 1 + n - S): the node forgets all but its window (Introspection-Rebirth)."""
        self.alpha[node] = 1 + window_sum
        self.beta[node] = 1 + window_length - window_sum
        self.rebirths[node] += 1

    # ---- questions ---------------------------------------------------------------------------------------------

    def is_leaf(self, arm: int) -> bool:
        return self.level[arm] == LEAF_LEVEL and not self.is_unk[arm]

    def children(self, node: int) -> list[int]:
        """Ids of the named children of `node`, in the order of their birth."""
        start = self.block[node]
        return [arm for arm in self.arena[start : start + self.degree[node]] if not self.is_unk[arm]]

    def path(self, node: int) -> list[int]:
        """Ids from the first level down to `node`; empty for Root."""
        path = []
        while node > 0:
            path.append(node)
            node = self.parent[node]
        return path[::-1]

    def path_names(self, node: int) -> list[str]:
        return [self.name[n] for n in self.path(node)]

    def holds_path(self, path: Sequence[int]) -> bool:
        """True when `path` leads from the first level down along parents and children that exist."""
        if len(path) > LEAF_LEVEL:
            return False
        above = ROOT
        for node in path:
            if not (0 < node < len(self.parent)) or self.parent[node] != above or self.is_unk[node]:
                return False
            above = node
        return True

    def pulls(self, node: int) -> int:
        """Rewards in the posterior, those kept at a rebirth included."""
        return self.alpha[node] + self.beta[node] - 2

    def mean(self, node: int) -> float:
        """Posterior mean of lambda."""
        return self.alpha[node] / (self.alpha[node] + self.beta[node])

    def leaves(self) -> list[int]:
        return [n for n in range(len(self.parent)) if self.is_leaf(n)]

    def column(self, column: array[int]) -> NDArray[np.int64]:
        """A view of one of the arrays above, without a copy. Let go of it before the tree grows: an array that
        is looked at cannot be made longer."""
        return np.frombuffer(column, dtype=column.typecode)
