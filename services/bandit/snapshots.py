"""Snapshots of the fold of one feedback partition, so that the bandit starts near the end of a long log.

A snapshot is a shortcut and nothing else: it is always safe to delete, and one that is damaged, of another version or
of another log is passed over. One file: the SHA-256 of the rest, a line of JSON with the offset, the id of the last
record folded and the runs that are over, then a line a run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bohdi_common.core.state import canonical, restored
from bohdi_common.events.events_pb2 import Settings
from services.bandit.handler import Bandit
from services.bandit.runs import Runs

_FORMAT = 1
_log = logging.getLogger("bohdi")


@dataclass(frozen=True)
class Snapshots:
    """Those of one partition, in `file`. `bandit_of`: as `Runs` has it."""

    file: Path
    bandit_of: Callable[[str], Bandit] = Bandit

    def save(self, offset: int, last_id: str, runs: Runs) -> None:
        """Keeps what `runs` are after all records below `offset`, of which the last has `last_id`; written aside and
        renamed, so that the file is always a whole one. A disk that takes no more costs nothing but the snapshot."""
        head = {"format": _FORMAT, "offset": offset, "last_id": last_id, "over": sorted(runs.over)}
        lines = [json.dumps(head).encode(), *(_line(bandit) for bandit in runs.going.values())]
        body = b"\n".join(lines)
        aside = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self.file)
        except OSError as error:
            aside.unlink(missing_ok=True)
            _log.warning("%s: no snapshot: %s", self.file, error)

    def load(self, id_at: Callable[[int], str | None]) -> tuple[int, Runs]:
        """Offset and runs of the snapshot if it is one of this log, else 0 and none. `id_at`: the id of the record at
        an offset of the log, None when there is none."""
        try:
            digest, _, body = self.file.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                raise ValueError("damaged")
            head, *lines = body.split(b"\n")
            told = json.loads(head)
            if told["format"] != _FORMAT:
                raise ValueError(f"of format {told['format']}")
            if id_at(told["offset"] - 1) != told["last_id"]:
                raise ValueError("of another log")
            going = {bandit.run_id: bandit for bandit in map(self._bandit, lines)}
            return told["offset"], Runs(self.bandit_of, going, set(told["over"]))
        except FileNotFoundError:
            return 0, Runs(self.bandit_of)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s: passed over, folding from the start: %s", self.file, error)
            return 0, Runs(self.bandit_of)

    def _bandit(self, line: bytes) -> Bandit:
        run_id, settings, state = (base64.b64decode(part, validate=True) for part in line.split(b" "))
        bandit = self.bandit_of(run_id.decode())
        bandit.restore(Settings.FromString(settings), restored(state))
        return bandit


def _line(bandit: Bandit) -> bytes:
    """Run, settings and state, in base64: none of them holds a space or a line's end then."""
    settings = bandit.settings.SerializeToString(deterministic=True)
    return b" ".join(map(base64.b64encode, (bandit.run_id.encode(), settings, canonical(bandit.state))))
