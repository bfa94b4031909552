"""A run's tables as files: parquet, one database, a card for each version, and what there is to know of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from bohdi import run_places
from bohdi.exports import cards, columns, database, folders, reference
from bohdi.exports.history import History, effective, node_rows
from bohdi.exports.parquet import ParquetFiles
from bohdi.exports.rows import Row, rows_of
from bohdi.run_folder import NoRun
from bohdi.run_places import RunPlace
from bohdi_common.core.state import RunState, state_sha256

CONTENTS = "contents.json"
_FILES = [(table, database.file_of(table.name)) for table in columns.TABLES]


def export(place: RunPlace, to: Path) -> dict[str, Any]:
    """Writes the run as it is now into a new folder; gives what stands in its contents.json. Raises BadConfig, NoRun
    and LogError. The log is read twice, for only its end says which results took effect; memory holds the state, a byte
    an event and the row groups at hand."""
    database.duckdb()  # before minutes are spent
    with folders.fresh(to) as aside:
        history, told = History(), cards.Told()
        with ParquetFiles(aside, _FILES) as files:
            for event in run_places.events(place):
                told.take(event)
                for row in history.take(event):
                    files.add(columns.POSTERIORS, row)
            files.add(columns.RUN, _run(place, told, state := history.state))
            for row in node_rows(state):
                files.add(columns.NODES, row)
            for table, row in _facts(place, state):
                files.add(table, row)
        _cards(aside, told, state)
        contents = {
            "run_id": state.run_id,
            "events": state.sequence,
            "state_sha256": state_sha256(state),
            "rows": files.rows,
            "sha256": {file: folders.sha256_of(aside / file) for _, file in _FILES},
        }
        (aside / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        (aside / "README.md").write_text(reference.of_export(contents), encoding="utf-8")
        database.make(aside)
    return contents


def _facts(place: RunPlace, state: RunState) -> Iterator[tuple[columns.Table, Row]]:
    """Of the events up to the state: a run that goes on has more by now."""
    took_effect = effective(state)
    for sequence, event in enumerate(islice(run_places.events(place), state.sequence)):
        yield from rows_of(sequence, event, bool(took_effect[sequence]))


def _run(place: RunPlace, told: cards.Told, state: RunState) -> Row:
    if told.started is None:
        raise NoRun(f"{place.how_to}: the log does not say with what the run was started")
    settings = told.started.settings
    plain = MessageToDict(settings, preserving_proto_field_name=True)
    return (
        state.run_id, told.started.bohdi_version, settings.preset, settings.prompts, settings.target.name,
        [source.name for source in settings.sources], settings.seed, json.dumps(plain, ensure_ascii=False),
        state.sequence, state.round, state.target_version, state.finished, state_sha256(state),
    )  # fmt: skip


def _cards(folder: Path, told: cards.Told, state: RunState) -> None:
    for version in state.versions[1:]:
        file = folder / "cards" / f"{version}.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(cards.model_card(version, told), encoding="utf-8")
