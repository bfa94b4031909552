"""The results of slots: verdicts on harvests, harvests that failed, and rehearsals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bohdi.verify import results
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.ledger.kept import Asked, Samples
from bohdi.verify.ledger.slots import Outcome, Slot
from bohdi.verify.ledger.step import Step
from bohdi.verify.ledger.stops import Stops
from bohdi.verify.report import Kind
from bohdi.verify.spending import Spending
from bohdi_common.core.state import Failure
from bohdi_common.events import events_pb2 as pb
from services.generation import styles

_ANSWERED_STAGES = frozenset({"question", "gate", "answers"})  # of a harvest to which the models answered

Gate = Callable[[str, int], bool]  # whether so many words in a row of a question stand in a benchmark


@dataclass(frozen=True)
class Answers:
    """Of one run, held to the slots that they settle and to what they say themselves."""

    account: Account
    envelopes: Envelopes
    stops: Stops
    spending: Spending
    step: Step
    samples: Samples
    asked: Asked
    gate: Gate | None

    def harvest_judged(self, event: pb.Event, body: pb.HarvestJudged) -> None:
        account = self.account
        slot = self._settled(event, "harvest_judged", body)
        if wrong := results.judged(body, account.rules):
            account.wrong(Kind.VERDICT, wrong)
        if body.target_version not in account.versions:
            account.wrong(Kind.VERSION, f"target version {body.target_version!r} was not promoted before")
        if slot is None or self.step.rehearsing:
            if slot is not None:
                account.wrong(Kind.SETTLEMENT, "a verdict on a rehearsal")
            return account.count_late()
        self._asked_and_said(event, body, slot)
        self._gated(body.refused, body.answers)
        if body.target_version != account.versions[-1]:
            what = f"version {body.target_version!r} answered, the target is {account.versions[-1]!r}"
            account.wrong(Kind.VERSION, what)
        self.spending.settled()
        if not body.counted:
            return self.step.arrived(event.slot, Outcome(account.sequence, missed=True))
        self.samples.leaves[-1] = slot.node
        outcome = Outcome(account.sequence, sample=True, reward=1 if body.reward else 0)
        return self.step.arrived(event.slot, outcome)

    def harvest_failed(self, event: pb.Event, body: pb.HarvestFailed) -> None:
        account = self.account
        slot = self._settled(event, "harvest_failed", body)
        if slot is None:
            return account.count_late()
        self.envelopes.failure(body.failure)
        self._gated(body.refused)
        if body.stage in _ANSWERED_STAGES and body.failure != Failure.REJECTED:
            what = f"failed at the {body.stage}, which is no matter of a model being away"
            account.wrong(Kind.SETTLEMENT, what)
        unavailable = self.stops.away(body.failure, account.sequence)
        outcome = Outcome(account.sequence, missed=not unavailable, unavailable=unavailable)
        return self.step.arrived(event.slot, outcome)

    def rehearsal_answered(self, event: pb.Event, body: pb.RehearsalAnswered) -> None:
        account, said = self.account, body.answer
        slot = self._settled(event, "rehearsal_answered", body)
        if slot is None or not self.step.rehearsing:
            if slot is not None:
                account.wrong(Kind.SETTLEMENT, "a rehearsal's answer to a harvest")
            return account.count_late()
        self._asked_and_said(event, body, slot)
        self._gated((), [said])
        by_target = (said.model, said.version) == (account.rules.target, account.versions[-1])
        if not by_target or said.failed or not said.text:
            what = f"rehearsed by {said.model!r} {said.version!r}: {said.failed or 'answered'}"
            account.wrong(Kind.SETTLEMENT, what)
        self.samples.leaves[-1] = -slot.node
        return self.step.arrived(event.slot, Outcome(account.sequence, sample=True))

    def _settled(self, event: pb.Event, kind: str, body: Any) -> Slot | None:
        """The open slot that a result settles."""
        request_hash = body.request_hash
        self.envelopes.result(event, kind, request_hash)
        slot = self.step.slot_of(event, event.slot)
        if slot is None or not slot.waiting or not slot.for_result or slot.request_hash != request_hash:
            if request_hash not in self.asked:
                what = f"answers the request {request_hash!r}, which no decision opened"
                self.account.wrong(Kind.SETTLEMENT, what)
            elif any(slot and slot.waiting and slot.request_hash == request_hash for slot in self.step.slots):
                what = "names another round, step or slot than that of the request it answers"
                self.account.wrong(Kind.ENVELOPE, what)
            return None
        return slot

    def _asked_and_said(self, event: pb.Event, body: Any, slot: Slot) -> None:
        """What a result repeats of its request is as the decision had it; its question stands in no benchmark."""
        account, rules = self.account, self.account.rules
        path = account.arms.path_names(slot.node)
        if list(body.path) != path or body.leader != slot.leader:
            what = f"{list(body.path)} led by {body.leader!r}; asked was {path} led by {slot.leader!r}"
            account.wrong(Kind.SETTLEMENT, what)
        if body.prompts != rules.prompts:
            account.wrong(Kind.SETTLEMENT, f"prompts {body.prompts!r}, the run's are {rules.prompts!r}")
        offered = rules.harvest.question_styles
        style = styles.drawn(offered, rules.seed, event.round, event.step, event.slot, path)
        if body.question_style != style:
            account.wrong(Kind.SETTLEMENT, f"question style {body.question_style!r}; drawn was {style!r}")
        if self.gate is not None:
            account.report.questions_gated += 1
            if self.gate(body.question, rules.harvest.decontamination_words):
                account.wrong(Kind.GATE, "its question stands in a benchmark")

    def _gated(self, refused: Sequence[pb.Refusal], answers: Sequence[pb.Answer] = ()) -> None:
        for what in results.gated(refused, answers, self.account.rules):
            self.account.wrong(Kind.GATE, what)
