"""The page made of a run's log and written, once or again and again while the run goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from bohdi.dead_letters import Letter, letters
from bohdi.report import samples
from bohdi.report.collected import Collected
from bohdi.report.contents import Contents, DomainsToRead, contents
from bohdi.report.page import page
from bohdi.report.words import verdict
from bohdi.run_places import RunPlace, no_events
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.events import codec
from bohdi_common.events.topics import DEAD
from bohdi_common.log.port import LogReader
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.shell import wall_clock_us

_DEAD_SHOWN = 20
_EVALUATION_US = 600_000_000


def plotly_js() -> str:
    """The charts' library, minified, with its licence's notice. Raises BadConfig where its package is not installed."""
    try:
        return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise BadConfig("report: the charts want the package plotly: pip install 'bohdi[report]'") from None


class Writer:
    """Writes the page of the run at `place` to `file`, and reads of the log only what it has not read yet."""

    def __init__(self, place: RunPlace, file: Path) -> None:
        """Raises BadConfig, NoRun and LogError."""
        if file.is_dir() or not file.parent.is_dir():
            raise BadConfig(f"--out: {file}: {'a folder' if file.is_dir() else 'its folder is not there'}: name a file")
        self._place, self._file = place, file
        self._js = plotly_js()
        self._log = place.reader()
        self._collected = Collected(place.run_id)
        self._shown: tuple[Contents, list[str]] | None = None

    def read_on(self) -> int:
        """Takes in what is new in the log: how many events that was. Raises BadConfig, NoRun and LogError."""
        new = self._collected.read_on(self._log)
        if not self._collected.offsets:
            raise no_events(self._place)
        if self._collected.state.rules is None:
            raise BadConfig(
                f"{self._place.how_to}: the log does not say by what rules the run went: its RunStarted is missing or "
                "invalid: check the name of the run"
            )
        return new

    @property
    def over(self) -> str:
        """Why the run is finished; empty while it is not."""
        return self._collected.state.finished

    def write(self, refresh_s: float = 0.0) -> None:
        """The page of what was read. Raises LogError."""
        self._shown = read_out(self._collected, self._log, self._place)
        self._put(self._shown, refresh_s)

    def _put(self, shown: tuple[Contents, list[str]], refresh_s: float) -> None:
        """In one step: who opens it meanwhile sees the one before or this one."""
        text = page(*shown, self._js, refresh_s)
        beside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(self._file)
        finally:
            beside.unlink(missing_ok=True)

    def follow(self, every_s: float) -> None:
        """Writes the page whenever there is something new, looking every `every_s` seconds, until the run is finished
        and its last version evaluated. However this ends, the last page does not load itself again."""
        try:
            while True:
                if self.read_on():
                    self.write(every_s)
                if self.over and not self._awaits_evaluation():
                    return
                time.sleep(every_s)
        finally:
            if self._shown is not None:
                self._put(self._shown, 0.0)

    def _awaits_evaluation(self) -> bool:
        """Versions are evaluated, and the last one is not yet: that comes behind the end of the run, and soon."""
        figures, state = self._collected.figures, self._collected.state
        missing = bool(figures.accuracy) and (figures.target, state.target_version) not in figures.accuracy
        soon = wall_clock_us() - state.last_us < _EVALUATION_US
        return missing and soon and state.finished == ALL_ROUNDS_DONE


def read_out(collected: Collected, log: LogReader, place: RunPlace) -> tuple[Contents, list[str]]:
    """Contents and verdict of what was collected of the run at `place`, whose `log` has the texts. Raises LogError."""
    chosen = DomainsToRead.of(collected)
    wanted = chosen.sequences(collected.state)
    at = {sequence: collected.offsets[sequence] for sequences in wanted.values() for sequence in sequences}
    read = samples.read(log, at)
    by_leaf = {leaf: [read[s] for s in sequences if s in read] for leaf, sequences in wanted.items()}
    dead, dead_count = _dead(letters(place.records(DEAD.name), None if place.folder else collected.run_id))
    told = contents(collected, chosen, by_leaf, dead, dead_count)
    return told, verdict(told, collected)


def _dead(found: Iterable[Letter]) -> tuple[list[dict[str, Any]], int]:
    """The first letters, and how many there are."""
    of = iter(found)
    shown = [_told(letter) for letter in islice(of, _DEAD_SHOWN)]
    return shown, len(shown) + sum(1 for _ in of)


def _told(letter: Letter) -> dict[str, Any]:
    event = letter.event
    return {
        "number": letter.number,
        "stood": letter.stood,
        "kind": codec.kind_of(event) if event else "",
        "bytes": len(letter.stored.value),
        "reason": letter.told("reason"),
    }
