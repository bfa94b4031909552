"""How each recorded harvest was voted on, a few small numbers a harvest, so that another rule can give its reward."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bohdi_common.events.events_pb2 import Answer, HarvestJudged, Verdict
from bohdi_common.runtime.config import BadConfig
from services.judging import votes

_NOBODY, _TARGET, _SOURCE, _NONE_RIGHT = range(4)  # whom most votes name
NO_REWARD = -1


@dataclass(frozen=True)
class RewardRule:
    """Defaults: the rule of the judging service, whose rewards stand in the log.

    share      the best needs more than this share of the votes cast; at 1 all of them
    votes      ... and at least so many votes
    ties       where votes were cast and no answer has that: `none` no reward; the `target` won, or the `sources`
    identical  where the target's answer is best and a source gave the same: the `target` won, or `none`
    """

    share: float = 0.5
    votes: int = 1
    ties: str = "none"
    identical: str = "target"


AS_JUDGED = RewardRule()


@dataclass
class Ballots:
    """A row for each harvest that was judged. `voted` False keeps only what was recorded, which is all that the default
    rule needs."""

    voted: bool
    recorded: array[int] = field(default_factory=lambda: array("b"))  # the reward, or NO_REWARD
    cast: array[int] = field(default_factory=lambda: array("h"))
    top: array[int] = field(default_factory=lambda: array("h"))
    named: array[int] = field(default_factory=lambda: array("b"))
    identical: array[int] = field(default_factory=lambda: array("b"))
    unanimous: array[int] = field(default_factory=lambda: array("b"))

    def add(self, judged: HarvestJudged, sequence: int) -> int:
        """The row of a harvest. Raises BadConfig for one whose verdicts are not in the log."""
        self.recorded.append((1 if judged.reward else 0) if judged.counted else NO_REWARD)
        if self.voted:
            self._vote(judged, sequence)
        return len(self.recorded) - 1

    def _vote(self, judged: HarvestJudged, sequence: int) -> None:
        texts = [None if answer.failed else answer.text for answer in judged.answers]
        counts = Counter(vote for vote in _votes_by_judge(judged.verdicts) if vote != votes.ABSTAINED)
        alone = len(votes.candidates(texts)) < 2
        if judged.counted and not alone and not judged.verdicts:
            raise BadConfig(
                f"what-if: the harvest at run sequence {sequence} has a reward and no verdicts, which another rule of "
                "rewards needs"
            )
        best, top = counts.most_common(1)[0] if counts else (votes.ABSTAINED, 0)
        self.cast.append(counts.total())
        self.top.append(top)
        self.named.append(_whom(best, texts))
        self.identical.append(_target_is_not_alone(judged.answers))
        self.unanimous.append(alone)

    def rewards(self, rule: RewardRule) -> NDArray[np.int8]:
        """The reward of each row under a rule: 1, 0 or NO_REWARD."""
        recorded = np.frombuffer(self.recorded, dtype=np.int8) if self.recorded else np.zeros(0, dtype=np.int8)
        if rule == AS_JUDGED or not len(recorded):
            return recorded
        assert self.voted, "votes were not kept"
        return self.by_votes(rule)

    def by_votes(self, rule: RewardRule) -> NDArray[np.int8]:
        """As `rewards`, from the votes also where the rule is the one that gave what was recorded."""
        columns = (self.recorded, self.cast, self.top, self.named, self.identical, self.unanimous)
        recorded, cast, top, named, identical, unanimous = (np.array(column, dtype=np.int64) for column in columns)
        enough = (top > rule.share * cast) | ((rule.share == 1) & (top == cast))
        won = (cast > 0) & enough & (top >= rule.votes)
        rewards = np.full(len(recorded), NO_REWARD)
        rewards[won & (named == _TARGET)] = 0
        rewards[won & (named == _SOURCE)] = 1
        if rule.ties != "none":
            rewards[(cast > 0) & ~won] = 0 if rule.ties == "target" else 1
        rewards = np.where(unanimous != 0, recorded, rewards)
        if rule.identical == "none":
            rewards[(rewards == 0) & (identical != 0)] = NO_REWARD
        return rewards.astype(np.int8)


def _votes_by_judge(verdicts: Sequence[Verdict]) -> list[int]:
    """Each judge's vote: what more than half of its verdicts that are counted say."""
    by_judge: dict[str, list[int]] = {}
    for verdict in verdicts:
        said = by_judge.setdefault(verdict.judge, [])
        if verdict.counted:
            said.append(votes.NONE_RIGHT if verdict.none_right else verdict.choice)
    return [votes.majority(said) for said in by_judge.values()]


def _whom(best: int, texts: Sequence[str | None]) -> int:
    if best == votes.ABSTAINED:
        return _NOBODY
    if best == votes.NONE_RIGHT:
        return _NONE_RIGHT
    return _TARGET if best == votes.TARGET and texts[:1] not in ([], [None]) else _SOURCE


def _target_is_not_alone(answers: Sequence[Answer]) -> bool:
    """Whether a source answered as the target did, white space apart."""
    said = [" ".join(answer.text.split()) for answer in answers if not answer.failed]
    target_answered = bool(answers) and not answers[votes.TARGET].failed
    return target_answered and said[0] in said[1:]
