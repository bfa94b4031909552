"""Where a run stands, as all parts of its ledger need it; and what was found wrong with the event that is taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from bohdi.verify.arms import Arms
from bohdi.verify.report import Kind, Report
from bohdi.verify.results import Rules
from bohdi.verify.trainings import Training
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import events_pb2 as pb


@dataclass(slots=True)
class Account:
    """One run's. `found`: (kind, what) of all that is wrong, until somebody clears it."""

    run_id: str
    report: Report
    found: list[tuple[Kind, str]] = field(default_factory=list)
    late: int = 0
    invalid: int = 0
    unknown: int = 0
    sequence: int = 0  # of the event that is taken, which is that of the state before it
    started: bool = False  # until then the settings are empty, and there are no rules
    settings: pb.Settings = field(default_factory=pb.Settings)
    rules: Rules = field(init=False)
    arms: Arms = field(default_factory=lambda: Arms(1, False, 0))
    versions: list[str] = field(default_factory=lambda: [BASE_VERSION])
    round: int = 0
    step: int = 0
    due_since: int = 0  # first state that called for the decision that is due
    steps_counted: int = 0
    rehearsed: bool = False
    introspected: bool = False
    open: int = 0  # slots of the step that are not settled
    training: Training | None = None  # asked for, and not answered
    finished: bool = False

    @property
    def place(self) -> tuple[int, int]:
        return self.round, self.step

    def wrong(self, kind: Kind, what: str) -> None:
        self.found.append((kind, what))

    def count_late(self) -> None:
        """The event comes too late, or once more: it moves nothing."""
        self.late += 1
        self.report.late += 1

    def due(self) -> str:
        """The decision that is due, by the method's order: steps, rehearsal once, rebirth, training."""
        if not self.started or self.finished or self.open or self.training:
            return ""
        bandit = self.settings.bandit
        if self.round >= bandit.rounds:
            return "run_finished"
        if self.steps_counted < bandit.steps:
            return "paths_drawn"
        if self.round == 0 and bandit.rehearsal_questions and not self.rehearsed:
            return "rehearsal"
        if bandit.introspection != pb.INTROSPECTION_OFF and not self.introspected:
            return "nodes_reborn"
        return "training_drawn"
