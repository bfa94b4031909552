"""SWBLRT, the sliding-window binomial likelihood-ratio test of Introspection-Rebirth, in its two forms.

`paper` is the published test. Its null is fitted to data that hold the window itself, and nothing corrects for testing
every node, so up to one stationary node in five is reborn in each sweep (docs/rebirth.md). `two_sample` compares the
window with what came before it since the node's last rebirth, by the exact conditional test of two binomials (Fisher),
and holds the false-discovery rate of the whole sweep (Benjamini and Hochberg 1995). Both are one vectorised pass over
all nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from bohdi_common.core.tree import Tree

# Which tests find a change, by their places: of the nodes and the p-value of each.
Rejects = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.int64]]

_RELATIVE_TIE = 1 + 1e-7  # tables whose probability differs by rounding only count as equally likely


@dataclass(frozen=True)
class Swept:
    """The tests of one sweep: the nodes and, beside each, S, the statistic and the p-value."""

    nodes: NDArray[np.int64]
    window_sum: NDArray[np.int64]
    window_length: int
    statistic: NDArray[np.float64]
    p_value: NDArray[np.float64]

    def at(self, chosen: NDArray[np.int64]) -> Swept:
        """Some of them, by their places."""
        of_chosen = (self.nodes[chosen], self.window_sum[chosen], self.window_length)
        return Swept(*of_chosen, self.statistic[chosen], self.p_value[chosen])


@dataclass(frozen=True)
class Sweep(Swept):
    """Outcome of one sweep: those of its tests whose nodes are to be reborn, of `tested`."""

    tested: int


def sweep(tree: Tree, form: str, threshold: float) -> Sweep:
    """Tests every node with a full window. `form`: `paper` (threshold on each p-value) or `two_sample` (threshold is
    the false-discovery rate; nodes with fewer than w observations before the window are not tested)."""
    done = swept(tree, form, lambda _, p_value: rejected(p_value, form, threshold))
    return Sweep(**vars(done.at(rejected(done.p_value, form, threshold))), tested=len(done.nodes))


def swept(tree: Tree, form: str, rejects: Rejects) -> Swept:
    """The test of every node that a sweep tests, by their ids; exact where `rejects` may find a change."""
    alpha, beta = tree.column(tree.alpha), tree.column(tree.beta)
    w = tree.window_length
    wins, losses = alpha - 1, beta - 1
    domains = (tree.column(tree.is_unk) == 0) & (tree.column(tree.level) > 0)
    needed = w if form == "paper" else 2 * w
    nodes = np.flatnonzero(domains & (wins + losses >= needed))
    in_window = np.bitwise_count(tree.column(tree.window)[nodes]).astype(np.int64)
    wins, losses = wins[nodes], losses[nodes]
    if form == "paper":
        statistic = paper_statistic(wins, losses, in_window, w)
        p_value = chi_square_tail(statistic)
    else:
        before = (wins - in_window, losses - (w - in_window))
        statistic = two_sample_statistic(in_window, w, *before)
        p_value = two_sample_p_values(in_window, w, *before, statistic, lambda p_value: rejects(nodes, p_value))
    return Swept(nodes, in_window, w, statistic, p_value)


def rejected(p_value: NDArray[np.float64], form: str, threshold: float) -> NDArray[np.int64]:
    """Which of the tests of one tree find a change, by their places."""
    if form == "paper":
        return np.flatnonzero(p_value < threshold)
    return np.flatnonzero(benjamini_hochberg(p_value, threshold))


def chi_square_tail(statistic: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(X > statistic) for chi-square with one degree of freedom."""
    return scipy.special.erfc(np.sqrt(np.maximum(statistic, 0.0) / 2))


def paper_statistic(
    wins: NDArray[np.int64], losses: NDArray[np.int64], in_window: NDArray[np.int64], w: int
) -> NDArray[np.float64]:
    """2 (log L(p1) - log L(p0)) with p0 = (alpha - 1) / (alpha + beta - 2), p1 = S / w, L the window's likelihood
    (paper, Introspection-Rebirth). Infinite where p0 rules the window out."""
    p0 = wins / (wins + losses)
    possible = np.arange(w + 1)
    with np.errstate(divide="ignore"):
        at_p1 = _log_likelihood(possible, w, possible / w)[in_window]
        return 2 * (at_p1 - _log_likelihood(in_window, w, p0))


def two_sample_statistic(
    in_window: NDArray[np.int64], w: int, wins: NDArray[np.int64], losses: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Likelihood ratio of "window and before differ" to "they are one", both maximised, times two: the G statistic of
    the 2 x 2 table, from the sums of n log n over cells and margins."""
    n = wins + losses
    cells = _n_log_n(in_window) + _n_log_n(w - in_window) + _n_log_n(wins) + _n_log_n(losses)
    margins = _n_log_n(in_window + wins) + _n_log_n(w - in_window + losses) + _n_log_n(n) + w * np.log(w)
    return 2 * (cells - margins + _n_log_n(n + w))


def two_sample_p_values(
    in_window: NDArray[np.int64],
    w: int,
    wins: NDArray[np.int64],
    losses: NDArray[np.int64],
    statistic: NDArray[np.float64],
    rejects: Callable[[NDArray[np.float64]], NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Exact two-sided p-values where they can matter, the chi-square ones elsewhere.

    The chi-square tail is several times too small far out at these sample sizes, where a sweep over thousands of
    nodes decides; it is nowhere twice too large. So what `rejects` (places of the tests that find a change, by their
    p-values) does not reject of the halves of the tails it rejects of no exact p-value either, if, as thresholds and
    Benjamini-Hochberg do, it rejects more when p-values fall; only the others are computed.
    """
    p_value = chi_square_tail(statistic)
    near = rejects(p_value / 2)
    if len(near):
        p_value[near] = fisher_exact(in_window[near], w, wins[near], losses[near])
    return p_value


def fisher_exact(
    in_window: NDArray[np.int64], w: int, wins: NDArray[np.int64], losses: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Two-sided conditional test of S wins in w against `wins` in `wins + losses`, shape (nodes,): the probability,
    given all margins, of a table no likelier than the one seen."""
    total_wins = (in_window + wins)[:, None]
    total_losses = (w - in_window + losses)[:, None]
    k = np.arange(w)[None, :]
    # P(k + 1) / P(k) of the hypergeometric distribution of the window's wins; tables with k below w - total_losses
    # cannot be, and a step among them is set to 1 so that the product starts at the first possible one.
    to_more = (total_wins - k) * (w - k)
    of_less = (k + 1) * (total_losses - w + k + 1)
    ratio = np.where(of_less > 0, np.maximum(to_more, 0) / np.maximum(of_less, 1), 1.0)
    with np.errstate(divide="ignore"):
        log_probability = np.cumsum(np.log(ratio), axis=1)
    log_probability = np.concatenate([np.zeros((len(in_window), 1)), log_probability], axis=1)
    log_probability[np.arange(w + 1)[None, :] < w - total_losses] = -np.inf
    probability = np.exp(log_probability - log_probability.max(axis=1, keepdims=True))
    seen = np.take_along_axis(probability, in_window[:, None], axis=1)
    tail = np.where(probability <= seen * _RELATIVE_TIE, probability, 0.0).sum(axis=1)
    return np.minimum(1.0, tail / probability.sum(axis=1))


def benjamini_hochberg(p_value: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Which hypotheses to reject so that the expected share of false ones among them is at most `rate`."""
    tests = len(p_value)
    candidates = np.flatnonzero(p_value <= rate)  # no other can be rejected: sorting those is enough
    order = candidates[np.argsort(p_value[candidates], kind="stable")]
    passing = np.flatnonzero(p_value[order] <= rate * np.arange(1, len(order) + 1) / max(tests, 1))
    rejected = np.zeros(tests, dtype=bool)
    if len(passing):
        rejected[order[: passing[-1] + 1]] = True
    return rejected


def _log_likelihood(wins: NDArray[np.int64], n: int, p: NDArray[np.float64]) -> NDArray[np.float64]:
    return scipy.special.xlogy(wins, p) + scipy.special.xlogy(n - wins, 1 - p)


def _n_log_n(n: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.multiply(n, np.log(np.maximum(n, 1)), dtype=np.float64)
