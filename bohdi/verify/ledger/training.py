"""Trainings: what was drawn for one, held to the samples in store; what came of it; and with it the end of a round."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bohdi.verify import trainings
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.ledger.kept import Asked, Samples
from bohdi.verify.ledger.stops import Stops
from bohdi.verify.report import Kind
from bohdi.verify.trainings import Training
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import BASE_VERSION, Failure
from bohdi_common.events import events_pb2 as pb


@dataclass(frozen=True)
class Trainings:
    """Of one run."""

    account: Account
    envelopes: Envelopes
    stops: Stops
    samples: Samples
    asked: Asked

    def training_drawn(self, event: pb.Event, body: pb.TrainingDrawn) -> None:
        account = self.account
        if not self.envelopes.of_round(event, "training_drawn", body.based_on):
            return None
        samples = list(body.samples)
        for what in (*self._drawn(body, samples), *self._bases(body)):
            account.wrong(Kind.TRAINING, what)
        parts: tuple[str | int, ...] = (body.version, body.base_version, *body.average_with, *samples)
        if body.request_hash != derived_id(account.run_id, "training", *parts):
            what = f"request hash {body.request_hash!r} does not follow from what is asked"
            account.wrong(Kind.HASH, what)
        if any(sample >= account.sequence for sample in samples) or body.version in account.versions:
            account.invalid += 1
            return None
        if not samples:
            return self._round_over()
        account.report.samples += len(samples)
        self.asked.trainings[body.request_hash] = account.place
        split = trainings.split(account.run_id, samples, account.settings.training.held_back_share)
        account.training = Training(body.request_hash, body.version, *split, account.place)
        return None

    def _drawn(self, body: pb.TrainingDrawn, samples: list[int]) -> Iterator[str]:
        """Samples that there were, of the kinds that are told, and as many as are due."""
        leaves, before = self.samples.leaves, min(body.based_on, self.account.sequence)
        known = [sample for sample in samples if sample < before]
        rehearsed = sum(leaves[sample] < 0 for sample in known)
        strange = {sample for sample in known if not leaves[sample]} | (set(samples) - set(known))
        if strange:
            yield f"run sequences {sorted(strange)[:5]} are no samples before state {body.based_on}"
        elif body.from_rehearsal != rehearsed or body.from_replay + rehearsed > len(samples):
            shares = f"{body.from_rehearsal} from rehearsal and {body.from_replay} from replay"
            yield f"{shares} of {len(samples)}, of which {rehearsed} are rehearsals"
        due = self._samples_due()
        if len(samples) != due:
            yield f"{len(samples)} samples drawn of {self.samples.pairs} pairs in store; due are {due}"

    def _bases(self, body: pb.TrainingDrawn) -> Iterator[str]:
        """A new version, of the base that it is trained from and of those that it is averaged with."""
        versions, rules = self.account.versions, self.account.settings.training
        base = BASE_VERSION if rules.restart else versions[-1]
        if body.base_version != base or body.version in versions:
            yield f"{body.version!r} from {body.base_version!r}; the base is {base!r}, promoted are {versions}"
        last = self.account.round + 1 >= self.account.settings.bandit.rounds
        others = versions[max(1, len(versions) - rules.average_last + 1) :] if last else []
        if list(body.average_with) != others:
            yield f"to be averaged with {list(body.average_with)}; by the settings with {others}"

    def _samples_due(self) -> int:
        """How many samples a training sees: as many as the settings say, or `passes` over the pairs with their share
        of rehearsal on top, in whole batches; none without a pair."""
        pairs, rules = self.samples.pairs, self.account.settings.training
        if not pairs:
            return 0
        if not rules.passes:
            growth = 2 * (self.account.round + 1) / (self.account.settings.bandit.rounds + 1) if rules.ramp else 1
            return min(round(rules.examples * growth), rules.max_examples)
        share = rules.rehearsal_share if self.samples.rehearsals else 0.0
        return min(math.ceil(rules.passes * pairs / (1 - share) / rules.batch) * rules.batch, rules.max_examples)

    # ---- what came of it ---------------------------------------------------------------------------------------

    def target_promoted(self, event: pb.Event, body: pb.TargetPromoted) -> None:
        training = self._answered(event, "target_promoted", body)
        if training is None:
            return
        for what in trainings.promoted(self.account.settings.training, training, body):
            self.account.wrong(Kind.TRAINING, what)
        self.account.versions.append(training.version)
        self.stops.failed_trainings = 0
        self._round_over()

    def training_failed(self, event: pb.Event, body: pb.TrainingFailed) -> None:
        account, stops = self.account, self.stops
        training = self._answered(event, "training_failed", body)
        if training is None:
            return
        for what in trainings.failed(account.settings.training, training, body):
            account.wrong(Kind.TRAINING, what)
        self.envelopes.failure(body.failure)
        if body.failure == Failure.BLOCKED:  # drawn anew in the same round
            stops.stall(account.sequence)
            account.training = None
            account.due_since = account.sequence + 1
            return
        stops.failed_trainings += 1
        most = account.settings.bandit.training_failures
        if body.failure == Failure.UNAVAILABLE or stops.failed_trainings >= most:
            stops.stall(account.sequence)
        self._round_over()

    def _answered(self, event: pb.Event, kind: str, body: Any) -> Training | None:
        """The open training that a result answers."""
        account = self.account
        self.envelopes.result(event, kind, body.request_hash)
        training = account.training
        if training is None or training.request_hash != body.request_hash:
            if body.request_hash not in self.asked.trainings:
                what = f"answers the training {body.request_hash!r}, which no decision opened"
                account.wrong(Kind.SETTLEMENT, what)
            account.count_late()
            return None
        if (event.round, event.step, event.slot) != (*training.place, 0):
            what = "names another round, step or slot than that of the training it answers"
            account.wrong(Kind.ENVELOPE, what)
        if body.version != training.version:
            account.wrong(Kind.TRAINING, f"version {body.version!r}, asked was {training.version!r}")
        return training

    def _round_over(self) -> None:
        account = self.account
        account.training = None
        account.round += 1
        account.step = account.steps_counted = 0
        account.introspected = False
        account.due_since = account.sequence + 1
