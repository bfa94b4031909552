"""Dead letters of a folder and of a cluster: found, shown, put back; and what has no place on the feedback log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bohdi.cli import Exit
from bohdi.dead_letters import KafkaDead, Letter, NotRequeued, letters
from bohdi.run_folder import RunFolder
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import ANSWERS, DEAD, FEEDBACK, HARVEST_REQUESTS, TOPICS
from bohdi_common.log import inbox
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import Record, Stored
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.runtime.kafka_manager import KafkaManagerHost
from bohdi_common.runtime.local_host import LocalHost
from bohdi_common.runtime.manager_host import ManagerHost
from bohdi_common.runtime.service_settings import ServiceSettings
from bohdi_common.runtime.shell import dead_record, record_of
from devbroker.broker import Broker
from tests.conftest import make_topics
from tests.forked import bohdi
from tests.integration.test_bad_input import complaint
from tests.kafka_runs.cluster import cluster
from tests.recorded_run import RecordedRun
from tests.unit.script import request

WAIT_S = 60


class Idle:
    """A manager that keeps what it is given and asks for nothing."""

    def __init__(self) -> None:
        self.state = RunState()
        self.folded: list[str] = []

    def fold(self, event: Event) -> None:
        self.folded.append(event.event_id)

    def start(self) -> list[Event]:
        return []

    def handle(self, event: Event) -> list[Event]:
        self.folded.append(event.event_id)
        return []

    def tick(self) -> list[Event]:
        return []


def good(name: str) -> Event:
    return codec.by_hand("run", name, 1, "run_paused", {"reason": "none"})


def newer() -> Event:
    event = good("newer")
    event.schema_version = codec.SCHEMA_VERSION + 1
    return event


def misplaced() -> Event:
    return request("harvest_requested", {"path": ["m", "s", "l"], "leader": "a"})


FEED = [
    Record(FEEDBACK.name, "run", "first", codec.encode(good("first"))),
    Record(FEEDBACK.name, "run", "junk", b"\xff\xff"),
    Record(FEEDBACK.name, "run", "elsewhere", codec.encode(misplaced())),
    Record(FEEDBACK.name, "run", "last", codec.encode(good("last"))),
]
UNFIT = {("1", b"\xff\xff"), ("2", codec.encode(misplaced()))}


async def until_dead(log: SqliteLog, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while log.end(DEAD.name) < count:
            await asyncio.sleep(0.02)


async def hosted(log: SqliteLog, manager: Idle, count: int, more: Sequence[Record] = ()) -> None:
    """Runs the bandit's host until there are `count` dead letters; `more` comes while it runs."""
    hosting = asyncio.create_task(ManagerHost(log, log.append, manager).run())
    await asyncio.sleep(0.1)
    await log.append(more)
    await until_dead(log, count)
    hosting.cancel()
    await asyncio.wait([hosting])


@pytest.mark.parametrize("live", [False, True])
async def test_what_has_no_place_on_the_feedback_log_is_dead_once_and_all_else_is_folded(
    tmp_path: Path, live: bool
) -> None:
    log = SqliteLog.open(tmp_path / "log.sqlite", create=True)
    await log.append([] if live else FEED)
    manager = Idle()
    await hosted(log, manager, 2, FEED if live else [])
    assert manager.folded == ["first", "request", "last"]
    dead = [Letter(stored) for stored in log.read(DEAD.name)]
    assert {(letter.told("offset"), letter.stored.value) for letter in dead} == UNFIT
    assert {letter.told("topic") for letter in dead} == {FEEDBACK.name}
    again = Idle()
    await hosted(log, again, 3, [Record(FEEDBACK.name, "run", "more", b"\xfe")])
    assert again.folded == manager.folded
    assert log.end(DEAD.name) == 3
    await log.close()


async def test_the_past_is_not_buried_again_where_the_log_knows_no_ids(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "log.sqlite", create=True)
    await log.append(FEED)
    asked: list[set[str]] = []
    appended: list[Record] = []

    async def append(records: Sequence[Record]) -> None:
        appended.extend(records)

    def already(ids: object) -> set[str]:
        asked.append(set(ids))  # type: ignore[call-overload]
        return {derived_id("dead", FEEDBACK.name, 0, 1)}

    hosting = asyncio.create_task(ManagerHost(log, append, Idle(), already_dead=already).run())
    async with asyncio.timeout(WAIT_S):
        while not appended:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    hosting.cancel()
    assert [len(ids) for ids in asked] == [2]
    assert [record.event_id for record in appended] == [derived_id("dead", FEEDBACK.name, 0, 2)]
    await log.close()


@pytest.mark.parametrize("live", [False, True])
async def test_an_event_of_a_newer_schema_stops_the_local_bandit_with_one_message(tmp_path: Path, live: bool) -> None:
    log = SqliteLog.open(tmp_path / "log.sqlite", create=True)
    record = record_of(newer())
    await log.append([] if live else [record])
    host = LocalHost(log, [], Idle(), tmp_path / "inbox")
    running = asyncio.create_task(host.run(asyncio.Event()))
    await asyncio.sleep(0.1)
    await log.append([record])
    with pytest.raises(codec.NewerSchema, match=r"event newer has schema version 2, .*: use a newer Bohdi"):
        await asyncio.wait_for(running, WAIT_S)
    await log.close()


def test_bytes_that_decode_to_any_schema_are_no_newer_event() -> None:
    with pytest.raises(codec.Undecodable):
        codec.decode(Event(schema_version=77).SerializeToString())


async def test_an_event_of_a_newer_schema_ends_the_bandit_on_kafka_and_nothing_else(
    own_broker: Broker, tmp_path: Path
) -> None:
    from bohdi.supervisor import ServiceMistaken, Supervisor

    async with cluster(own_broker, tmp_path, start=False) as there:
        writer = KafkaWriter(there.kafka)
        await writer.append([record_of(newer())])
        await writer.close()
        lines: list[str] = []
        bandit = Supervisor({**own_broker.environment, "BOHDI_STORE": str(tmp_path)}, lines.append, services=["bandit"])
        with pytest.raises(ServiceMistaken):
            await asyncio.wait_for(bandit.run(asyncio.Event()), WAIT_S)
    assert [line for line in lines if "newer Bohdi" in line] == [
        "bandit         | bohdi: event newer has schema version 2, this program reads up to 1: use a newer Bohdi"
    ]
    assert bandit.starts == {"bandit": 1}
    assert not any("Traceback" in line for line in lines)


async def test_health_says_why_the_bandit_on_kafka_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bohdi_common.runtime import kafka_manager
    from bohdi_common.runtime.health import Health

    monkeypatch.setattr(kafka_manager, "end_within", lambda seconds: None)
    log = SqliteLog.open(tmp_path / "log.sqlite", create=True)
    await log.append([record_of(newer())])
    settings = ServiceSettings.from_environment(capacity=1)
    process = KafkaManagerHost("bandit", KafkaSettings("localhost:1"), settings, Idle)
    process.health = Health("bandit", 1.0)
    with pytest.raises(ExceptionGroup):
        await process._hosted(ManagerHost(log, log.append, Idle()))
    assert "use a newer Bohdi" in process.health.not_ready()
    await log.close()


# ---- list, show, requeue -----------------------------------------------------------------------------------------


def at(topic: str, offset: int, value: bytes, name: str = "original") -> Stored:
    return Stored(topic, offset, "key", name, value)


def dead_records() -> list[Record]:
    """Letters of: an event that its handler failed, junk on its topic, junk on feedback, and what is no letter."""
    return [
        dead_record(at(HARVEST_REQUESTS.name, 4, codec.encode(misplaced()), "request"), "KeyError: 'x'"),
        dead_record(at(ANSWERS.name, 5, bytes(range(40))), "not a bohdi.v1.Event"),
        dead_record(at(FEEDBACK.name, 6, b"\xff"), "the bytes are no event"),
        Record(DEAD.name, "", "stray", b"hello"),
        Record(DEAD.name, "", "nowhere", b"", (("topic", "elsewhere"), ("partition", "0"), ("offset", "1"))),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder in which somebody is needed."""
    path = tmp_path / "run"
    path.mkdir()
    recorded = RecordedRun()
    recorded.run()

    async def fill() -> None:
        log = SqliteLog.open(path / "log.sqlite", create=True)
        await log.append([record_of(event) for event in recorded.feedback[:5]])
        await log.append(dead_records())
        await log.close()

    asyncio.run(fill())
    return RunFolder(path)


def test_a_folders_letters_are_listed_with_place_reason_and_what_they_hold(folder: RunFolder) -> None:
    lines = bohdi("dead", "list", folder.path).stdout.splitlines()
    size = len(codec.encode(misplaced()))
    assert lines[0] == f"0  bohdi.harvest.requests/0/4  {size} bytes  harvest_requested of run  KeyError: 'x'"
    assert lines[1] == "1  bohdi.answers/0/5  40 bytes  no event  not a bohdi.v1.Event"
    assert lines[3].startswith("3  (written by another program)  5 bytes  no event")
    facts = json.loads(bohdi("dead", "list", folder.path, "--json").stdout.splitlines()[0])
    assert (facts["kind"], facts["run"], facts["offset"]) == ("harvest_requested", "run", "4")


def test_a_letter_is_shown_as_its_event_or_as_the_head_of_its_bytes(folder: RunFolder) -> None:
    shown = bohdi("dead", "show", folder.path, "0").stdout
    assert "original-event-id: request" in shown
    assert '"leader": "a"' in shown
    assert "00000020  20 21 22 23 24 25 26 27" in bohdi("dead", "show", folder.path, "1").stdout
    line = complaint(bohdi("dead", "show", folder.path, "9"), Exit.MISTAKE)
    assert "has no letter 9" in line


def test_a_requeue_goes_through_the_inbox_once_and_what_must_stay_is_refused(folder: RunFolder) -> None:
    ended = bohdi("dead", "requeue", folder.path, "0", "2", "3", "4")
    assert ended.returncode == Exit.PROBLEMS
    assert ended.stdout.strip() == (
        f"0: bohdi.harvest.requests, as request@dead-0: waits for `bohdi resume {folder.path}`"
    )
    refusals = ended.stderr.splitlines()
    assert "2: nothing is ever requeued onto bohdi.feedback" in refusals[0]
    assert ("3: 'no topic'" in refusals[1], "4: 'elsewhere' is no topic" in refusals[2]) == (True, True)
    assert bohdi("dead", "requeue", folder.path, "0").returncode == Exit.DONE
    assert [record.event_id for _, record in inbox.take(folder.inbox)] == ["request@dead-0"] * 2

    async def drained() -> list[bytes]:
        log = SqliteLog.open(folder.log, create=False)
        await inbox.drain(folder.inbox, log)
        values = [stored.value for stored in log.read(HARVEST_REQUESTS.name) if "@" in stored.event_id]
        await log.close()
        return values

    assert asyncio.run(drained()) == [codec.encode(misplaced())]
    assert "stands there already" in bohdi("dead", "requeue", folder.path, "0").stdout


def test_a_letter_that_was_cut_stays_where_it_is() -> None:
    whole = at(HARVEST_REQUESTS.name, 1, bytes(DEAD.max_record_bytes + 1))
    written = dead_record(whole, "long")
    letter = Letter(Stored(DEAD.name, 0, written.key, written.event_id, written.value, written.headers))
    with pytest.raises(NotRequeued, match="is not whole here"):
        letter.requeued()


def test_on_kafka_a_letter_is_found_once_and_requeued_once(own_broker: Broker) -> None:
    kafka = KafkaSettings.from_environment(own_broker.bootstrap)
    for topic in TOPICS:
        make_topics(kafka, [topic.name], topic.partitions)

    async def fill() -> None:
        writer = KafkaWriter(kafka)
        await writer.append(dead_records())
        await writer.append(dead_records()[:1])  # written again by a service that was killed
        await writer.close()

    asyncio.run(fill())
    place = KafkaDead(kafka)
    assert [letter.number for letter in letters(place.records())] == ["0", "1", "2", "3", "4"]
    assert [letter.number for letter in letters(place.records(), "run")] == ["0"]
    told = ("--kafka", own_broker.bootstrap)
    first, second = (bohdi("dead", "requeue", "0", *told).stdout.strip() for _ in range(2))
    assert first == "0: bohdi.harvest.requests, as request@dead-0: appended"
    assert second.endswith("stands there already")
    there = place._all(HARVEST_REQUESTS.name)
    assert [(s.event_id, s.value) for s in there] == [("request@dead-0", codec.encode(misplaced()))]
    assert "KeyError" in bohdi("dead", "list", *told, "--run", "run").stdout
