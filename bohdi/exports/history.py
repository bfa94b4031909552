"""What only the fold knows: which results took effect, and how the nodes were over time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from bohdi.analysis.effects import Effects
from bohdi.exports.rows import Row
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import ROOT
from bohdi_common.events.events_pb2 import Event


@dataclass
class History:
    """Folds a run."""

    effects: Effects = field(default_factory=Effects)

    @property
    def state(self) -> RunState:
        return self.effects.state

    def take(self, event: Event) -> list[Row]:
        """Folds the next event; gives its rows of `posteriors`."""
        state = self.state
        sequence, arms, rebirths = state.sequence, len(state.tree), state.counts.get("rebirths", 0)
        outcomes = self.effects.take(event)
        tree = state.tree
        new = (arm for arm in range(max(ROOT + 1, arms), len(tree)) if not tree.is_unk[arm])
        moved = dict.fromkeys(new, "born")
        for leaf, _, counted in outcomes:
            if counted:
                moved |= dict.fromkeys(tree.path(leaf), "reward")
        if state.counts.get("rebirths", 0) > rebirths:
            moved |= dict.fromkeys((rebirth.node for rebirth in event.nodes_reborn.rebirths), "rebirth")
        return [(sequence, event.round, node, why, *_posterior(state, node)) for node, why in moved.items()]


def _posterior(state: RunState, node: int) -> Row:
    tree = state.tree
    wins = tree.window[node].bit_count()
    return tree.alpha[node], tree.beta[node], tree.mean(node), wins, tree.rebirths[node]


def effective(state: RunState) -> bytearray:
    """By run sequence, 1 for the harvests and rehearsals that the fold has taken in, of all events up to the state."""
    flags = bytearray(state.sequence)
    for sequence in chain.from_iterable(chain(state.pairs.values(), state.rehearsals.values())):
        flags[sequence] = 1
    return flags


def node_rows(state: RunState) -> Iterator[Row]:
    """The rows of `nodes`, by id."""
    tree = state.tree
    for node in range(ROOT + 1, len(tree)):
        if not tree.is_unk[node]:
            yield (
                node, tree.parent[node], tree.path_names(node), tree.level[node], tree.alpha[node], tree.beta[node],
                tree.mean(node), tree.pulls(node), tree.window[node].bit_count(), tree.rebirths[node],
                len(state.pairs.get(node, ())), bool(tree.open[node]),
            )  # fmt: skip
