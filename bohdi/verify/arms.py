"""The verification's own account of the tree: what entered every arm, by kind of entry, and since when it is there.

Written apart from `core.tree`, which keeps posteriors: here the posterior is what the entries add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bohdi_common.core import names
from bohdi_common.core.tree import LEAF_LEVEL, ROOT

NEVER = 1 << 62


@dataclass(slots=True)
class Arm:
    """`born`, `closed`: run sequence of the first state in which it is there, or can no longer be drawn."""

    parent: int
    level: int
    name: str
    is_unk: bool
    born: int
    closed: int = NEVER
    unk: int = -1  # the `unk` arm below
    kept_wins: int = 0  # of the window kept at the last rebirth
    kept: int = 0
    wins: int = 0  # since then; of an `unk` arm the names added
    losses: int = 0
    window: int = 0  # the last rewards as bits
    misses: int = 0
    rebirths: int = 0
    children: dict[str, int] = field(default_factory=dict)  # by the key of their names, in the order of birth

    @property
    def alpha(self) -> int:
        return 1 + self.kept_wins + self.wins

    @property
    def beta(self) -> int:
        return 1 + self.kept - self.kept_wins + self.losses

    @property
    def seen(self) -> int:
        """Outcomes in the posterior: alpha + beta - 2."""
        return self.kept + self.wins + self.losses


class Arms:
    """All arms, by id."""

    def __init__(self, window: int, grow: bool, born: int) -> None:
        self.window = window
        self.grow = grow
        self._mask = (1 << window) - 1
        self.all: list[Arm] = []
        self._node(-1, 0, "Root", born)

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, arm: int) -> Arm:
        return self.all[arm]

    def add(self, parent: int, name: str, born: int) -> int:
        child = self._node(parent, self.all[parent].level + 1, name, born)
        self.all[parent].children[names.key(name)] = child
        return child

    def _node(self, parent: int, level: int, name: str, born: int) -> int:
        node = len(self.all)
        self.all.append(Arm(parent, level, name, False, born))
        if level < LEAF_LEVEL:
            self.all[node].unk = len(self.all)
            self.all.append(Arm(node, level + 1, "unk", True, born, NEVER if self.grow else born))
        return node

    def path(self, node: int) -> list[int]:
        path: list[int] = []
        while node > ROOT:
            path.append(node)
            node = self.all[node].parent
        return path[::-1]

    def path_names(self, node: int) -> list[str]:
        return [self.all[n].name for n in self.path(node)]

    def taken_names(self, parent: int) -> set[str]:
        """Keys of the names that no further child of a node can have: those above it and those of its children."""
        above = {names.key(name) for name in self.path_names(parent)}
        return above | self.all[parent].children.keys()

    def is_path(self, path: Sequence[int]) -> bool:
        above = ROOT
        for node in path:
            if not ROOT < node < len(self.all) or self.all[node].is_unk or self.all[node].parent != above:
                return False
            above = node
        return len(path) <= LEAF_LEVEL

    def named(self, path: Sequence[str]) -> int | None:
        """The node at the end of a path of names."""
        node: int | None = ROOT
        for name in path:
            node = self.all[node].children.get(names.key(name)) if node is not None else None
        return node

    def reward(self, leaf: int, r: int) -> None:
        node = leaf
        while node > ROOT:
            arm = self.all[node]
            arm.wins += r
            arm.losses += 1 - r
            arm.window = (arm.window << 1 | r) & self._mask
            node = arm.parent

    def missed(self, arm: int, limit: int, at: int) -> None:
        """One more failure in a row; the `limit`-th closes the arm in the state `at`."""
        self.all[arm].misses += 1
        if self.all[arm].misses >= limit and self.all[arm].closed == NEVER:
            self.all[arm].closed = at

    def is_open(self, node: int, at: int) -> bool:
        """Whether `node`, or something under it, could be drawn in the state `at`."""
        arm = self.all[node]
        if arm.is_unk or arm.level == LEAF_LEVEL:
            return arm.born <= at < arm.closed
        return self.is_open(arm.unk, at) or any(self.is_open(child, at) for child in arm.children.values())

    def open_nodes(self) -> list[bool]:
        """Which arms can be drawn: those not closed, and nodes above one of them."""
        can = [False] * len(self.all)
        for number, arm in enumerate(self.all):
            node = number if arm.closed == NEVER and (arm.is_unk or arm.level == LEAF_LEVEL) else -1
            while node >= 0 and not can[node]:
                can[node] = True
                node = self.all[node].parent
        return can
