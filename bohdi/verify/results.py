"""Results held to what they say themselves: outcomes to their verdicts, names to their proposals."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bohdi_common.core import names
from bohdi_common.core.state import Failure
from bohdi_common.events import events_pb2 as pb

_PROPOSALS_KEPT = 64  # an event holds the most voted ones
_ABSTAINED = -1


@dataclass(frozen=True)
class Rules:
    """What of the settings results are held to, read once."""

    target: str
    sources: tuple[str, ...]
    answerers: list[str]  # the target, then the sources
    prompts: str
    votes: int
    by_leader: bool
    both_orders: bool

    @classmethod
    def of(cls, settings: pb.Settings) -> Rules:
        sources = tuple(source.name for source in settings.sources)
        return cls(
            settings.target.name,
            sources,
            [settings.target.name, *sources],
            settings.prompts,
            settings.sprout.votes,
            settings.judging.mode == pb.JUDGING_MODE_LEADER,
            settings.judging.both_orders,
        )


def judged(body: pb.HarvestJudged, rules: Rules) -> str:
    """What is wrong with the outcome; empty when it follows from answers and verdicts."""
    answers = list(body.answers)
    if [answer.model for answer in answers] != rules.answerers:
        return f"answers by {[answer.model for answer in answers]}, not by the target and then each source"
    firsts: dict[str, int] = {}  # of identical answers the first stands for all
    took_part = 0
    for index, answer in enumerate(answers):
        if not answer.failed:
            took_part += 1
            firsts.setdefault(" ".join(answer.text.split()), index)
    if took_part < 2:
        return "fewer than two models answered"
    if not answers[0].failed and answers[0].version != body.target_version:
        return f"the target answered as version {answers[0].version!r}, asked was {body.target_version!r}"
    candidates = list(firsts.values())
    votes, wrong = _votes(body, candidates, rules)
    if wrong:
        return wrong
    best = next((vote for vote in votes if 2 * votes.count(vote) > len(votes)), _ABSTAINED)
    if len(candidates) == 1 and best != 0:
        best = _ABSTAINED  # the sources agree, and the target said nothing: nobody judged it
    outcome = (best != _ABSTAINED, best, int(best > 0))
    written = (body.counted, body.best, body.reward)
    if outcome != written:
        return "counted, best, reward are {}, {}, {}; the verdicts give {}, {}, {}".format(*written, *outcome)
    return ""


def _votes(body: pb.HarvestJudged, candidates: list[int], rules: Rules) -> tuple[list[int], str]:
    """The votes that count, one of each judge, and what is wrong with them. A judge's verdicts stand side by side."""
    if len(candidates) == 1:
        return candidates, "verdicts, though all answers are the same" if body.verdicts else ""
    allowed = (body.leader,) if rules.by_leader else rules.sources
    verdicts = list(body.verdicts)
    judges = [verdict.judge for verdict in verdicts]
    asked = judges[:: 1 + rules.both_orders]
    once_each = asked and len(set(asked)) == len(asked) and set(asked) <= set(allowed)
    if not once_each or (rules.both_orders and judges[1::2] != asked):
        times = "twice, on an order and on its reverse" if rules.both_orders else "once"
        return [], f"judged by {judges}; to be asked {times} are {list(allowed)}"
    votes = []
    for first in range(0, len(verdicts), 1 + rules.both_orders):
        verdict = verdicts[first]
        order, vote, counted = list(verdict.order), verdict.choice, verdict.counted
        fits = order == candidates if rules.by_leader else sorted(order) == candidates
        if not fits or vote not in (_ABSTAINED, *candidates):
            return [], f"{verdict.judge} chose {vote} of {order}; the candidates are {candidates}"
        if rules.both_orders:
            reverse = verdicts[first + 1]
            if list(reverse.order) != order[::-1] or reverse.counted:
                return [], f"{verdict.judge}'s second verdict is counted, or not on the reverse order"
            vote = vote if reverse.choice == vote else _ABSTAINED
        if counted != (vote != _ABSTAINED):
            return [], f"{verdict.judge}'s vote is {vote}, marked as {'counted' if counted else 'not counted'}"
        if counted:
            votes.append(vote)
    return votes, ""


def evaluated(body: pb.TargetEvaluated, producer: str) -> str:
    """What is wrong with an evaluation; empty for none. A harness gives metrics of any size, questions accuracies."""
    if any(not 0 <= score.accuracy <= 1 for score in body.scores):
        return "an accuracy outside 0 to 1"
    if not body.harness:
        if producer == "cli":
            return "held-out accuracy that a person recorded, which only the evaluation beside a run does"
        if body.tasks_digest or body.limit or any(score.metric or score.value for score in body.scores):
            return "tasks or metrics, and yet no harness that scored them"
        return ""
    if not body.tasks_digest or not body.scores:
        return f"{body.harness} scored nothing, or tasks without their digest"
    if any(not score.metric or not math.isfinite(score.value) or score.accuracy for score in body.scores):
        return f"a score of {body.harness} is not one metric with its value"
    return ""


def sprouted(body: pb.DomainsSprouted, known: Collection[str], want: int, rules: Rules) -> Iterator[str]:
    """What is wrong with new names. `known`: keys of the names that the parent's path and children have."""
    yield from _proposals(body.proposals, known, rules)
    given = [(name.name, name.votes) for name in body.names]
    proposed = [(p.text, p.votes) for p in body.proposals if not p.refused and p.votes >= rules.votes]
    if len(body.proposals) >= _PROPOSALS_KEPT:
        given = given[: len(proposed)]
    if given != proposed[:want] or not given:
        yield f"the names {given} are not the most voted of those proposed: {proposed[:want]}"
    if body.prompts != rules.prompts:
        yield f"prompts {body.prompts!r}, the run's are {rules.prompts!r}"


def failed(body: pb.SproutFailed, known: Collection[str], rules: Rules) -> Iterator[str]:
    """What is wrong with a failed sprout. One that failed for want of models has no proposals."""
    yield from _proposals(body.proposals, known, rules)
    if any(not p.refused and p.votes >= rules.votes for p in body.proposals):
        yield "failed, though a valid name has votes enough"
    if body.proposals and body.failure == Failure.UNAVAILABLE:
        yield "failed because the models were away, though they made proposals"


def _proposals(proposals: Sequence[pb.Proposal], known: Collection[str], rules: Rules) -> Iterator[str]:
    votes = [proposal.votes for proposal in proposals]
    if votes != sorted(votes, reverse=True):
        yield "the proposals are not in the order of their votes"
    for proposal in proposals:
        refused = "known" if names.key(proposal.text) in known else names.why_refused(proposal.text)
        if bool(refused) != bool(proposal.refused) or proposal.model not in rules.sources:
            why = refused or "valid"
            yield f"{proposal.model} proposed {proposal.text!r}, marked {proposal.refused!r}; it is {why}"
