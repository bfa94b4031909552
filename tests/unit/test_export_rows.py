"""The rows of a run's tables are what its events and its fold say, and nothing is lost or told twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from bohdi.exports import reference
from bohdi.exports.columns import TABLES
from bohdi.exports.history import History, effective, node_rows
from bohdi.exports.rows import rows_of
from bohdi.exports.views import VIEWS
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from tests.recorded_run import RecordedRun, settings

NAMES = {table.name: [column.name for column in table.columns] for table in TABLES}


def recorded(lockstep: bool, **shares: float) -> list[Event]:
    bandit = {"introspection": "paper", "lockstep": lockstep}
    run = RecordedRun(seed=16, settings=settings(16, bandit=bandit), **shares)
    run.run()
    return run.feedback


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "in lockstep"])
def feedback(request: pytest.FixtureRequest) -> list[Event]:
    return recorded(request.param, away=0.05, withheld=0.1, twice=0.05, disturbed=0.02)


def rows(feedback: Sequence[Event]) -> dict[str, list[dict[str, Any]]]:
    """By table, each row by its columns' names."""
    history = History()
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in feedback:
        found["posteriors"] += [dict(zip(NAMES["posteriors"], row, strict=True)) for row in history.take(event)]
    found["nodes"] += [dict(zip(NAMES["nodes"], row, strict=True)) for row in node_rows(history.state)]
    took_effect = effective(history.state)
    for sequence, event in enumerate(feedback):
        for table, row in rows_of(sequence, event, bool(took_effect[sequence])):
            found[table.name].append(dict(zip(NAMES[table.name], row, strict=True)))
    return found


def test_there_are_as_many_rows_as_the_log_has_of_each_kind(feedback: list[Event]) -> None:
    found, kinds = rows(feedback), Counter(map(codec.kind_of, feedback))
    assert len(found["events"]) == len(feedback)
    assert Counter(row["kind"] for row in found["events"]) == kinds
    assert len(found["harvests"]) == kinds["harvest_judged"]
    assert len(found["rehearsals"]) == kinds["rehearsal_answered"]
    assert len(found["trainings"]) == kinds["training_drawn"]
    assert len(found["training_results"]) == kinds["target_promoted"] + kinds["training_failed"]
    assert len(found["answers"]) == sum(len(event.harvest_judged.answers) for event in feedback)
    assert len(found["verdicts"]) == sum(len(event.harvest_judged.verdicts) for event in feedback)
    assert len(found["usage"]) == sum(len(event.usage) for event in feedback)
    drawn = sum(len(event.paths_drawn.slots) for event in feedback) + kinds["slot_continued"]
    assert len(found["draws"]) == drawn
    assert len(found["training_samples"]) == sum(len(event.training_drawn.samples) for event in feedback)


def test_what_took_effect_is_what_the_fold_has_taken_in(feedback: list[Event]) -> None:
    state = RunState()
    for event in feedback:
        evolve(state, event)
    known = {sequence for sequences in state.pairs.values() for sequence in sequences}
    found = rows(feedback)
    assert {row["sequence"] for row in found["harvests"] if row["took_effect"]} == known
    assert any(not row["took_effect"] for row in found["harvests"])
    assert sum(row["took_effect"] for row in found["rehearsals"]) == state.counts.get("rehearsals", 0)


def test_the_last_row_of_a_node_over_time_is_the_node_at_the_end(feedback: list[Event]) -> None:
    found = rows(feedback)
    last = {row["node"]: row for row in found["posteriors"]}
    assert set(last) == {row["node"] for row in found["nodes"]}
    for node in found["nodes"]:
        for column in ("alpha", "beta", "mean", "window_wins", "rebirths"):
            assert last[node["node"]][column] == node[column]


def test_a_node_over_time_is_the_node_in_the_state_of_every_moment(feedback: list[Event]) -> None:
    moved = defaultdict(list)
    for row in rows(feedback)["posteriors"]:
        moved[row["sequence"]].append(row)
    assert {row["why"] for found in moved.values() for row in found} == {"born", "reward", "rebirth"}
    state, seen = RunState(), {}
    for sequence, event in enumerate(feedback):
        evolve(state, event)
        seen |= {row["node"]: (row["alpha"], row["beta"]) for row in moved[sequence]}
        tree = state.tree
        there = {node: (tree.alpha[node], tree.beta[node]) for node in range(1, len(tree)) if not tree.is_unk[node]}
        assert seen == there


def test_a_row_of_a_node_over_time_says_that_it_moved(feedback: list[Event]) -> None:
    before: dict[int, tuple[int, int]] = {}
    for row in rows(feedback)["posteriors"]:
        now = (row["alpha"], row["beta"])
        assert row["why"] != "reward" or before[row["node"]] != now
        before[row["node"]] = now


def test_a_verdict_names_what_was_chosen_and_where_it_was_shown(feedback: list[Event]) -> None:
    found = rows(feedback)
    answers = {(row["sequence"], row["position"]): row for row in found["answers"]}
    chosen = [row for row in found["verdicts"] if row["choice"] is not None]
    assert chosen and len(chosen) < len(found["verdicts"])
    for row in chosen:
        assert row["shown"][row["chosen_place"]] == row["choice"]
        assert answers[row["sequence"], row["choice"]]["model"] == row["chosen"]


def test_a_choice_of_an_answer_that_is_not_there_is_no_mistake_of_ours(feedback: list[Event]) -> None:
    event = Event()
    event.CopyFrom(next(e for e in feedback if e.harvest_judged.verdicts))
    event.harvest_judged.best = event.harvest_judged.verdicts[0].choice = 99
    assert [table.name for table, _ in rows_of(0, event, False)].count("harvests") == 1


def test_the_documentation_has_every_table_and_view_as_it_is() -> None:
    text = reference.DOCS.read_text(encoding="utf-8")
    assert f"{reference.BEGIN}{reference.reference()}{reference.END}" in text, "python -m bohdi.exports.reference"
    assert len({table.name for table in TABLES} | {view.name for view in VIEWS}) == len(TABLES) + len(VIEWS)
