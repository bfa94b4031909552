"""Where a domain came from, and what moved it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bohdi.analysis.ballots import Ballots
from bohdi.analysis.tape import FAILED, Tape
from bohdi.analysis.why.told import NAMED_MOST, Events, plain
from bohdi_common.core import names
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig


def node(events: Events, said: str) -> dict[str, Any]:
    """Of a domain, named by its path (`Main > Secondary > Sub`): who proposed it with how many votes, every reward, and
    its rebirths with their statistics. One pass over the log. Raises BadConfig."""
    wanted = [names.tidy(part) for part in said.split(">")]
    story = _NodeStory(wanted)
    for sequence, event in enumerate(events()):
        story.take(sequence, event)
    if story.node is None:
        raise BadConfig(_no_node(story.tape.state.tree, wanted, said))
    return story.told()


def _find(tree: Tree, path: Sequence[str]) -> int | None:
    at: int | None = ROOT
    for name in path:
        at = tree.child_named(at, name) if at is not None and len(tree) else None
    return at


def _no_node(tree: Tree, path: Sequence[str], said: str) -> str:
    depth = next(depth for depth in range(1, len(path) + 1) if _find(tree, path[:depth]) is None)
    above = _find(tree, path[: depth - 1])
    there = [tree.name[child] for child in tree.children(above)] if above is not None and len(tree) else []
    more = f" and {len(there) - NAMED_MOST} more" if len(there) > NAMED_MOST else ""
    where = " > ".join(path[: depth - 1]) or "Root"
    listed = f"there are {', '.join(there[:NAMED_MOST])}{more}" if there else "it has none"
    return f"why node {said}: no domain {path[depth - 1]!r} under {where}: {listed}"


class _NodeStory:
    """Folds a run and keeps what concerns one node."""

    def __init__(self, path: Sequence[str]) -> None:
        self._path = path
        self.node: int | None = None
        self.tape = Tape(Ballots(voted=False))
        self._sprouts: dict[int, tuple[int, Event]] = {}  # by parent, the last that has the name
        self._birth: dict[str, Any] = {}
        self._rewards: list[dict[str, Any]] = []
        self._rebirths: list[dict[str, Any]] = []
        self._without = 0  # results that came to no reward, in the leaves under it

    def take(self, sequence: int, event: Event) -> None:
        state, taken = self.tape.state, len(self.tape.leaf)
        known, before = len(state.tree), self._posterior()
        rebirths = state.counts.get("rebirths", 0)
        if event.HasField("domains_sprouted") and self.node is None:
            body = event.domains_sprouted
            if any(names.key(given.name) == names.key(self._path[-1]) for given in body.names):
                self._sprouts[body.parent] = (sequence, event)
        self.tape.take(event)
        if self.node is None and len(state.tree) > known:
            self._born(sequence, event)
        if self.node is None:
            return
        for place in range(taken, len(self.tape.leaf)):
            self._result(place, event)
        if state.counts.get("rebirths", 0) > rebirths:
            for found in event.nodes_reborn.rebirths:
                if found.node == self.node:
                    moved = {"before": before, "after": self._posterior()}
                    self._rebirths.append({"sequence": sequence, "round": event.round} | plain(found) | moved)

    def _posterior(self) -> dict[str, Any]:
        tree = self.tape.state.tree
        if self.node is None:
            return {}
        return {"alpha": tree.alpha[self.node], "beta": tree.beta[self.node], "lambda": tree.mean(self.node)}

    def _born(self, sequence: int, event: Event) -> None:
        self.node = _find(self.tape.state.tree, self._path)
        if self.node is None:
            return
        parent = self.tape.state.tree.parent[self.node]
        self._birth = {"sequence": sequence, "round": event.round, "proposals": [], "votes": 0, "prompts": ""}
        if event.HasField("run_started") or parent not in self._sprouts:
            self._birth["by"] = "the start of the run"
            return
        key = names.key(self._path[-1])
        answered, found = self._sprouts[parent]
        body = found.domains_sprouted
        mine = [said for said in body.proposals if names.key(said.text) == key]
        self._birth |= {
            "by": "a sprout",
            "sprout_sequence": answered,
            "prompts": body.prompts,
            "votes": sum(given.votes for given in body.names if names.key(given.name) == key),
            "proposals": [plain(said) for said in mine],
            "beside": [given.name for given in body.names if names.key(given.name) != key],
        }

    def _result(self, place: int, event: Event) -> None:
        tree, leaf = self.tape.state.tree, self.tape.leaf[place]
        if self.node not in tree.path(leaf):
            return
        row = self.tape.row[place]
        reward = self.tape.ballots.recorded[row] if row != FAILED else -1
        if reward < 0:
            self._without += 1
            return
        told = {"sequence": self.tape.sequence[place], "round": event.round, "reward": reward}
        self._rewards.append(told | ({} if leaf == self.node else {"leaf": tree.path_names(leaf)}))

    def told(self) -> dict[str, Any]:
        tree, state = self.tape.state.tree, self.tape.state
        node = self.node
        assert node is not None
        return {
            "node": node,
            "path": tree.path_names(node),
            "level": tree.level[node],
            "open": bool(tree.open[node]),
            "born": self._birth,
            "prior": {"alpha": 1, "beta": 1},
            "posterior": self._posterior(),
            "window": {"wins": tree.window[node].bit_count(), "length": tree.window_length},
            "children": [tree.name[child] for child in tree.children(node)] if tree.level[node] < LEAF_LEVEL else [],
            "pairs": len(state.pairs.get(node, ())),
            "rewards": self._rewards,
            "without_reward": self._without,
            "rebirths": self._rebirths,
        }
