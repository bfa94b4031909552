"""What a report needs of a run's events, taken in one at a time: a page can be made after any of them.

Kept are eight bytes an event (where it stands), some numbers a node, and sums. No text of a model is: those that the
page shows are read again from where they stand.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from dataclasses import dataclass, field

from bohdi.figures import Figures
from bohdi.profiles import Tally, contest_of
from bohdi.report.moments import Moment, Moments
from bohdi_common.core.budget import cost_micros
from bohdi_common.core.state import Failure, RunState
from bohdi_common.core.tree import LEAF_LEVEL
from bohdi_common.events.events_pb2 import Event, HarvestJudged
from bohdi_common.log.port import LogReader
from bohdi_common.runtime.feedback import feedback_records
from services.bandit.handler import Bandit

_PAUSES = 20  # the last ones
_FAILURES = 200  # different ones that are told apart
_REASON_CHARS = 200
_OTHERS = "(other reasons)"


@dataclass
class Round:
    """A round, numbered from 1. `lost`: counted harvests that the target lost. `tokens`: prompts and completions
    together, by model."""

    number: int
    harvests: int = 0
    lost: int = 0
    no_verdict: int = 0
    tokens: Counter[str] = field(default_factory=Counter)


@dataclass
class Usage:
    """What one model was asked in the whole run. `cost` in millionths of the prices' currency."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cost_micros: int = 0


@dataclass(frozen=True)
class FailureKind:
    """What failed: `what` a harvest, sprout, slot or training is, and at which stage."""

    what: str
    stage: str
    failure: str
    reason: str


@dataclass
class Collected:
    """The run `run_id`, up to where its log was read."""

    run_id: str
    figures: Figures = field(default_factory=Figures)
    tally: Tally = field(default_factory=Tally)
    moments: Moments = field(default_factory=Moments)
    rounds: dict[int, Round] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    failures: Counter[FailureKind] = field(default_factory=Counter)
    pauses: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_PAUSES))  # time_us and reason
    early: dict[int, array[int]] = field(
        default_factory=dict
    )  # of a leaf: its first rewards, as many as the window has
    offsets: array[int] = field(default_factory=lambda: array("Q"))  # in the log, by run sequence
    began_us: int = 0
    bohdi_version: str = ""
    _next_offset: int = 0

    def __post_init__(self) -> None:
        self._bandit = Bandit(self.run_id)

    @property
    def state(self) -> RunState:
        return self._bandit.state

    def read_on(self, log: LogReader) -> int:
        """Takes in what the log holds beyond what was read of it; gives how many events of the run that were. Raises
        LogError and NewerSchema."""
        before = len(self.offsets)
        for stored, event in feedback_records(log, self._next_offset):
            self._next_offset = stored.offset + 1
            if event is not None and event.run_id == self.run_id:
                self.add(event, stored.offset)
        return len(self.offsets) - before

    def add(self, event: Event, offset: int) -> None:
        """Takes in the run's next event, which stands at `offset` of the log."""
        state = self.state
        kind = event.WhichOneof("body") or ""
        late, spent, round = state.counts.get("late", 0), state.spent_tokens, state.round
        leaf = _leaf_of(event, state) if kind == "harvest_judged" else -1
        if kind == "paths_drawn":
            self.moments.step_begins(state)
        self._bandit.fold(event)
        self.figures.add(event)
        self.offsets.append(offset)
        self.began_us = self.began_us or event.time_us
        if kind == "run_started":
            self.bohdi_version = self.bohdi_version or event.run_started.bohdi_version
        if state.rules is not None and state.counts.get("late", 0) == late:
            self._took_effect(kind, event, leaf)
        if state.spent_tokens > spent:
            self._used(event)
        if state.round > round or (kind == "run_started" and not self.moments.ends.kept):
            self.moments.round_ended(state)

    def all_moments(self) -> list[Moment]:
        """Those that were kept, the last as it is now."""
        return self.moments.until(self.state)

    def _round(self, event: Event) -> Round:
        return self.rounds.setdefault(event.round, Round(event.round + 1))

    def _took_effect(self, kind: str, event: Event, leaf: int) -> None:
        match kind:
            case "harvest_judged":
                self._judged(event.harvest_judged, self._round(event), leaf)
            case "harvest_failed":
                failed = event.harvest_failed
                self._failed("harvest", failed.stage, failed.failure, failed.reason)
            case "sprout_failed":
                self._failed("sprout", "", event.sprout_failed.failure, event.sprout_failed.reason)
            case "slot_expired":
                self._failed("slot", "", Failure.UNAVAILABLE, "no result within its time")
            case "training_failed":
                failure = event.training_failed
                self._failed("training", failure.version, failure.failure, failure.reason)
            case "run_paused":
                self.pauses.append((event.time_us, event.run_paused.reason[:_REASON_CHARS]))

    def _judged(self, judged: HarvestJudged, round: Round, leaf: int) -> None:
        if not judged.counted:
            round.no_verdict += 1
            return
        lost = bool(judged.reward)
        round.harvests += 1
        round.lost += lost
        contest = contest_of(judged)
        if contest is not None:
            self.tally.add(contest)
        first = self.early.setdefault(leaf, array("b"))
        if len(first) < self.state.tree.window_length:
            first.append(lost)

    def _failed(self, what: str, stage: str, failure: int, reason: str) -> None:
        named = Failure(failure).name.lower() if failure in set(Failure) else "of no class"
        kind = FailureKind(what, stage[:_REASON_CHARS], named, reason[:_REASON_CHARS])
        if kind not in self.failures and len(self.failures) >= _FAILURES:
            kind = FailureKind(what, "", named, _OTHERS)
        self.failures[kind] += 1

    def _used(self, event: Event) -> None:
        rules = self.state.rules
        for used in event.usage:
            sums = self.usage.setdefault(used.model, Usage())
            sums.prompt_tokens += used.prompt_tokens
            sums.completion_tokens += used.completion_tokens
            sums.calls += used.calls
            if rules is not None and (price := rules.prices.get(used.model)):
                sums.cost_micros += cost_micros(price, used.prompt_tokens, used.completion_tokens)
            self._round(event).tokens[used.model] += used.prompt_tokens + used.completion_tokens


def _leaf_of(event: Event, state: RunState) -> int:
    """The leaf of the slot that an event is about; -1 where there is none."""
    slot = state.slots[event.slot] if event.slot < len(state.slots) else None
    return slot.path[-1] if slot is not None and len(slot.path) == LEAF_LEVEL else -1
