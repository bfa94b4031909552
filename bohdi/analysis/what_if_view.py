"""What-if, as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from bohdi.analysis.ballots import AS_JUDGED
from bohdi.analysis.points import END, Point
from bohdi.analysis.tape import tape
from bohdi.analysis.variants import Variant, variants
from bohdi.analysis.what_if import Folds, fold, state_of
from bohdi_common.core.state import RunState, state_sha256
from bohdi_common.events.events_pb2 import Event

FIXED = (
    "As recorded: draws, answers, verdicts, trainings. Made anew: rewards, windows, sweeps, posteriors. What other "
    "draws would have brought is not in the log."
)


def told(
    events: Iterable[Event], sets: Sequence[str], grids: Sequence[str], at: Point = END, hashes: bool = False
) -> dict[str, Any]:
    """`recorded`: the run as it was; `variants`: what was given for each, how it came out and, of a single one, the
    posteriors that moved. Raises BadConfig."""
    read = tape(events, _touches_rewards(sets, grids), at)
    assert read.state.rules is not None
    recorded = Variant.recorded(read.state.rules)
    asked = variants(recorded, sets, grids)
    folds = fold(read, [variant for _, variant in asked])
    rows = []
    for number, (given, variant) in enumerate(asked):
        row = {"given": given} | _outcome(folds, number)
        if variant.whole_prior and (hashes or len(asked) == 1):
            row["state_sha256"] = state_sha256(state_of(folds, number))
        rows.append(row)
    if len(asked) == 1:
        rows[0]["moved"] = _moved(folds, 0)
    return {"recorded": _recorded(read.state), "sweeps": len(read.sweeps), "variants": rows}


def _touches_rewards(sets: Sequence[str], grids: Sequence[str]) -> bool:
    return any(text.strip().startswith("rewards.") for text in (*sets, *grids))


def _recorded(state: RunState) -> dict[str, Any]:
    return {
        "events": state.sequence,
        "round": state.round,
        "harvests": state.counts.get("harvests", 0),
        "rebirths": state.counts.get("rebirths", 0),
        "state_sha256": state_sha256(state),
    }


def _outcome(folds: Folds, number: int) -> dict[str, Any]:
    variant = folds.variants[number]
    moves = _moves(folds, number)
    furthest = int(np.argmax(np.abs(moves))) if len(moves) else 0
    return {
        "settings": _settings(variant),
        "harvests": folds.harvests(number),
        "rebirths": int(folds.rebirths[number].sum()),
        "nodes_reborn": int((folds.rebirths[number] > 0).sum()),
        "sweeps_as_recorded": folds.agrees(number),
        "nodes_moved": int((np.abs(moves) > 0).sum()),
        "furthest": {
            "path": folds.tape.state.tree.path_names(furthest),
            "moved": float(moves[furthest]) if len(moves) else 0.0,
        },
    }


def _settings(variant: Variant) -> dict[str, Any]:
    plain: dict[str, Any] = {"window": variant.window, "threshold": variant.threshold, "null": variant.null or "off"}
    plain |= {"correction": variant.correction or "none", "prior": list(variant.prior)}
    return plain | ({} if variant.rewards == AS_JUDGED else {"rewards": vars(variant.rewards)})


def _moves(folds: Folds, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By how much the mean of each arm's posterior is another than the recorded one; 0 for what is no domain."""
    tree = folds.tape.state.tree
    alpha, beta = folds.posterior(number)
    was = tree.column(tree.alpha) / (tree.column(tree.alpha) + tree.column(tree.beta))
    domain = (tree.column(tree.is_unk) == 0) & (tree.column(tree.level) > 0)
    return np.where(domain, alpha / (alpha + beta) - was, 0.0)


def _moved(folds: Folds, number: int) -> list[dict[str, Any]]:
    tree, moves = folds.tape.state.tree, _moves(folds, number)
    alpha, beta = folds.posterior(number)
    order = [int(arm) for arm in np.lexsort((np.arange(len(moves)), -np.abs(moves))) if moves[arm]]
    return [
        {
            "path": tree.path_names(arm),
            "recorded": [tree.alpha[arm], tree.beta[arm]],
            "alpha": float(alpha[arm]),
            "beta": float(beta[arm]),
            "rebirths": int(folds.rebirths[number, arm]),
            "moved": float(moves[arm]),
        }
        for arm in order
    ]


def table(told: dict[str, Any]) -> Table:
    """A row for what was recorded and for each variant."""
    recorded = told["recorded"]
    shown = Table(title=f"{recorded['events']} events, {told['sweeps']} sweeps, folded under other settings")
    shown.add_column("settings")
    for column in ("harvests", "rebirths", "nodes reborn", "nodes moved", "furthest"):
        shown.add_column(column, justify="right")
    shown.add_column("domain")
    shown.add_row("as recorded", str(recorded["harvests"]), str(recorded["rebirths"]))
    for row in told["variants"]:
        counts = (str(row[name]) for name in ("harvests", "rebirths", "nodes_reborn", "nodes_moved"))
        where = row["furthest"]
        moved = f"{where['moved']:+.3f}" if where["moved"] else ""
        shown.add_row(escape(_given(row["given"])), *counts, moved, escape(" > ".join(where["path"])) if moved else "")
    return shown


def hash_lines(told: dict[str, Any]) -> list[str]:
    """The hash of what was recorded, and of each variant for which one was made."""
    named = {"recorded": told["recorded"]} | {_given(row["given"]): row for row in told["variants"]}
    return [f"state_sha256 {row['state_sha256']} {name}" for name, row in named.items() if "state_sha256" in row]


def _given(given: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items()) or "unchanged"


def moved_table(row: dict[str, Any], top: int) -> Table:
    """The domains whose posteriors are others than recorded, the furthest first."""
    shown = Table(title=f"posteriors that moved: {len(row['moved'])}, the most first")
    for column in ("domain", "recorded", "here", "rebirths", "moved"):
        shown.add_column(column, justify="left" if column == "domain" else "right")
    for node in row["moved"][:top]:
        was, now = node["recorded"], (node["alpha"], node["beta"])
        beta = [f"{a / (a + b):.3f} Beta({a:g}, {b:g})" for a, b in (was, now)]
        shown.add_row(escape(" > ".join(node["path"])), *beta, str(node["rebirths"]), f"{node['moved']:+.3f}")
    return shown
