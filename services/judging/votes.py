"""From answers to candidates and from verdicts to a reward. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

TARGET = 0  # the target's answer comes first in AnswersWritten
ABSTAINED = -1


@dataclass(frozen=True)
class Outcome:
    """`best` indexes the answers, ABSTAINED without a verdict; only a counted outcome moves a posterior."""

    counted: bool
    best: int
    reward: int


NO_VERDICT = Outcome(False, ABSTAINED, 0)


def candidates(texts: Sequence[str | None]) -> list[int]:
    """Indices of the answers to be judged: of identical answers (white space apart) the first stands for all; None
    takes no part. The target's comes first if it takes part."""
    first_of: dict[str, int] = {}
    for index, text in enumerate(texts):
        if text is not None:
            first_of.setdefault(" ".join(text.split()), index)
    return list(first_of.values())


def shuffled(items: Sequence[int], *place: str) -> list[int]:
    """The items in an order that follows from `place` (the request, the judge) and from nothing else."""
    return sorted(items, key=lambda item: hashlib.sha256("\x00".join((*place, str(item))).encode()).digest())


def agreed(choices: Sequence[int]) -> int:
    """One judge's vote from its verdicts on an order and on its reverse: the answer that all of them chose, else an
    abstention. A judge that goes by position contradicts itself and is not counted."""
    return choices[0] if choices and len(set(choices)) == 1 else ABSTAINED


def decided(votes: Sequence[int], target_answered: bool) -> Outcome:
    """The panel's outcome: more than half of the votes cast, abstentions being none. The target lost when another's
    answer is best; without a majority there is no verdict, and so no reward and no pair."""
    cast = [vote for vote in votes if vote != ABSTAINED]
    if not cast:
        return NO_VERDICT
    best, count = Counter(cast).most_common(1)[0]
    if 2 * count <= len(cast):
        return NO_VERDICT
    return Outcome(True, best, 0 if target_answered and best == TARGET else 1)


def unanimous() -> Outcome:
    """All who answered said the same, the target too: it did not lose, and no judge is needed to see it."""
    return Outcome(True, TARGET, 0)
