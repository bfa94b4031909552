"""verify on a run's folder: what is in the log, in the versions and beside them is looked at, each thing apart."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from bohdi.run_folder import RunFolder, digest_of
from bohdi.verify_run import verify_folder
from bohdi_common.log.port import Record
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime.shell import record_of
from tests.recorded_run import RecordedRun, settings


def append(folder: Path, records: Iterable[Record]) -> None:
    async def write() -> None:
        log = SqliteLog.open(RunFolder(folder).log, create=not RunFolder(folder).log.exists())
        await log.append(list(records))
        await log.close()

    asyncio.run(write())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run on file, with a benchmark beside it."""
    folder = tmp_path / "run"
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text(json.dumps({"question": "never asked"}))
    run = RecordedRun(seed=3, settings=settings(3), versions=VersionStore(RunFolder(folder).versions))
    assert run.settings is not None
    run.settings.harvest.benchmarks.append(str(benchmark))
    run.settings.harvest.benchmark_digests.append(digest_of(benchmark))
    run.run()
    append(folder, map(record_of, [*run.feedback, *run.requests]))
    return folder


def test_a_sound_run_is_clean_and_all_of_it_was_looked_at(folder: Path) -> None:
    report = verify_folder(RunFolder(folder))
    assert (report["problems"], report["absent"]) == ([], [])
    looked_at = report["checked"]
    assert min(looked_at[what] for what in ("events", "decisions", "harvests", "requests", "versions")) > 0
    assert looked_at["questions gated"] >= looked_at["harvests"]


def test_of_a_log_copied_alone_what_is_absent_is_said_apart(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    shutil.copy(RunFolder(folder).log, tmp_path / "copy")
    (tmp_path / "benchmark.jsonl").unlink()
    report = verify_folder(RunFolder(tmp_path / "copy"))
    assert report["problems"] == []
    assert [line.rpartition(": ")[2] for line in report["absent"]] == [
        "the benchmark's questions",
        "the folders of 2 promoted versions",
    ]
    assert not (tmp_path / "copy" / "versions").exists()


def test_a_benchmark_that_changed_since_is_not_held_against_the_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "benchmark.jsonl").write_text(json.dumps({"question": "another"}))
    report = verify_folder(RunFolder(folder))
    assert report["problems"] == []
    assert "has changed since" in report["absent"][0]


def test_a_weight_that_changed_is_found(folder: Path) -> None:
    (RunFolder(folder).versions / "r1" / "weights").write_text("others")
    (problem,) = verify_folder(RunFolder(folder))["problems"]
    assert problem["what"] == "r1/weights: differs from what was written"


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (Record("bohdi.feedback", "run", "x", b"\xff"), "not a bohdi.v1.Event"),
        (Record("bohdi.answers", "run", "x", b""), "without an id"),
    ],
)
def test_a_record_that_is_no_event_is_named_by_topic_and_offset(folder: Path, record: Record, what: str) -> None:
    end = RunFolder(folder).read().end(record.topic)
    append(folder, [record])
    (problem,) = verify_folder(RunFolder(folder))["problems"]
    assert problem["where"] == f"{record.topic} offset {end}"
    assert what in problem["what"]


def test_an_event_under_another_ones_record_id_is_found(folder: Path) -> None:
    stored = next(iter(RunFolder(folder).read().read("bohdi.feedback")))
    end = RunFolder(folder).read().end("bohdi.feedback")
    append(folder, [Record(stored.topic, stored.key, "another", stored.value)])
    found = verify_folder(RunFolder(folder))["problems"]
    assert [(p["where"], p["what"]) for p in found] == [
        (f"bohdi.feedback offset {end}", "the record's id or key is not that of its event")
    ]


def test_behind_a_damaged_record_nothing_is_held_against_the_run(folder: Path) -> None:
    victim = list(RunFolder(folder).read().read("bohdi.feedback"))[40]
    log = RunFolder(folder).log
    content = bytearray(log.read_bytes())
    content[content.index(victim.value) + len(victim.value) // 2] ^= 0x01
    log.write_bytes(content)
    report = verify_folder(RunFolder(folder))
    assert [problem["where"] for problem in report["problems"]] == ["log file"]
    assert "offset 40: the record is not what was written" in report["problems"][0]["what"]
    assert report["absent"][0] == "what stands behind the damaged record of bohdi.feedback, and what follows from it"
