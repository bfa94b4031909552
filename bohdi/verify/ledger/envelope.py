"""What is held of an event whatever it says: who wrote it, where in the run, and from what it follows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.kept import prefix_of
from bohdi.verify.ledger.stops import Stops
from bohdi.verify.report import Kind
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import Failure
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.codec import SCHEMA_VERSION
from bohdi_common.events.topics import FEEDBACK

_RECENT = 4096  # ids of the last events, by which causes are checked
_PRODUCERS = {
    "domains_sprouted": ("tree_expansion",),
    "sprout_failed": ("tree_expansion",),
    "harvest_judged": ("judging",),
    "harvest_failed": ("generation", "judging"),
    "rehearsal_answered": ("generation",),
    "target_promoted": ("training",),
    "training_failed": ("training",),
    **dict.fromkeys(("paths_drawn", "slot_continued", "slot_expired", "nodes_reborn", "training_drawn"), ("bandit",)),
    **dict.fromkeys(("run_paused", "run_finished"), ("bandit", "cli")),
    **dict.fromkeys(("run_started", "run_resumed"), ("cli",)),
    "target_evaluated": ("evaluation", "cli"),
}
_CAUSES = {
    "domains_sprouted": ("sprout_requested",),
    "sprout_failed": ("sprout_requested",),
    "harvest_judged": ("answers_written",),
    "harvest_failed": ("harvest_requested", "answers_written"),
    "rehearsal_answered": ("harvest_requested",),
    "target_promoted": ("training_requested",),
    "training_failed": ("training_requested",),
}


@dataclass(slots=True)
class Envelopes:
    """Of the events of one run."""

    account: Account
    stops: Stops
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def taken(self, event: pb.Event) -> None:
        """The event is past: what comes may name it as its cause."""
        self._recent.append(event.event_id)

    def check(self, event: pb.Event, kind: str) -> None:
        account = self.account
        if not 1 <= event.schema_version <= SCHEMA_VERSION:
            account.wrong(Kind.ENVELOPE, f"schema version {event.schema_version} is not known")
        if event.producer not in _PRODUCERS.get(kind, FEEDBACK.producers):
            account.wrong(Kind.ENVELOPE, f"{kind} written by {event.producer!r}")
        if (event.round, event.step) > account.place:
            ahead = f"round {event.round} step {event.step} lies ahead of {account.round}, {account.step}"
            account.wrong(Kind.ENVELOPE, ahead)
        bandit = account.settings.bandit
        if event.slot and event.slot >= max(bandit.slots, bandit.rehearsal_questions):
            account.wrong(Kind.ENVELOPE, f"slot {event.slot} is out of range")
        if event.producer == "cli":
            self._by_hand(event)

    def _by_hand(self, event: pb.Event) -> None:
        """What a person asked for follows from nothing: its id can be any, but it has no cause and no place."""
        if prefix_of(event.event_id) is None:
            self.account.wrong(Kind.ID, f"event id {event.event_id!r} is no id")
        if event.cause_id or event.round or event.step or event.slot:
            what = "asked for by a person, and yet it names a cause or a place in the run"
            self.account.wrong(Kind.ENVELOPE, what)

    def decision(self, event: pb.Event, kind: str, based_on: int, since: int, attempt: int = 0) -> None:
        """A decision was made of a state before it, one that called for it; and its id follows."""
        account = self.account
        account.report.decisions += 1
        if not since <= based_on <= account.sequence:
            what = f"based on state {based_on}; it was due in the states {since} to {account.sequence}"
            account.wrong(Kind.DECISION, what)
        if self.stops.covers(based_on):
            account.wrong(Kind.DECISION, f"made in state {based_on}, while the run was paused or over")
        place = (event.round, event.step, event.slot, attempt, self.stops.resumes_before(based_on))
        if event.event_id != derived_id(account.run_id, kind, *place):
            account.wrong(Kind.ID, f"event id {event.event_id} does not follow from the decision's place")
        back = account.sequence - based_on + 1
        if event.cause_id and 0 < back <= len(self._recent) and self._recent[-back] != event.cause_id:
            account.wrong(Kind.ENVELOPE, f"its cause {event.cause_id} is not the event that made state {based_on}")

    def of_round(self, event: pb.Event, kind: str, based_on: int) -> bool:
        """A decision that its round calls for once, as `decision`. Returns whether it was due; else it is late."""
        account = self.account
        if account.due() != kind or event.round != account.round:
            self.decision(event, kind, based_on, 0)
            account.count_late()
            return False
        self.decision(event, kind, based_on, account.due_since)
        self.in_place(event)
        return True

    def result(self, event: pb.Event, kind: str, request_hash: str) -> None:
        """Ids of a result follow from what it answers."""
        account = self.account
        if event.event_id != derived_id(account.run_id, kind, request_hash):
            account.wrong(Kind.ID, f"event id {event.event_id} does not follow from the request {request_hash}")
        if not any(event.cause_id == derived_id(account.run_id, cause, request_hash) for cause in _CAUSES[kind]):
            account.wrong(Kind.ENVELOPE, f"its cause {event.cause_id!r} is not what it answers")

    def in_place(self, event: pb.Event) -> None:
        """The event names the round and step that the run is in."""
        account = self.account
        if (event.round, event.step) != account.place:
            asked = f"round {event.round} step {event.step}; asked in {account.round}, {account.step}"
            account.wrong(Kind.ENVELOPE, asked)

    def failure(self, failure: int) -> None:
        """The class of a failure is one that there is."""
        if failure not in set(Failure):
            self.account.wrong(Kind.SETTLEMENT, f"failure class {failure} is not known")
