"""Results held to what they say themselves: outcomes to their verdicts, names to their proposals."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bohdi_common.core import names
from bohdi_common.core.state import Failure
from bohdi_common.events import events_pb2 as pb
from bohdi_common.models.prompts import readers
from services.generation.answer_gates import declines

_PROPOSALS_KEPT = 64  # an event holds the most voted ones
_ABSTAINED = -1
_NONE_RIGHT = -2
_GATES = {
    "question": ("benchmark", "near_duplicate", "language"),
    "answer": ("refusal", "cut", "language"),
}


@dataclass(frozen=True)
class Rules:
    """What of the settings results are held to, read once."""

    target: str
    sources: tuple[str, ...]
    answerers: list[str]  # the target, then the sources
    prompts: str
    votes: int
    judging: pb.JudgingSettings
    harvest: pb.HarvestSettings
    seed: int

    @classmethod
    def of(cls, settings: pb.Settings) -> Rules:
        sources = tuple(source.name for source in settings.sources)
        return cls(
            settings.target.name,
            sources,
            [settings.target.name, *sources],
            settings.prompts,
            settings.sprout.votes,
            settings.judging,
            settings.harvest,
            settings.seed,
        )

    def judges(self, leader: str) -> tuple[str, ...]:
        """Who was to judge answers to a question that `leader` wrote."""
        rules = self.judging
        apart = tuple(judge.name for judge in rules.judges)
        match rules.mode:
            case pb.JUDGING_MODE_LEADER:
                return (leader,)
            case pb.JUDGING_MODE_JUDGE:
                return (rules.judge,) if rules.judge else apart
            case pb.JUDGING_MODE_PANEL_WITHOUT_AUTHOR:
                return (*(source for source in self.sources if source != leader), *apart)
        return (*self.sources, *apart)


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
    best = _majority(votes)
    if len(candidates) == 1 and best != 0:
        best = _ABSTAINED  # the sources agree, and the target said nothing: nobody judged it
    outcome = (best >= 0, max(best, _ABSTAINED), int(best > 0), best == _NONE_RIGHT)
    written = (body.counted, body.best, body.reward, body.none_right)
    if outcome != written:
        told = "counted, best, reward, none right are {}, {}, {}, {}; the verdicts give {}, {}, {}, {}"
        return told.format(*written, *outcome)
    return ""


def _majority(votes: Sequence[int]) -> int:
    """What more than half of the votes say; abstentions are not among them."""
    return next((vote for vote in votes if 2 * votes.count(vote) > len(votes)), _ABSTAINED)


def _votes(body: pb.HarvestJudged, candidates: list[int], rules: Rules) -> tuple[list[int], str]:
    """The vote of each judge that has one, and what is wrong with the verdicts. A judge's stand side by side."""
    if len(candidates) == 1:
        return candidates, "verdicts, though all answers are the same" if body.verdicts else ""
    asked, pair = max(1, rules.judging.verdicts), 1 + rules.judging.both_orders
    each, verdicts = asked * pair, list(body.verdicts)
    judges = [verdict.judge for verdict in verdicts]
    names, allowed = judges[::each], rules.judges(body.leader)
    if not names or len(set(names)) < len(names) or not set(names) <= set(allowed):
        return [], f"judged by {judges}; to be asked are {list(allowed)}"
    if judges != [name for name in names for _ in range(each)]:
        return [], f"judged by {judges}; each is to be asked {each} times"
    votes = []
    for first in range(0, len(verdicts), each):
        own = _own(body, verdicts[first].judge) if rules.judging.without_own_votes else _ABSTAINED
        cast = []
        for number in range(asked):
            of_pair = verdicts[first + number * pair : first + (number + 1) * pair]
            in_place = rules.judging.mode == pb.JUDGING_MODE_LEADER and not number
            vote, wrong = _vote(of_pair, candidates, own, in_place)
            if wrong:
                return [], wrong
            cast.append(vote)
        if wrong := _unbalanced(verdicts[first : first + each : pair], len(candidates)):
            return [], wrong
        votes.append(_majority([vote for vote in cast if vote != _ABSTAINED]))
    return [vote for vote in votes if vote != _ABSTAINED], ""


def _vote(of_pair: Sequence[pb.Verdict], candidates: list[int], own: int, in_place: bool) -> tuple[int, str]:
    """The vote of a verdict, or of one and its reverse, and what is wrong with them. `own`: the candidate that the
    judge may not vote for. `in_place`: the candidates were to be shown in their own order."""
    for verdict in of_pair:
        order = list(verdict.order)
        fits = order == candidates if in_place and verdict is of_pair[0] else sorted(order) == candidates
        if not fits or verdict.choice not in (_ABSTAINED, *candidates):
            return 0, f"{verdict.judge} chose {verdict.choice} of {order}; the candidates are {candidates}"
        if verdict.none_right and verdict.choice != _ABSTAINED:
            return 0, f"{verdict.judge} chose {verdict.choice} and says that none is right"
    head, *reverse = of_pair
    if any(list(other.order) != list(head.order)[::-1] or other.counted for other in reverse):
        return 0, f"{head.judge}'s second verdict is counted, or not on the reverse order"
    said = {_NONE_RIGHT if verdict.none_right else verdict.choice for verdict in of_pair}
    vote = said.pop() if len(said) == 1 else _ABSTAINED
    if vote == own:
        vote = _ABSTAINED
    if head.counted != (vote != _ABSTAINED):
        return 0, f"{head.judge}'s vote is {vote}, marked as {'counted' if head.counted else 'not counted'}"
    return vote, ""


def _unbalanced(firsts: Sequence[pb.Verdict], candidates: int) -> str:
    """What is wrong with the orders of a judge's verdicts: among as many as there are candidates no other is first."""
    for start in range(0, len(firsts), candidates):
        shown = [verdict.order[0] for verdict in firsts[start : start + candidates]]
        if len(set(shown)) < len(shown):
            return f"{firsts[0].judge} was shown {shown} first, not each candidate in turn"
    return ""


def _own(body: pb.HarvestJudged, judge: str) -> int:
    """The first answer that says what the judge answered itself; an abstention when it did not."""
    texts = [" ".join(answer.text.split()) for answer in body.answers]
    for text, answer in zip(texts, body.answers, strict=True):
        if answer.model == judge and not answer.failed:
            return next(i for i, other in enumerate(body.answers) if not other.failed and texts[i] == text)
    return _ABSTAINED


def gated(refused: Sequence[pb.Refusal], answers: Sequence[pb.Answer], rules: Rules) -> Iterator[str]:
    """What is wrong with what gates refused, and with answers that take part though a gate was to keep them out."""
    on = {
        "benchmark": bool(rules.harvest.benchmarks),
        "near_duplicate": rules.harvest.near_duplicate > 0,
        "language": bool(rules.harvest.languages),
        "refusal": rules.harvest.drop_refusals,
        "cut": rules.harvest.drop_cut,
    }
    for refusal in refused:
        if refusal.gate not in _GATES.get(refusal.what, ()) or not on[refusal.gate]:
            yield f"a {refusal.what} refused by the gate {refusal.gate!r}, which is not on"
        if refusal.model not in (rules.sources if refusal.what == "question" else rules.answerers):
            yield f"a {refusal.what} refused of {refusal.model!r}, who wrote none"
    for answer in answers:
        if answer.failed:
            continue
        if rules.harvest.drop_cut and answer.finish_reason == "length":
            yield f"{answer.model}'s answer was cut by the token limit, and takes part"
        if rules.harvest.drop_refusals and declines(answer.text):
            yield f"{answer.model} declines to answer, and takes part"


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
    if body.proposals and body.failure != Failure.REJECTED:
        yield "failed because the models were away, though they made proposals"


def _proposals(proposals: Sequence[pb.Proposal], known: Collection[str], rules: Rules) -> Iterator[str]:
    votes = [proposal.votes for proposal in proposals]
    if votes != sorted(votes, reverse=True):
        yield "the proposals are not in the order of their votes"
    for proposal in proposals:
        refused = "known" if names.key(proposal.text) in known else names.why_refused(proposal.text)
        if not refused and proposal.refused == readers.REMARK:
            refused = proposal.refused  # as the reader saw it then, which may see better by now
        if bool(refused) != bool(proposal.refused) or proposal.model not in rules.sources:
            why = refused or "valid"
            yield f"{proposal.model} proposed {proposal.text!r}, marked {proposal.refused!r}; it is {why}"
