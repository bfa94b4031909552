"""The run's own events: its start, pauses, resumes and end; and evaluations, which are of no step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bohdi.verify import results
from bohdi.verify.arms import Arms
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.ledger.stops import Stops
from bohdi.verify.report import Kind
from bohdi.verify.results import Rules
from bohdi.verify.spending import Spending
from bohdi_common.core import names
from bohdi_common.core.ids import derived_id
from bohdi_common.core.limits import PRICE_MAX
from bohdi_common.core.tree import LEAF_LEVEL, ROOT
from bohdi_common.events import events_pb2 as pb

_INTROSPECTIONS = (pb.INTROSPECTION_OFF, pb.INTROSPECTION_PAPER, pb.INTROSPECTION_TWO_SAMPLE)


@dataclass(slots=True)
class Lifecycle:
    """Of one run. `controls`: ids of the pauses and resumes that took effect."""

    account: Account
    envelopes: Envelopes
    stops: Stops
    spending: Spending
    controls: list[str] = field(default_factory=list)
    settings_bytes: bytes = b""
    _start_id: str = ""
    _past_pauses: set[str] = field(default_factory=set)  # ids of pauses by the bandit that would come too late

    def run_started(self, event: pb.Event, body: pb.RunStarted) -> None:
        account, settings = self.account, body.settings
        if account.started:
            if event.event_id != self._start_id:
                account.wrong(Kind.RUN, "the run is started a second time, by another event")
            return account.count_late()
        if not _can_go(settings):
            account.invalid += 1
            return account.wrong(Kind.RUN, "settings by which no run can go")
        self._start_id = event.event_id
        self.settings_bytes = settings.SerializeToString(deterministic=True)
        self.spending.started(settings)
        account.started = True
        account.settings.CopyFrom(settings)
        account.rules = Rules.of(settings)
        account.arms = Arms(settings.bandit.window, settings.bandit.grow, 1)
        account.due_since = 1
        for domain in body.domains:
            self._plant(domain.path)
        return None

    def _plant(self, path: Sequence[str]) -> None:
        node, arms = ROOT, self.account.arms
        for name in map(names.tidy, path[:LEAF_LEVEL]):
            if names.why_refused(name):
                return self.account.wrong(Kind.RUN, f"{name!r} cannot name a domain: {names.why_refused(name)}")
            child = arms[node].children.get(names.key(name))
            node = arms.add(node, name, 1) if child is None else child
        return None

    def run_paused(self, event: pb.Event, body: pb.RunPaused) -> None:
        account, stops = self.account, self.stops
        if event.event_id in self.controls:
            return account.count_late()
        due_id = self._due_pause()
        by_bandit = event.producer == "bandit"
        if by_bandit and event.event_id not in (due_id, *self._past_pauses):
            account.wrong(Kind.ID, f"event id {event.event_id} is not that of a pause by the bandit")
        if stops.paused or account.finished or (by_bandit and event.event_id != due_id):
            return account.count_late()
        could_go_on = account.arms.is_open(ROOT, account.sequence) and not self.spending.over()
        if by_bandit and not stops.pause_due and could_go_on:
            account.wrong(Kind.RUN, "paused by the bandit, though the run could go on")
        self._past_pauses.add(due_id)
        self.controls.append(event.event_id)
        return stops.pause(account.sequence)

    def run_resumed(self, event: pb.Event, body: pb.RunResumed) -> None:
        if self.account.finished or event.event_id in self.controls:
            return self.account.count_late()
        self._past_pauses.add(self._due_pause())
        self.controls.append(event.event_id)
        self.stops.resume(self.account.sequence)
        return self.spending.allow(body.budget)

    def _due_pause(self) -> str:
        """The id of a pause by the bandit, if it came now."""
        return derived_id(self.account.run_id, "run_paused", self.stops.pauses, len(self.stops.resumed))

    def run_finished(self, event: pb.Event, body: pb.RunFinished) -> None:
        account = self.account
        if account.finished:
            return account.count_late()
        if event.producer != "cli":
            self.envelopes.decision(event, "run_finished", body.based_on, account.due_since)
            if account.due() != "run_finished":
                account.wrong(Kind.RUN, f"finished in round {account.round}, before all rounds were done")
            if body.target_version != (last := account.versions[-1]):
                account.wrong(Kind.RUN, f"finished with version {body.target_version!r}; the last is {last!r}")
        elif body.based_on or body.target_version:
            what = "cancelled by a person, and yet it names a state or a version as a decision does"
            account.wrong(Kind.RUN, what)
        account.finished = True
        return self.stops.stop(account.sequence)

    def target_evaluated(self, event: pb.Event, body: pb.TargetEvaluated) -> None:
        account = self.account
        is_target = body.model == account.rules.target
        if not is_target and body.model not in account.rules.sources:
            account.wrong(Kind.ENVELOPE, f"{body.model!r} is no model of the run")
        if is_target and body.version not in account.versions:
            account.wrong(Kind.VERSION, f"version {body.version!r} was evaluated before it was promoted")
        about: list[str | int] = [body.model, body.version, body.benchmark]
        about += [body.tasks_digest, body.limit] if body.harness else []
        if event.event_id != derived_id(account.run_id, "target_evaluated", *about):
            account.wrong(Kind.ID, f"event id {event.event_id} does not follow from what was evaluated")
        if wrong := results.evaluated(body, event.producer):
            account.wrong(Kind.ENVELOPE, wrong)


def _can_go(settings: pb.Settings) -> bool:
    """Whether a run can go by these settings."""
    bandit, training = settings.bandit, settings.training
    counts = (bandit.rounds, bandit.steps, bandit.slots, bandit.sprout_failures, bandit.slot_failures,
              bandit.leaf_failures, bandit.sprout_names, training.batch)  # fmt: skip
    everybody = (*settings.sources, settings.target, *settings.judging.judges)
    prices = (price for model in everybody for price in (model.price_prompt, model.price_completion))
    return (
        len(settings.sources) > 0
        and min(counts) >= 1
        and 1 <= bandit.window <= 64
        and bandit.sharpness >= 0
        and 0 <= bandit.threshold <= 1
        and 0 < bandit.slot_timeout_s < math.inf
        and 0 <= training.passes < math.inf
        and 0 <= training.rehearsal_share < 1
        and 0 <= training.replay_share <= 1
        and bandit.introspection in _INTROSPECTIONS
        and all(0 <= price <= PRICE_MAX for price in prices)
    )
