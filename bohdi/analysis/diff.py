"""What lies between two moments of a run, or of two runs: nodes born and reborn, posteriors moved, wins, samples."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from bohdi.analysis.points import PastTheEnd, Point
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState, state_sha256
from bohdi_common.events.events_pb2 import Event

Path = tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A domain at a moment: its posterior Beta(alpha, beta), and how often it was reborn."""

    alpha: int
    beta: int
    rebirths: int

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)


@dataclass(frozen=True)
class View:
    """A run at a moment, as `diff` compares it. `wins`: counted harvests by the model with the best answer. `samples`:
    of each training that was drawn, by version, the run sequences in the order of training."""

    run_id: str
    sequence: int
    round: int
    target_version: str
    state_sha256: str
    nodes: dict[Path, Node]
    wins: Counter[str]
    samples: dict[str, tuple[int, ...]]


@dataclass
class _Tally:
    """What the fold forgets. Models by number: a byte an event."""

    models: list[str] = field(default_factory=list)
    best: array[int] = field(default_factory=lambda: array("b"))  # by run sequence; -1 for none
    samples: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, event: Event, after: RunState) -> None:
        """The event of the next run sequence, and the state that the fold made with it."""
        best = -1
        kind = event.WhichOneof("body")
        if kind == "harvest_judged":
            judged = event.harvest_judged
            if 0 <= judged.best < len(judged.answers):
                best = self._number(judged.answers[judged.best].model)
        elif kind == "training_drawn":
            training = after.training
            if training is not None and training.asked == after.sequence - 1:
                self.samples[training.version] = training.samples
        self.best.append(best)

    def wins(self, state: RunState) -> Counter[str]:
        """Of the harvests that the fold has taken in: those that came late are not among its pairs."""
        numbers = Counter(self.best[sequence] for sequence in chain.from_iterable(state.pairs.values()))
        return Counter({self.models[number]: count for number, count in numbers.items() if number >= 0})

    def _number(self, model: str) -> int:
        if model not in self.models:
            self.models.append(model)
        return self.models.index(model)


def views(events: Iterable[Event], points: Sequence[Point]) -> list[View]:
    """The run at each of the moments, in one pass over its events. Raises PastTheEnd."""
    state, tally = RunState(), _Tally()
    seen: dict[Point, View] = {}
    for event in events:
        for at in points:
            if at not in seen and at.before(state, event):
                seen[at] = _view(at, state, tally)
        if len(seen) == len(set(points)):
            break
        evolve(state, event)
        tally.add(event, state)
    return [seen[at] if at in seen else _view(at, state, tally) for at in points]


def _view(at: Point, state: RunState, tally: _Tally) -> View:
    if why := at.missed(state):
        raise PastTheEnd(why)
    tree = state.tree
    nodes = {
        tuple(tree.path_names(arm)): Node(tree.alpha[arm], tree.beta[arm], tree.rebirths[arm])
        for arm in range(1, len(tree))
        if not tree.is_unk[arm]
    }
    return View(
        state.run_id, state.sequence, state.round, state.target_version, state_sha256(state), nodes,
        tally.wins(state), dict(tally.samples),
    )  # fmt: skip


def diff(a: View, b: View) -> dict[str, Any]:
    """What is different in `b`, seen from `a`; domains are the same when their names are. Posteriors that moved come
    with the largest move of the mean first."""
    both = [path for path in b.nodes if path in a.nodes]
    moved = [_moved(path, a.nodes[path], b.nodes[path]) for path in both if a.nodes[path] != b.nodes[path]]
    moved.sort(key=lambda row: (-abs(row["moved"]), row["path"]))
    models = sorted({*a.wins, *b.wins})
    return {
        "a": _of(a),
        "b": _of(b),
        "born": [{"path": list(path)} | _posterior(b.nodes[path]) for path in b.nodes if path not in a.nodes],
        "gone": [{"path": list(path)} | _posterior(a.nodes[path]) for path in a.nodes if path not in b.nodes],
        "reborn": [
            {"path": list(path), "rebirths": times}
            for path in both
            if (times := b.nodes[path].rebirths - a.nodes[path].rebirths)
        ],
        "moved": moved,
        "wins": {model: {"a": a.wins[model], "b": b.wins[model]} for model in models},
        "samples": {"a": _used(a), "b": _used(b)},
    }


def _of(view: View) -> dict[str, Any]:
    return {
        "run_id": view.run_id,
        "events": view.sequence,
        "round": view.round,
        "target_version": view.target_version,
        "state_sha256": view.state_sha256,
    }


def _posterior(node: Node) -> dict[str, Any]:
    return {"alpha": node.alpha, "beta": node.beta, "lambda": node.mean}


def _moved(path: Path, before: Node, after: Node) -> dict[str, Any]:
    return {"path": list(path), "a": _posterior(before), "b": _posterior(after), "moved": after.mean - before.mean}


def _used(view: View) -> dict[str, Any]:
    """Samples of all trainings up to a moment: how many were drawn, how many different ones, and by training."""
    return {
        "drawn": sum(map(len, view.samples.values())),
        "different": len(set(chain.from_iterable(view.samples.values()))),
        "by_training": {version: len(samples) for version, samples in view.samples.items()},
    }
