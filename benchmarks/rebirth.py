"""One sweep of Introspection-Rebirth over a large tree, against a loop of scipy's tests over its nodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import stats

from benchmarks.rows import Measured
from benchmarks.timing import best_seconds
from benchmarks.trees import WINDOW, full_tree, with_stationary_history
from bohdi_common.core import swblrt
from bohdi_common.core.tree import Tree

_LOOPED = 300  # nodes that the loop tests in a turn; its time is scaled up
_TURNS = 15


def milliseconds(form: str, threshold: float) -> Measured:
    """One sweep over a 45 x 45 x 45 tree, in which every window is full and every node is tested."""
    tree = _tree()
    nodes = np.flatnonzero((tree.column(tree.is_unk) == 0) & (tree.column(tree.level) > 0))
    loop = _LOOPS[form]
    sweep_s, loop_s = best_seconds(
        _TURNS, lambda: swblrt.sweep(tree, form, threshold), lambda: loop(tree, nodes[-_LOOPED:])
    )
    tested = swblrt.sweep(tree, form, threshold).tested
    if tested != len(nodes):
        raise RuntimeError(f"{tested} of {len(nodes)} nodes were tested")
    loop_s *= len(nodes) / _LOOPED
    return Measured(
        sweep_s * 1e3,
        "ms",
        f"a loop of scipy's test over the nodes, {loop_s:.1f} s (scaled up from {_LOOPED})",
        loop_s / sweep_s,
    )


@cache
def _tree() -> Tree:
    return with_stationary_history(full_tree(45, 45, 45), seed=1)


def _paper_loop(tree: Tree, nodes: np.ndarray) -> None:
    for node in nodes.tolist():
        wins, pulls = tree.alpha[node] - 1, tree.pulls(node)
        in_window = tree.window[node].bit_count()
        before, now = (stats.binom.logpmf(in_window, WINDOW, p) for p in (wins / pulls, in_window / WINDOW))
        stats.chi2.sf(2 * (now - before), 1)


def _two_sample_loop(tree: Tree, nodes: np.ndarray) -> None:
    p_values = []
    for node in nodes.tolist():
        in_window = tree.window[node].bit_count()
        wins, losses = tree.alpha[node] - 1 - in_window, tree.beta[node] - 1 - (WINDOW - in_window)
        p_values.append(stats.fisher_exact([[in_window, WINDOW - in_window], [wins, losses]]).pvalue)
    stats.false_discovery_control(p_values)


_LOOPS: dict[str, Callable[[Tree, np.ndarray], None]] = {"paper": _paper_loop, "two_sample": _two_sample_loop}
