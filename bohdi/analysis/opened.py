"""A recorded run, open for questions in Python: `from bohdi import open_run`.

    run = open_run("runs/demo")
    run.state("round:3").versions
    run.nodes().to_pandas()

Events are `bohdi.v1.Event`s, states those of the bandit; tables are pyarrow's (`pip install bohdi[analysis]`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bohdi import run_places
from bohdi.analysis import travel, what_if_view, why
from bohdi.analysis.diff import diff, views
from bohdi.analysis.points import END, Point, point
from bohdi.exports import columns, database, parquet, run_tables
from bohdi.exports.history import effective, node_rows
from bohdi.exports.rows import rows_of
from bohdi.run_places import RunPlace, run_place
from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event, Settings
from bohdi_common.runtime.config import BadConfig

if TYPE_CHECKING:
    import pyarrow as pa


def open_run(folder: str | Path | None = None, *, run: str | None = None, kafka: str | None = None) -> OpenedRun:
    """The run in a folder, or the one named `run` on Kafka (`kafka`: HOST:PORT, else BOHDI_KAFKA). Raises NoRun,
    LogError and BadConfig, each with one line that says what to do."""
    place = run_place(None if folder is None else Path(folder), kafka, run)
    return OpenedRun(place, place.run_id)


@dataclass(frozen=True)
class OpenedRun:
    """Reads the log anew with every question, so that a run that goes on may be asked too. `at` everywhere: a moment as
    `bohdi replay --at` has it, empty for the log's end as it is."""

    place: RunPlace
    run_id: str

    @property
    def settings(self) -> Settings:
        """What the run was started with."""
        return run_places.settings(self.place)

    def events(self, at: str = "") -> Iterator[Event]:
        """The run's events in their order: the one at place n has the run sequence n."""
        if not at:
            return run_places.events(self.place)
        until = self.state(at).sequence
        return (event for number, event in enumerate(run_places.events(self.place)) if number < until)

    def state(self, at: str = "") -> RunState:
        """What the run's events up to a moment add up to."""
        return self._moment(at).state

    def state_sha256(self, at: str = "") -> str:
        """The hash of that state."""
        return self._moment(at).state_sha256

    def diff(self, a: str, b: str = "") -> dict[str, Any]:
        """What lies between two moments, as `bohdi diff --json` has it."""
        before, after = views(self.events(), [_point(a), _point(b)])
        return diff(before, after)

    def what_if(self, sets: Sequence[str] = (), grids: Sequence[str] = (), at: str = "") -> dict[str, Any]:
        """The recorded outcomes under other settings, as `bohdi what-if --json` has it: `["bandit.window=10"]`."""
        return what_if_view.told(self.events(), sets, grids, _point(at))

    def why_sample(self, sample: int | str) -> dict[str, Any]:
        """Where a training sample came from, as `bohdi why sample --json` has it."""
        return why.sample(self.events, str(sample))

    def why_node(self, path: str) -> dict[str, Any]:
        """Where a domain came from, `Main > Secondary > Sub`, as `bohdi why node --json` has it."""
        return why.node(self.events, path)

    def why_version(self, version: str) -> dict[str, Any]:
        """What a version was made of, as `bohdi why version --json` has it."""
        return why.version(self.events, version)

    def nodes(self, at: str = "") -> pa.Table:
        """The domains, a row each: the table `nodes` of docs/exports.md."""
        return parquet.as_table(columns.NODES, node_rows(self.state(at)))

    def harvests(self, at: str = "") -> pa.Table:
        """The judged harvests, a row each, late ones too: the table `harvests` of docs/exports.md."""
        return self.table("harvests", at)

    def table(self, name: str, at: str = "") -> pa.Table:
        """A table of docs/exports.md whose rows are events', in memory: `answers`, `verdicts`, ... Raises BadConfig for
        another name. All tables of a long run are better had by `export`."""
        wanted = {table.name: table for table in columns.OF_EVENTS}
        if name not in wanted:
            raise BadConfig(f"table {name!r}: there are {', '.join(wanted)}; nodes() and export() have the others")
        state = self.state(at)
        took_effect = effective(state)
        rows = (
            row
            for sequence, event in zip(range(state.sequence), run_places.events(self.place), strict=False)
            for table, row in rows_of(sequence, event, bool(took_effect[sequence]))
            if table.name == name
        )
        return parquet.as_table(wanted[name], rows)

    def export(self, to: str | Path) -> dict[str, Any]:
        """All tables as files in a new folder, as `bohdi export` writes them; gives what its contents.json holds."""
        return run_tables.export(self.place, Path(to))

    def sql(self, query: str, timeout_s: float = 60.0) -> pa.Table:
        """One SELECT over all tables and views of docs/exports.md, which are made for it. Who asks often exports once,
        and opens the database in DuckDB. Raises BadConfig."""
        with tempfile.TemporaryDirectory(prefix="bohdi-sql-") as aside:
            self.export(Path(aside) / "tables")
            return database.arrow(Path(aside) / "tables" / database.DATABASE, query, timeout_s)

    def _moment(self, at: str) -> travel.Moment:
        return travel.moment(self.place, _point(at), travel.kept_states(self.place, bool(at)))


def _point(at: str) -> Point:
    return point(at) if at else END
