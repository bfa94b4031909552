"""The results of sprouts, held to what was asked and to the names that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bohdi.verify import results
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.ledger.kept import Asked
from bohdi.verify.ledger.slots import Sprout
from bohdi.verify.ledger.step import Step
from bohdi.verify.ledger.stops import Stops
from bohdi.verify.report import Kind
from bohdi_common.events import events_pb2 as pb


@dataclass(frozen=True)
class Sprouts:
    """Of one run."""

    account: Account
    envelopes: Envelopes
    stops: Stops
    step: Step
    asked: Asked

    def domains_sprouted(self, event: pb.Event, body: pb.DomainsSprouted) -> None:
        sprout = self._answered(event, "domains_sprouted", body)
        if sprout is None:
            return
        taken = self.account.arms.taken_names(body.parent)
        for what in results.sprouted(body, taken, sprout.want, self.account.rules):
            self.account.wrong(Kind.SPROUT, what)
        sprout.names = tuple(given.name for given in body.names)
        self.step.sprouted(sprout)

    def sprout_failed(self, event: pb.Event, body: pb.SproutFailed) -> None:
        sprout = self._answered(event, "sprout_failed", body)
        if sprout is None:
            return
        self.envelopes.failure(body.failure)
        for what in results.failed(body, self.account.arms.taken_names(body.parent), self.account.rules):
            self.account.wrong(Kind.SPROUT, what)
        sprout.unavailable = self.stops.away(body.failure, self.account.sequence)
        self.step.sprouted(sprout)

    def _answered(self, event: pb.Event, kind: str, body: Any) -> Sprout | None:
        """The open sprout that a result answers."""
        account = self.account
        self.envelopes.result(event, kind, body.request_hash)
        sprout = self.step.sprouts.get(body.parent)
        if sprout is None or sprout.answered or sprout.request_hash != body.request_hash:
            asked = self.asked.sprouts.get(body.request_hash)
            if asked is None:
                what = f"answers the sprout {body.request_hash!r}, which no decision asked for"
                account.wrong(Kind.SETTLEMENT, what)
            elif asked.parent != body.parent:
                account.wrong(Kind.SETTLEMENT, f"answers the sprout {body.request_hash!r}, of another node")
            account.count_late()
            return None
        self.envelopes.in_place(event)
        return sprout
