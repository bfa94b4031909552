"""How far each judge can be trusted, from the verdicts in a run's events alone: agreement, and biases that show.

A share of choices is an average over harvests, each with the same weight however often the judge was asked in it, and
its interval is Wilson's at 95% for so many independent choices as there are harvests. Choices within a harvest are not
independent, so that counting verdicts would promise too much; counting harvests promises rather too little.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.events.events_pb2 import HarvestJudged, Verdict

_Z = 1.959964  # of a two-sided interval at 95%
_NONE_RIGHT = -2
_ABSTAINED = -1


@dataclass
class Share:
    """An observed share, and, where there is such a thing, what is expected of a judge without the bias."""

    observed: float = 0.0
    expected: float = 0.0
    harvests: int = 0

    def add(self, observed: float, expected: float = 0.0) -> None:
        self.observed += observed
        self.expected += expected
        self.harvests += 1

    def told(self) -> dict[str, Any] | None:
        """`share`, its interval `low` to `high`, what is `expected`, over how many `harvests`; None without any."""
        if not self.harvests:
            return None
        share = self.observed / self.harvests
        low, high = wilson(share, self.harvests)
        figures = {"share": share, "low": low, "high": high, "expected": self.expected / self.harvests}
        return {name: round(figure, 4) for name, figure in figures.items()} | {"harvests": self.harvests}

    def agreement(self) -> dict[str, Any] | None:
        """The same of a share beside which nothing is expected."""
        told = self.told()
        return told and {name: figure for name, figure in told.items() if name != "expected"}


def wilson(share: float, trials: int) -> tuple[float, float]:
    """The score interval at 95% of a share observed in `trials` trials (Wilson 1927): within 0 to 1, and no point even
    where the share is 0 or 1."""
    spread = _Z * _Z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class Judge:
    """Sums over the harvests that one judge was asked about."""

    harvests: int = 0
    verdicts: int = 0
    abstentions: int = 0
    none_right: int = 0
    votes: int = 0
    with_outcome: Share = field(default_factory=Share)
    with_others: Share = field(default_factory=Share)
    between_orders: Share = field(default_factory=Share)
    positions: dict[int, Share] = field(default_factory=lambda: defaultdict(Share))
    last: Share = field(default_factory=Share)
    longest: Share = field(default_factory=Share)
    own: Share = field(default_factory=Share)

    def told(self) -> dict[str, Any]:
        """The judge's figures, for JSON."""
        return {
            "harvests": self.harvests,
            "verdicts": self.verdicts,
            "abstentions": self.abstentions,
            "none_right": self.none_right,
            "votes": self.votes,
            "agrees_with_outcome": self.with_outcome.agreement(),
            "agrees_with_others": self.with_others.agreement(),
            "agrees_between_orders": self.between_orders.agreement(),
            "positions": [self.positions[place].told() for place in sorted(self.positions)],
            "last_position": self.last.told(),
            "longest": self.longest.told(),
            "own": self.own.told(),
        }


@dataclass
class Judges:
    """All judges of a run. `both_orders`: each is asked in pairs, an order and its reverse.

    agrees_with_outcome    votes that are the outcome, where there is one; of a panel the judge is itself a part
    agrees_with_others     ... that are what most of the other judges' votes say
    agrees_between_orders  pairs of orders with the same choice, where both have one
    positions, last        choices of the answer shown first, second, ... and last; expected: uniform
    longest                choices of the longest answer; expected: uniform. A longer answer may be the better one
    own                    choices of what the judge answered itself; expected: how often the other judges choose that,
                           which is less for everybody where one of them prefers its own
    """

    both_orders: bool = False
    _judges: dict[str, Judge] = field(default_factory=lambda: defaultdict(Judge))

    def add(self, judged: HarvestJudged) -> None:
        """Takes in the verdicts on one harvest; an event in which they name what is not there says nothing."""
        if not _well_formed(judged):
            return
        by_judge: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in judged.verdicts:
            by_judge[verdict.judge].append(verdict)
        votes = {name: _vote(verdicts) for name, verdicts in by_judge.items()}
        outcome = judged.best if judged.counted else _NONE_RIGHT if judged.none_right else _ABSTAINED
        for name, verdicts in by_judge.items():
            judge = self._judges[name]
            judge.harvests += 1
            judge.verdicts += len(verdicts)
            judge.none_right += sum(verdict.none_right for verdict in verdicts)
            judge.abstentions += sum(verdict.choice < 0 and not verdict.none_right for verdict in verdicts)
            if votes[name] != _ABSTAINED:
                judge.votes += 1
                _agreement(judge.with_outcome, votes[name], outcome)
                _agreement(judge.with_others, votes[name], _most(votes[o] for o in votes if o != name))
            if self.both_orders:
                _between_orders(judge.between_orders, verdicts)
            chosen = [verdict for verdict in verdicts if verdict.choice >= 0]
            if chosen:
                _position(judge, chosen)
                _length(judge.longest, judged, chosen)
                others = [v for other, theirs in by_judge.items() if other != name for v in theirs if v.choice >= 0]
                _own(judge.own, judged, name, chosen, others)

    def told(self) -> dict[str, dict[str, Any]]:
        """Every judge's figures by its name, for JSON."""
        return {name: judge.told() for name, judge in sorted(self._judges.items())}


def _well_formed(judged: HarvestJudged) -> bool:
    """Whether all verdicts show the same answers, ones that are there, and choose among those."""
    shown = {frozenset(verdict.order) for verdict in judged.verdicts}
    if len(shown) != 1:
        return False
    indices = shown.pop()
    return all(index < len(judged.answers) for index in indices) and all(
        len(verdict.order) == len(indices) and (verdict.choice < 0 or verdict.choice in indices)
        for verdict in judged.verdicts
    )


def _vote(verdicts: Iterable[Verdict]) -> int:
    """A judge's vote: what more than half of its verdicts that are counted say."""
    return _most(_NONE_RIGHT if verdict.none_right else verdict.choice for verdict in verdicts if verdict.counted)


def _most(votes: Iterable[int]) -> int:
    cast = Counter(vote for vote in votes if vote != _ABSTAINED)
    if not cast:
        return _ABSTAINED
    vote, count = cast.most_common(1)[0]
    return vote if 2 * count > cast.total() else _ABSTAINED


def _agreement(share: Share, vote: int, other: int) -> None:
    if other != _ABSTAINED:
        share.add(vote == other)


def _between_orders(share: Share, verdicts: Sequence[Verdict]) -> None:
    pairs = [(a.choice, b.choice) for a, b in zip(verdicts[::2], verdicts[1::2], strict=False)]
    same = [a == b for a, b in pairs if a >= 0 and b >= 0]
    if same:
        share.add(sum(same) / len(same))


def _position(judge: Judge, chosen: Sequence[Verdict]) -> None:
    shown = len(chosen[0].order)
    places = Counter(list(verdict.order).index(verdict.choice) for verdict in chosen)
    for place in range(shown):
        judge.positions[place].add(places[place] / len(chosen), 1 / shown)
    judge.last.add(places[shown - 1] / len(chosen), 1 / shown)


def _length(share: Share, judged: HarvestJudged, chosen: Sequence[Verdict]) -> None:
    lengths = {index: len(judged.answers[index].text) for index in chosen[0].order}
    longest = {index for index, length in lengths.items() if length == max(lengths.values())}
    if len(longest) < len(lengths):
        share.add(sum(v.choice in longest for v in chosen) / len(chosen), len(longest) / len(lengths))


def _own(share: Share, judged: HarvestJudged, judge: str, chosen: Sequence[Verdict], others: Sequence[Verdict]) -> None:
    """Where the other judges chose too: without them nobody can say what is good of the judge's own answer."""
    texts = [" ".join(answer.text.split()) for answer in judged.answers]
    wrote = next((i for i, a in enumerate(judged.answers) if a.model == judge and not a.failed), None)
    if wrote is None or not others:
        return
    own = next((index for index in sorted(chosen[0].order) if texts[index] == texts[wrote]), wrote)
    share.add(sum(v.choice == own for v in chosen) / len(chosen), sum(v.choice == own for v in others) / len(others))
