"""Seeded draws of paths: hierarchical Thompson sampling, tempered (paper section 3.2; the plan's `sharpness`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree


class NoOpenArm(Exception):
    """Nothing under Root can be drawn any more."""


def generator(seed: int, *place: int | str) -> np.random.Generator:
    """A generator of its own for the run's seed and the place of the draw (round, step, slot, ...): the random numbers
    of a draw do not depend on what was drawn before or at the same time. SFC64, as the gammas of a draw take a third
    less time with it than with numpy's counter-based Philox."""
    text = ":".join(map(str, (seed, *place)))
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.SFC64(np.frombuffer(digest[:16], dtype=np.uint32)))


def draw_arms(
    tree: Tree, starts: NDArray[np.int64], rng: np.random.Generator, sharpness: float, explore: bool
) -> NDArray[np.int64]:
    """One path for each of the nodes in `starts` (shape (paths,)), followed down to a leaf or an `unk` arm.

    At each level theta ~ Beta(alpha, beta) is drawn for every arm and a child taken with probability proportional to
    theta^sharpness: infinity is Thompson's argmax, 0 uniform. With `explore` all open arms take part; without, only
    nodes under which a pair is stored (Enlightenment). Returns the ids of the last arms, shape (paths,).
    Costs the arms beside the paths, not the tree. Raises NoOpenArm.
    """
    return draw_side_by_side(tree, starts, np.zeros(len(starts), dtype=np.int64), [rng], sharpness, explore)


def draw_side_by_side(
    tree: Tree,
    starts: NDArray[np.int64],
    owners: NDArray[np.int64],
    rngs: Sequence[np.random.Generator],
    sharpness: float,
    explore: bool,
) -> NDArray[np.int64]:
    """As `draw_arms`, in one pass for many owners, each with its own random numbers: what is drawn for one does not
    depend on who else is there. `owners`, shape (paths,): whose path it is, an index into `rngs`, ascending."""
    views = _Views(tree, explore)
    at = starts.astype(np.int64, copy=True)
    for _ in range(LEAF_LEVEL):
        inner = np.flatnonzero(views.degree[at])
        if not len(inner):
            break
        at[inner] = _draw_children(views, at[inner], owners[inner], rngs, sharpness)
    return at


def draw_from_root(
    tree: Tree, count: int, rng: np.random.Generator, sharpness: float, explore: bool
) -> NDArray[np.int64]:
    """`count` paths from Root, as `draw_arms`."""
    return draw_arms(tree, np.full(count, ROOT), rng, sharpness, explore)


class _Views:
    """The tree's columns as arrays, for one draw. Gone when the draw is over, so that the tree can grow again."""

    def __init__(self, tree: Tree, explore: bool) -> None:
        self.alpha = tree.column(tree.alpha)
        self.beta = tree.column(tree.beta)
        self.usable = tree.column(tree.open if explore else tree.paired)
        self.block = tree.column(tree.block)
        self.degree = tree.column(tree.degree)
        self.arena = tree.column(tree.arena)


def _draw_children(
    views: _Views,
    parents: NDArray[np.int64],
    owners: NDArray[np.int64],
    rngs: Sequence[np.random.Generator],
    sharpness: float,
) -> NDArray[np.int64]:
    """A child of each of `parents`, all in one pass over their concatenated blocks of children."""
    degrees = views.degree[parents]
    ends = np.cumsum(degrees)
    firsts = ends - degrees
    places = np.repeat(views.block[parents] - firsts, degrees)
    places += np.arange(len(places))
    arms = views.arena.take(places).astype(np.int64)
    numbers = _Numbers.of(rngs, owners, ends)
    score = _scores(views, arms, numbers, sharpness)  # which are positive
    score *= views.usable.take(arms)
    best = np.maximum.reduceat(score, firsts)
    if not np.minimum.reduce(best):
        raise NoOpenArm("no open arm under a node that was to be drawn from")
    (hits,) = (score == best.repeat(degrees)).nonzero()
    if len(hits) > len(parents):  # equal scores, once in about 2^50 draws: the first of a block wins
        hits = hits[np.searchsorted(hits, firsts)]
    return arms[hits]


@dataclass(frozen=True)
class _Numbers:
    """Random numbers for consecutive pieces of one array: a generator, and where it starts and stops, for each."""

    pieces: list[tuple[np.random.Generator, int, int]]

    @classmethod
    def of(cls, rngs: Sequence[np.random.Generator], owners: NDArray[np.int64], ends: NDArray[np.int64]) -> _Numbers:
        """`ends`: where the arms of each path end; `owners`: whose path it is."""
        if len(rngs) == 1:
            return cls([(rngs[0], 0, int(ends[-1]))])
        lasts = np.flatnonzero(np.append(owners[1:] != owners[:-1], True))
        bounds = [0, *ends[lasts].tolist()]
        drawing = [rngs[owner] for owner in owners[lasts].tolist()]
        return cls(list(zip(drawing, bounds, bounds[1:], strict=False)))

    def standard_gamma(self, shapes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of `shapes`, (2, arms), the first row's and then the second's, in one call: the call itself costs as much as
        three hundred numbers."""
        drawn = [rng.standard_gamma(shapes[:, start:stop]) for rng, start, stop in self.pieces]
        return drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=1)

    def standard_exponential(self) -> NDArray[np.float64]:
        drawn = [rng.standard_exponential(stop - start) for rng, start, stop in self.pieces]
        return drawn[0] if len(drawn) == 1 else np.concatenate(drawn)


def _scores(views: _Views, arms: NDArray[np.int64], numbers: _Numbers, sharpness: float) -> NDArray[np.float64]:
    """Positive scores of which the largest of a block is the draw. With E ~ Exp(1), the arm of the largest w / E is
    drawn with probability proportional to w (exponential race). theta is a ratio of two gammas: faster here than
    numpy's beta, four times so for arms at Beta(1, 1)."""
    if sharpness == 0:
        return 1.0 / numbers.standard_exponential()
    shapes = np.empty((2, len(arms)))
    shapes[0] = views.alpha.take(arms)
    shapes[1] = views.beta.take(arms)
    wins, losses = numbers.standard_gamma(shapes)
    theta = np.divide(wins, np.add(wins, losses, out=losses), out=wins)
    if math.isinf(sharpness):
        return theta
    race = numbers.standard_exponential()
    if sharpness < 1:
        return theta**sharpness / race
    # The same order as theta^sharpness / race, which would be 0 for every arm where the sharpness is large.
    theta /= np.sqrt(race) if sharpness == 2 else race ** (1 / sharpness)
    return theta
