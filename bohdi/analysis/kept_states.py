"""States of a run kept beside its log, so that any moment of a long one is near.

A kept state is a shortcut and nothing else (see services/bandit/snapshots.py, whose files these are): it is always safe
to delete, and one that is damaged, or whose last record is not the log's at that offset, is passed over. Its name says
what to look for; what is in it is held to its name, its own checksum and the log.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bohdi.analysis.points import Point
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import LogReader, Stored
from services.bandit.handler import Bandit
from services.bandit.runs import Runs
from services.bandit.snapshots import Snapshots

EVERY = 50_000  # events: about a second to fold, and a few megabytes a state
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)\.state")


@dataclass(frozen=True)
class KeptStates:
    """Those of one run. `folder`: None keeps and finds nothing."""

    folder: Path | None
    run_id: str
    every: int = EVERY

    def nearest(self, at: Point, log: LogReader) -> tuple[int, Bandit]:
        """The latest kept state at or before a moment, and the log's offset from which to go on; or a fresh start."""
        for _, offset, file in sorted(self._usable(at), reverse=True):
            found, runs = Snapshots(file).load(lambda offset: self._identity(log, offset))
            bandit = runs.going.get(self.run_id)
            if bandit is not None and found == offset and file.name == _name(offset, bandit):
                return offset, bandit
        return 0, Bandit(self.run_id)

    def keep(self, stored: Stored, bandit: Bandit) -> None:
        """After the record `stored` was folded: keeps the state, if one is due here."""
        if self.folder is None or bandit.state.sequence % self.every or bandit.state.finished:
            return
        file = self.folder / _name(stored.offset + 1, bandit)
        beside = self.folder if self.folder.exists() else self.folder.parent
        if not file.exists() and os.access(beside, os.W_OK):  # a log may well be looked at by who may not write
            Snapshots(file).save(stored.offset + 1, _identity_of(stored), Runs(going={self.run_id: bandit}))

    def _usable(self, at: Point) -> Iterator[tuple[int, int, Path]]:
        """(sequence, offset, file) of those that by their names are not behind the moment."""
        for file in self.folder.glob("*.state") if self.folder is not None else ():
            if named := _NAME.fullmatch(file.name):
                offset, sequence, round, last_us = map(int, named.groups())
                in_time = at.time_us is None or last_us <= at.time_us
                in_round = at.round is None or round < at.round
                if in_time and in_round and (at.sequence is None or sequence <= at.sequence):
                    yield sequence, offset, file

    def _identity(self, log: LogReader, offset: int) -> str | None:
        stored = next(iter(log.read(FEEDBACK.name, offset, offset + 1)), None) if offset >= 0 else None
        return None if stored is None else _identity_of(stored)


def _name(offset: int, bandit: Bandit) -> str:
    state = bandit.state
    return f"{offset}-{state.sequence}-{state.round}-{state.last_us}.state"


def _identity_of(stored: Stored) -> str:
    """Of a record, its content included."""
    return f"{stored.event_id} {hashlib.sha256(stored.value).hexdigest()}"
