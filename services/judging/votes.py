"""From answers to candidates and from verdicts to a reward. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

TARGET = 0  # the target's answer comes first in AnswersWritten
ABSTAINED = -1
NONE_RIGHT = -2  # a vote like one for an answer, but it gives no pair and no reward


@dataclass(frozen=True)
class Outcome:
    """`best` indexes the answers, ABSTAINED without a verdict; only a counted outcome moves a posterior."""

    counted: bool
    best: int
    reward: int
    none_right: bool = False


NO_VERDICT = Outcome(False, ABSTAINED, 0)
NO_ANSWER_IS_RIGHT = Outcome(False, ABSTAINED, 0, none_right=True)


def candidates(texts: Sequence[str | None]) -> list[int]:
    """Indices of the answers to be judged: of identical answers (white space apart) the first stands for all; None
    takes no part. The target's comes first if it takes part."""
    first_of: dict[str, int] = {}
    for index, text in enumerate(texts):
        if text is not None:
            first_of.setdefault(" ".join(text.split()), index)
    return list(first_of.values())


def standing_for(texts: Sequence[str | None], index: int) -> int:
    """The candidate that stands for the answer at `index`; ABSTAINED when that takes no part."""
    text = texts[index]
    if text is None:
        return ABSTAINED
    return next(i for i in candidates(texts) if " ".join((texts[i] or "").split()) == " ".join(text.split()))


def shuffled(items: Sequence[int], *place: str) -> list[int]:
    """The items in an order that follows from `place` (the request, the judge) and from nothing else."""
    return sorted(items, key=lambda item: hashlib.sha256("\x00".join((*place, str(item))).encode()).digest())


def orders(candidates: Sequence[int], count: int, *place: str, target_first: bool = False) -> list[list[int]]:
    """The orders in which a judge is shown the candidates in `count` verdicts, by `place` alone. In as many verdicts as
    there are candidates each stands once at every position (the rows of a Latin square); over many places the first
    order is any with equal chance, unless it is to be that of the candidates, the target first, as in the paper."""
    given: list[list[int]] = []
    for number in range(count):
        square, row = divmod(number, len(candidates))
        if row == 0:
            further = (*place, str(square)) if square else place
            first = list(candidates) if target_first and not square else shuffled(candidates, *further)
        given.append(first[row:] + first[:row])
    return given


def agreed(choices: Sequence[int]) -> int:
    """One judge's vote from its verdicts on an order and on its reverse: the answer that all of them chose, else an
    abstention. A judge that goes by position contradicts itself and is not counted."""
    return choices[0] if choices and len(set(choices)) == 1 else ABSTAINED


def majority(votes: Sequence[int]) -> int:
    """What more than half of the votes cast say, abstentions being none; ABSTAINED where there is no such."""
    cast = [vote for vote in votes if vote != ABSTAINED]
    if not cast:
        return ABSTAINED
    best, count = Counter(cast).most_common(1)[0]
    return best if 2 * count > len(cast) else ABSTAINED


def decided(votes: Sequence[int], target_answered: bool) -> Outcome:
    """The panel's outcome from the vote of each judge. The target lost when another's answer is best; without a
    majority, or where that says that none is right, there is no reward and no pair."""
    best = majority(votes)
    if best == ABSTAINED:
        return NO_VERDICT
    if best == NONE_RIGHT:
        return NO_ANSWER_IS_RIGHT
    return Outcome(True, best, 0 if target_answered and best == TARGET else 1)


def unanimous() -> Outcome:
    """All who answered said the same, the target too: it did not lose, and no judge is needed to see it."""
    return Outcome(True, TARGET, 0)
