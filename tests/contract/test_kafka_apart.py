"""Long stretches of a topic come from a process of their own, and nobody can tell but by the time."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from bohdi_common.log import kafka_apart, kafka_reader
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogUnavailable, Record
from tests.conftest import make_topics

COUNT = 6_000  # some batches


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The reading processes. Every stretch is long."""
    monkeypatch.setattr(kafka_reader, "APART_FROM", 1)
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(kafka_apart.subprocess, "Popen", Noted)
    return processes


@pytest.fixture
async def reader(kafka: KafkaSettings, fresh_prefix: str) -> Iterator[KafkaReader]:
    make_topics(kafka, [fresh_prefix + "facts"])
    writer = KafkaWriter(kafka, partition=0)
    records = [Record("facts", f"k{n % 7}", f"e{n}", b"v%d" % n, (("kind", str(n % 3)),)) for n in range(COUNT)]
    await writer.append(records, fresh_prefix)
    await writer.close()
    reader = KafkaReader(kafka, prefix=fresh_prefix)
    yield reader
    reader.close_reading()


async def test_it_gives_what_the_reader_itself_gives(
    reader: KafkaReader, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = list(reader.read("facts", 3, COUNT - 2))
    assert len(started) == 1 and started[0].returncode is not None
    monkeypatch.setattr(kafka_reader, "APART_FROM", COUNT + 1)
    assert apart == list(reader.read("facts", 3, COUNT - 2))
    assert [stored.offset for stored in apart] == list(range(3, COUNT - 2))


async def test_the_process_ends_with_an_iterator_that_is_left_early(
    reader: KafkaReader, started: list[subprocess.Popen[bytes]]
) -> None:
    records = reader.read("facts")
    assert next(records).offset == 0
    records.close()  # type: ignore[attr-defined]
    assert started[0].returncode is not None


async def test_a_process_that_was_killed_is_an_error_of_the_log(
    reader: KafkaReader, started: list[subprocess.Popen[bytes]]
) -> None:
    records = reader.read("facts")
    next(records)
    started[0].kill()
    with pytest.raises(LogUnavailable, match="try again"):
        list(records)
