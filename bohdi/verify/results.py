"""Results held to what they say themselves: outcomes to their verdicts, names to their proposals."""

from __future__ import annotations

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
    prompts: str
    votes: int
    by_leader: bool
    both_orders: bool

    @classmethod
    def of(cls, settings: pb.Settings) -> Rules:
        return cls(
            settings.target.name,
            tuple(source.name for source in settings.sources),
            settings.prompts,
            settings.sprout.votes,
            settings.judging.mode == pb.JUDGING_MODE_LEADER,
            settings.judging.both_orders,
        )


def judged(body: pb.HarvestJudged, rules: Rules) -> str:
    """What is wrong with the outcome; empty when it follows from answers and verdicts."""
    texts = [None if answer.failed else " ".join(answer.text.split()) for answer in body.answers]
    if wrong := _answers(body, texts, rules):
        return wrong
    firsts: dict[str, int] = {}  # of identical answers the first stands for all
    for index, text in enumerate(texts):
        if text is not None and text not in firsts:
            firsts[text] = index
    candidates = list(firsts.values())
    votes, wrong = _votes(body, candidates, rules) if len(candidates) > 1 else (candidates, "")
    if wrong:
        return wrong
    if len(candidates) == 1 and body.verdicts:
        return "verdicts, though all answers are the same"
    best = next((vote for vote in votes if 2 * votes.count(vote) > len(votes)), _ABSTAINED)
    if len(candidates) == 1 and best != 0:
        best = _ABSTAINED  # the sources agree, and the target said nothing: nobody judged it
    outcome = (best != _ABSTAINED, best, int(best > 0))
    written = (body.counted, body.best, body.reward)
    if outcome != written:
        return "counted, best, reward are {}, {}, {}; the verdicts give {}, {}, {}".format(*written, *outcome)
    return ""


def _answers(body: pb.HarvestJudged, texts: list[str | None], rules: Rules) -> str:
    """What is wrong with the answers; `texts`: those that take part."""
    models = [answer.model for answer in body.answers]
    if models != [rules.target, *rules.sources]:
        return f"answers by {models}, not by the target and then each source"
    if texts[0] is not None and body.answers[0].version != body.target_version:
        return f"the target answered as version {body.answers[0].version!r}, asked was {body.target_version!r}"
    if sum(text is not None for text in texts) < 2:
        return "fewer than two models answered"
    return ""


def _votes(body: pb.HarvestJudged, candidates: list[int], rules: Rules) -> tuple[list[int], str]:
    """The votes that count, one of each judge, and what is wrong with them."""
    by_judge: dict[str, list[tuple[list[int], int, bool]]] = {}
    for verdict in body.verdicts:
        order = list(verdict.order)
        if sorted(order) != candidates:
            return [], f"{verdict.judge} was shown {order}, which is no order of the candidates {candidates}"
        if verdict.choice != _ABSTAINED and verdict.choice not in order:
            return [], f"{verdict.judge} chose {verdict.choice}, which was not shown"
        by_judge.setdefault(verdict.judge, []).append((order, verdict.choice, verdict.counted))
    allowed = (body.leader,) if rules.by_leader else rules.sources
    if not by_judge or not by_judge.keys() <= set(allowed):
        return [], f"judged by {sorted(by_judge)}; the judges are {sorted(allowed)}"
    votes = []
    for judge, verdicts in by_judge.items():
        orders = [order for order, _, _ in verdicts]
        expected = [orders[0], orders[0][::-1]] if rules.both_orders else orders[:1]
        if orders != expected or (rules.by_leader and orders[0] != candidates):
            return [], f"{judge} was asked in the orders {orders}"
        choice = verdicts[0][1] if len({choice for _, choice, _ in verdicts}) == 1 else _ABSTAINED
        if choice != _ABSTAINED:
            votes.append(choice)
        if [counted for _, _, counted in verdicts] != [choice != _ABSTAINED, False][: len(verdicts)]:
            return [], f"{judge}'s verdicts are marked as counted where they do not agree, or the other way round"
    return votes, ""


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
