"""What the verification of a log gives: problems, each with its place, and counts of what was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Which invariant a problem breaks."""

    LOG = "log"  # the file itself: checksums, gaps
    ENVELOPE = "envelope"  # schema, producer, round, step, slot, cause
    ID = "id"  # an event id that does not follow from the content
    RUN = "run"  # start, pause, end
    DECISION = "decision"  # made of a later state, or of one that did not call for it
    DRAW = "draw"  # an arm that was not there or not open, a leader who is no source
    HASH = "hash"  # a request hash that does not follow from what is asked
    SETTLEMENT = "settlement"  # a result that answers nothing the log asked, or answers something else
    SPROUT = "sprout"  # names that nobody proposed, or too few voted for
    VERDICT = "verdict"  # an outcome that does not follow from the verdicts
    GATE = "gate"  # a question that a benchmark holds, or what a gate let through or kept out against the settings
    REBIRTH = "rebirth"  # not the window that the node had
    TRAINING = "training"  # samples, base or version that cannot be
    VERSION = "version"  # a folder that is not what was promoted
    REQUEST = "request"  # a request that no decision asked for
    STATE = "state"  # the fold's state differs from the verification's own accounting


@dataclass(frozen=True)
class Problem:
    """`where`: "feedback offset 812, run sequence 811 of demo"; `what`: one line."""

    where: str
    what: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Report:
    """Counts of what was verified. Filled while `problems` is read; `problems` counts those given."""

    events: int = 0
    runs: int = 0
    decisions: int = 0
    hashes: int = 0  # of states, recorded when they were
    draws: int = 0
    settlements: int = 0
    late: int = 0
    harvests: int = 0  # counted ones
    samples: int = 0  # draws of all trainings
    questions_gated: int = 0
    requests: int = 0
    versions: int = 0
    versions_absent: int = 0  # promoted, but their folder is not here: a log copied alone
    problems: int = 0
