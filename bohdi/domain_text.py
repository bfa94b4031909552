"""The domain of a question, told by its text: learnt from the run's own questions, whose domains are known.

A classifier at every node of the tree tells its children apart (a local classifier per parent node: Silla and Freitas,
Data Mining and Knowledge Discovery 22, 2011): logistic regression on the tf-idf of letter n-grams, by scikit-learn.
Chosen because its probabilities mean something, so that an unsure question can stay at the domain above; because
n-grams of letters need no word list in any language; and because asking a model instead would cost a call or three for
each question. Whether it is any good on a given run, `validated` measures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bohdi.profiles import Path, is_held_out, order
from bohdi_common.core.tree import LEAF_LEVEL

CONFIDENT = 0.5  # the least probability of a domain that a question is sent to
LEARNT_MAX = 20_000  # questions, of each domain equally many; fitting 20,000 takes a minute of one core
_QUESTION_CHARS = 4_000  # of a question that are looked at
_FEATURES_MAX = 50_000
_INVERSE_PENALTY = 10.0  # texts are short and domains clear: less shrinkage than scikit-learn's 1.0

Pair = tuple[str, Path]
Told = Callable[[str], tuple[Path, float]]


class NoScikitLearn(Exception):
    """scikit-learn is not installed. The message says how to come by it."""


def learnt(pairs: Sequence[Pair]) -> Told:
    """Gives for a question the deepest domain whose probability is CONFIDENT or more, with that probability; Root, (),
    for want of any. Raises NoScikitLearn."""
    nodes = _fitted(bounded(pairs))
    return lambda question: _sure(_way(nodes, question))


def _way(nodes: Mapping[Path, _Node], question: str) -> list[tuple[Path, float]]:
    """From Root down to a leaf, always to the likeliest child: each domain with its probability."""
    way: list[tuple[Path, float]] = [((), 1.0)]
    while way[-1][0] in nodes:
        path, sure = way[-1]
        child, probability = nodes[path].best(question)
        way.append(((*path, child), sure * probability))
    return way


def _sure(way: Sequence[tuple[Path, float]]) -> tuple[Path, float]:
    """The deepest domain of the way that is likely enough; probabilities fall on the way down."""
    return next(step for step in reversed(way) if step[1] >= CONFIDENT)


@dataclass(frozen=True)
class _Node:
    """Tells the children of one node apart. `model` is None where there is only one."""

    children: Sequence[str]
    model: Any

    def best(self, question: str) -> tuple[str, float]:
        if self.model is None:
            return self.children[0], 1.0
        probabilities = self.model.predict_proba([question[:_QUESTION_CHARS]])[0]
        best = int(probabilities.argmax())
        return str(self.model.classes_[best]), float(probabilities[best])


def _fitted(pairs: Sequence[Pair]) -> dict[Path, _Node]:
    under: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for question, path in pairs:
        for depth, name in enumerate(path):
            under[path[:depth]].append((question[:_QUESTION_CHARS], name))
    return {node: _node(examples) for node, examples in under.items()}


def _node(examples: Sequence[tuple[str, str]]) -> _Node:
    children = sorted({name for _, name in examples})
    if len(children) == 1:
        return _Node(children, None)
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise NoScikitLearn("scikit-learn is not installed: pip install 'bohdi[route]'") from None
    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, max_features=_FEATURES_MAX),
        LogisticRegression(C=_INVERSE_PENALTY, max_iter=300),
    )
    with threadpool_limits(1):  # matrices this small lose by more threads, fivefold on two shared cores
        return _Node(children, model.fit(*zip(*examples, strict=True)))


def bounded(pairs: Sequence[Pair], most: int = LEARNT_MAX) -> list[Pair]:
    """At most `most` different questions, of each domain equally many."""
    of: dict[Path, set[str]] = defaultdict(set)
    for question, path in pairs:
        of[path].add(question)
    each = max(1, most // max(1, len(of)))
    return [(question, path) for path in sorted(of) for question in sorted(of[path], key=order)[:each]]


@dataclass(frozen=True)
class Validation:
    """On questions that were held out: the share whose domain was told right, at each level from the main domains down;
    the share of the commonest leaf, which a guess would reach; and of the questions told to a leaf with confidence, the
    share of all and how many of them were right."""

    learnt: int
    held_out: int
    right: tuple[float, ...]
    commonest: float
    confident: float
    confident_right: float


def validated(pairs: Sequence[Pair]) -> Validation | None:
    """Learns from four questions in five and is asked the fifth, by a hash of the question, so that no question is on
    both sides. None where too few stand on a side. Raises NoScikitLearn."""
    pairs = bounded(pairs)
    held = [pair for pair in pairs if is_held_out(pair[0])]
    rest = [pair for pair in pairs if not is_held_out(pair[0])]
    if not held or not rest:
        return None
    nodes = _fitted(rest)
    ways = [_way(nodes, question) for question, _ in held]
    told = [way[-1][0] for way in ways]
    sure = [(_sure(way)[0], path) for way, (_, path) in zip(ways, held, strict=True)]
    leaves = [(guess, path) for guess, path in sure if len(guess) == LEAF_LEVEL]
    levels = range(1, LEAF_LEVEL + 1)
    return Validation(
        learnt=len(rest),
        held_out=len(held),
        right=tuple(fmean(guess[:n] == path[:n] for guess, (_, path) in zip(told, held, strict=True)) for n in levels),
        commonest=Counter(path for _, path in held).most_common(1)[0][1] / len(held),
        confident=len(leaves) / len(held),
        confident_right=fmean(guess == path for guess, path in leaves) if leaves else 0.0,
    )
