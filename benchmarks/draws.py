"""Path draws: one vectorised pass for the B slots of a step, against a loop over paths and levels."""

from __future__ import annotations

import numpy as np

from benchmarks.rows import Measured
from benchmarks.timing import best_seconds
from benchmarks.trees import full_tree, with_stationary_history
from bohdi_common.core import draws
from bohdi_common.core.tree import ROOT, Tree

PATHS = 30  # B
_SHARPNESS = 2.0
_STEPS, _TURNS = 10, 100


def per_second(*shape: int) -> Measured:
    """Paths drawn from Root in steps of B, every generator made anew, on a tree in which every node has a history."""
    tree = with_stationary_history(full_tree(*shape), seed=0)
    children, alpha, beta = _as_lists(tree)
    loop_rng = np.random.default_rng(0)

    def vectorised() -> None:
        for step in range(_STEPS):
            draws.draw_from_root(tree, PATHS, draws.generator(0, 0, step), _SHARPNESS, explore=True)

    def loop() -> None:
        for _ in range(PATHS):
            _one_path(children, alpha, beta, loop_rng)

    vectorised_s, loop_s = best_seconds(_TURNS, vectorised, loop)
    rate, loop_rate = PATHS * _STEPS / vectorised_s, PATHS / loop_s
    return Measured(
        rate, "paths/s", f"a loop with numpy's beta and choice at each node, {loop_rate:,.0f}", rate / loop_rate
    )


def _as_lists(tree: Tree) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The same tree as a plain program would have it: the children of each node, `unk` included, and the posteriors."""
    children = [
        np.array([*tree.children(n), tree.unk_of[n]]) if tree.degree[n] else np.array([]) for n in range(len(tree))
    ]
    return children, np.array(tree.alpha, dtype=float), np.array(tree.beta, dtype=float)


def _one_path(children: list[np.ndarray], alpha: np.ndarray, beta: np.ndarray, rng: np.random.Generator) -> int:
    node = ROOT
    while len(children[node]):
        arms = children[node]
        weight = rng.beta(alpha[arms], beta[arms]) ** _SHARPNESS
        node = rng.choice(arms, p=weight / weight.sum())
    return node
