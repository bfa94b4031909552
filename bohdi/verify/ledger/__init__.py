"""The verification's own accounting of one run, event by event, written apart from `core.evolve`.

What the run was told to do is known from its settings and its recorded decisions; every event is held to that. An event
that is wrong is reported and then counted as the rules of the fold have it (the first settlement of a slot counts, what
is past moves nothing), so that one wrong event gives one problem and not a thousand.

    what all parts need     account (where the run stands), stops (when it stood still), kept (samples and requests)
    what takes effect       step (slots and sprouts)
    what is held to it      envelope (any event), lifecycle, draws, sprouts, answers, rebirth, training
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.answers import Answers, Gate
from bohdi.verify.ledger.draws import Draws
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.ledger.kept import Asked, Samples
from bohdi.verify.ledger.lifecycle import Lifecycle
from bohdi.verify.ledger.rebirth import Rebirth
from bohdi.verify.ledger.sprouts import Sprouts
from bohdi.verify.ledger.step import Step
from bohdi.verify.ledger.stops import Stops
from bohdi.verify.ledger.training import Trainings
from bohdi.verify.report import Kind, Report
from bohdi.verify.spending import Spending
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.topics import FEEDBACK

__all__ = ["Ledger"]


class Ledger:
    """One run. `take` an event, then read and clear `found`: (kind, what) of all that is wrong with it."""

    def __init__(self, run_id: str, report: Report, gate: Gate | None = None) -> None:
        self.account = account = Account(run_id, report)
        self.found = account.found
        self.stops = stops = Stops()
        self.samples = samples = Samples()
        self.asked = asked = Asked()
        self.step = step = Step(account, stops, samples, asked)
        self._spending = spending = Spending()
        self._envelopes = envelopes = Envelopes(account, stops)
        self.lifecycle = lifecycle = Lifecycle(account, envelopes, stops, spending)
        draws = Draws(account, envelopes, step, asked)
        sprouts = Sprouts(account, envelopes, stops, step, asked)
        answers = Answers(account, envelopes, stops, spending, step, samples, asked, gate)
        rebirth = Rebirth(account, envelopes)
        trainings = Trainings(account, envelopes, stops, samples, asked)
        self._take: dict[str, Callable[[pb.Event, Any], None]] = {
            "run_started": lifecycle.run_started,
            "run_paused": lifecycle.run_paused,
            "run_resumed": lifecycle.run_resumed,
            "run_finished": lifecycle.run_finished,
            "target_evaluated": lifecycle.target_evaluated,
            "paths_drawn": draws.paths_drawn,
            "slot_continued": draws.slot_continued,
            "slot_expired": draws.slot_expired,
            "domains_sprouted": sprouts.domains_sprouted,
            "sprout_failed": sprouts.sprout_failed,
            "harvest_judged": answers.harvest_judged,
            "harvest_failed": answers.harvest_failed,
            "rehearsal_answered": answers.rehearsal_answered,
            "nodes_reborn": rebirth.nodes_reborn,
            "training_drawn": trainings.training_drawn,
            "target_promoted": trainings.target_promoted,
            "training_failed": trainings.training_failed,
        }
        assert self._take.keys() == set(FEEDBACK.kinds)

    def take(self, event: pb.Event) -> None:
        """The next event of the run."""
        account = self.account
        kind = event.WhichOneof("body") or ""
        take = self._take.get(kind)
        self.samples.leaves.append(0)
        if take is None:
            account.unknown += 1
            account.wrong(Kind.ENVELOPE, f"{kind or 'an unknown body'} is no fact of the feedback log")
        elif not account.started and kind != "run_started":
            account.invalid += 1
            account.wrong(Kind.RUN, f"{kind} before the run was started")
        else:
            self._envelopes.check(event, kind)
            take(event, getattr(event, kind))
            self._spending.take(event)
        self._envelopes.taken(event)
        account.sequence += 1
