"""How likely each child was to be drawn: the probabilities of the bandit's draws, by quadrature.

A child is drawn with probability proportional to theta^s, theta ~ Beta(alpha, beta) of each arm, so that
P(i) = E[theta_i^s / sum_j theta_j^s]. With 1 / x = the integral over t > 0 of exp(-t x) this is a single integral over
t of D_i(t) times the product over j other than i of L_j(t), where L(t) = E[exp(-t theta^s)] and D(t) = -L'(t), each an
expectation over one arm alone. In u = log t the integrand is smooth and dies off at both ends, and in v = logit theta
so is that of L and D: the trapezoid rule is then exact to many digits. For Thompson's argmax (s infinite) P(i) is the
integral of the density of arm i times the distribution functions of the others.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from bohdi_common.core.tree import Tree

Floats = NDArray[np.float64]

_V_POINTS = 400  # Beta(1, 1) ends at +-34.5
_V_FEWEST = 80  # a fifth of a standard deviation a step
_V_STEP = 0.35  # over the sharpness: exp(-t theta^s) bends within about 1 / s
_TAIL = 1e-15  # of a posterior that is left out at each side
_U_STEP = 0.25
_U_RANGE = (-45.0, 75.0)
_KEPT = 50_000  # arms: a run has the same posterior many times


def open_arms(tree: Tree, node: int, sharpness: float) -> tuple[list[int], Floats]:
    """The open children of an inner node, `unk` among them, and how likely each is to be drawn there."""
    start = tree.block[node]
    arms = [arm for arm in tree.arena[start : start + tree.degree[node]] if tree.open[arm]]
    alpha, beta = (np.array([column[arm] for arm in arms]) for column in (tree.alpha, tree.beta))
    return arms, child_probabilities(alpha, beta, sharpness)


def child_probabilities(alpha: NDArray[np.int64], beta: NDArray[np.int64], sharpness: float) -> Floats:
    """P of each of the arms, shape (arms,), which are the open children of one node; their sum is 1."""
    if len(alpha) == 1 or sharpness == 0:
        return np.full(len(alpha), 1 / len(alpha))
    if math.isinf(sharpness):
        raw = _argmax(alpha, beta)
    else:
        arms = [_transforms(int(a), int(b), float(sharpness)) for a, b in zip(alpha, beta, strict=True)]
        log_l = np.stack([arm[0] for arm in arms])
        log_d = np.stack([arm[1] for arm in arms])
        # dt = t du; D_i times the others' L is D_i / L_i times the product of all.
        raw = np.exp(log_d - log_l + log_l.sum(axis=0) + _u()).sum(axis=1) * _U_STEP
    return np.asarray(raw / raw.sum())


def _u() -> Floats:
    return np.arange(*_U_RANGE, _U_STEP)


def _logits(alpha: int, beta: int, step: float) -> tuple[Floats, Floats]:
    """Points v = logit theta over all but the tails of Beta(alpha, beta), `step` apart if that is not too few or too
    many, and the log of the weight of each."""
    low, high = _ends(alpha, beta)
    points = int(min(_V_POINTS, max(_V_FEWEST, (high - low) / step))) if step else _V_POINTS
    v = np.linspace(low, high, points)
    log_density = -alpha * np.logaddexp(0, -v) - beta * np.logaddexp(0, v) - scipy.special.betaln(alpha, beta)
    return v, log_density + math.log((high - low) / (points - 1))


def _ends(alpha: int, beta: int) -> tuple[float, float]:
    """Where the tails begin, as logits: each by the quantile that is small, for 1 - theta is Beta(beta, alpha)."""
    below, above = scipy.special.betaincinv([alpha, beta], [beta, alpha], _TAIL)
    return float(np.log(below) - np.log1p(-below)), float(np.log1p(-above) - np.log(above))


@lru_cache(maxsize=_KEPT)
def _transforms(alpha: int, beta: int, sharpness: float) -> tuple[Floats, Floats]:
    """log L and log D of an arm at every u."""
    v, log_weight = _logits(alpha, beta, _V_STEP / sharpness)
    log_power = -sharpness * np.logaddexp(0, -v)  # of theta^s
    exponent = log_weight - np.exp(np.minimum(_u()[:, None] + log_power, 700.0))
    return _log_sum(exponent), _log_sum(exponent + log_power)


def _log_sum(exponent: Floats) -> Floats:
    top = exponent.max(axis=1)
    return np.asarray(top + np.log(np.exp(exponent - top[:, None]).sum(axis=1)))


def _argmax(alpha: NDArray[np.int64], beta: NDArray[np.int64]) -> Floats:
    probabilities = []
    for arm, (a, b) in enumerate(zip(alpha.tolist(), beta.tolist(), strict=True)):
        v, log_weight = _logits(a, b, 0.0)  # the others may be far sharper
        theta = 1 / (1 + np.exp(-v))
        others = np.arange(len(alpha)) != arm
        with np.errstate(divide="ignore"):
            below = np.log(scipy.special.betainc(alpha[others, None], beta[others, None], theta[None, :])).sum(axis=0)
        probabilities.append(np.exp(log_weight + below).sum())
    return np.array(probabilities)
