"""A recorded run, open for questions in Python: `from bohdi import open_run`.

    run = open_run("runs/demo")
    run.state("round:3").versions
    run.nodes().to_pandas()

Events are `bohdi.v1.Event`s, states those of the bandit; tables are pyarrow's (`pip install bohdi[analysis]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bohdi import run_places
from bohdi.analysis import travel, what_if_view
from bohdi.analysis.diff import diff, views
from bohdi.analysis.points import END, Point, point
from bohdi.run_places import RunPlace, run_place
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import ROOT
from bohdi_common.events.events_pb2 import Event, Settings

if TYPE_CHECKING:
    import pyarrow as pa


def open_run(folder: str | Path | None = None, *, run: str | None = None, kafka: str | None = None) -> OpenedRun:
    """The run in a folder, or the one named `run` on Kafka (`kafka`: HOST:PORT, else BOHDI_KAFKA). Raises NoRun,
    LogError and BadConfig, each with one line that says what to do."""
    place = run_place(None if folder is None else Path(folder), kafka, run)
    return OpenedRun(place, place.run_id)


@dataclass(frozen=True)
class OpenedRun:
    """Reads the log anew with every question, so that a run that goes on may be asked too. `at` everywhere: a moment as
    `bohdi replay --at` has it, empty for the log's end as it is."""

    place: RunPlace
    run_id: str

    @property
    def settings(self) -> Settings:
        """What the run was started with."""
        return run_places.settings(self.place)

    def events(self, at: str = "") -> Iterator[Event]:
        """The run's events in their order: the one at place n has the run sequence n."""
        if not at:
            return run_places.events(self.place)
        until = self.state(at).sequence
        return (event for number, event in enumerate(run_places.events(self.place)) if number < until)

    def state(self, at: str = "") -> RunState:
        """What the run's events up to a moment add up to."""
        return self._moment(at).state

    def state_sha256(self, at: str = "") -> str:
        """The hash of that state."""
        return self._moment(at).state_sha256

    def diff(self, a: str, b: str = "") -> dict[str, Any]:
        """What lies between two moments, as `bohdi diff --json` has it."""
        before, after = views(self.events(), [_point(a), _point(b)])
        return diff(before, after)

    def what_if(self, sets: Sequence[str] = (), grids: Sequence[str] = (), at: str = "") -> dict[str, Any]:
        """The recorded outcomes under other settings, as `bohdi what-if --json` has it: `["bandit.window=10"]`."""
        return what_if_view.told(self.events(), sets, grids, _point(at))

    def nodes(self, at: str = "") -> pa.Table:
        """The domains, a row each: id, path, level, alpha, beta, mean (of lambda), rewards in the posterior, wins of
        the sources in the window, rebirths, pairs in store, open."""
        import pyarrow as pa

        state = self.state(at)
        tree = state.tree
        nodes = [node for node in range(ROOT + 1, len(tree)) if not tree.is_unk[node]]
        return pa.table(
            {
                "node": nodes,
                "path": pa.array([tree.path_names(node) for node in nodes], pa.list_(pa.string())),
                "level": [tree.level[node] for node in nodes],
                "alpha": [tree.alpha[node] for node in nodes],
                "beta": [tree.beta[node] for node in nodes],
                "mean": pa.array([tree.mean(node) for node in nodes], pa.float64()),
                "rewards": [tree.pulls(node) for node in nodes],
                "window_wins": [tree.window[node].bit_count() for node in nodes],
                "rebirths": [tree.rebirths[node] for node in nodes],
                "pairs": [len(state.pairs.get(node, ())) for node in nodes],
                "open": [bool(tree.open[node]) for node in nodes],
            }
        )

    def harvests(self, at: str = "") -> pa.Table:
        """The judged harvests, a row each, late ones too: `took_effect` says of which the posteriors know. `best`: the
        model with the best answer, empty where there is none."""
        import pyarrow as pa

        state = self.state(at)
        effective = set(chain.from_iterable(state.pairs.values()))
        rows = [
            _harvest(sequence, event, sequence in effective)
            for sequence, event in zip(range(state.sequence), run_places.events(self.place), strict=False)
            if event.HasField("harvest_judged")
        ]
        return pa.Table.from_pylist(rows, schema=_harvests_schema())

    def _moment(self, at: str) -> travel.Moment:
        return travel.moment(self.place, _point(at), travel.kept_states(self.place, bool(at)))


def _point(at: str) -> Point:
    return point(at) if at else END


def _harvest(sequence: int, event: Event, took_effect: bool) -> dict[str, Any]:
    judged = event.harvest_judged
    there = 0 <= judged.best < len(judged.answers)
    return {
        "sequence": sequence,
        "round": event.round,
        "step": event.step,
        "slot": event.slot,
        "path": list(judged.path),
        "question": judged.question,
        "leader": judged.leader,
        "target_version": judged.target_version,
        "best": judged.answers[judged.best].model if there else "",
        "best_answer": judged.answers[judged.best].text if there else "",
        "counted": judged.counted,
        "reward": judged.reward if judged.counted else None,
        "took_effect": took_effect,
    }


def _harvests_schema() -> pa.Schema:
    import pyarrow as pa

    texts = dict.fromkeys(("question", "leader", "target_version", "best", "best_answer"), pa.string())
    return pa.schema(
        {
            **dict.fromkeys(("sequence", "round", "step", "slot"), pa.int64()),
            "path": pa.list_(pa.string()),
            **texts,
            "counted": pa.bool_(),
            "reward": pa.int8(),
            "took_effect": pa.bool_(),
        }
    )
