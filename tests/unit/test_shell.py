"""The shell: whatever comes in, records come out; nothing is raised but what must stop the process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK, HARVEST_REQUESTS, TOPIC_OF_KIND, TRAINING_REQUESTS, Topic
from bohdi_common.log.port import LogFull, Record, Stored
from bohdi_common.models.port import ModelBlocked, ModelRefused, ModelUnavailable
from bohdi_common.runtime.shell import Retries, Shell, failure_of
from tests.unit.script import request


@dataclass
class Does:
    """A service that goes through a list of what it does at each call: an error is raised, events are returned."""

    turns: list[Exception | list[Event]]
    topic: Topic = HARVEST_REQUESTS
    name: str = "generation"
    calls: int = 0

    async def handle(self, event: Event) -> Sequence[Event]:
        turn = self.turns[min(self.calls, len(self.turns) - 1)]
        self.calls += 1
        if isinstance(turn, Exception):
            raise turn
        return turn


@dataclass
class Processed:
    records: list[Record]
    calls: int
    events: list[Event] = field(init=False)

    def __post_init__(self) -> None:
        self.events = [codec.decode(record.value) for record in self.records if record.topic != DEAD.name]


async def processed(value: bytes | Event, *turns: Exception | list[Event], **service: Any) -> Processed:
    does = Does(list(turns) or [[]], **service)
    raw = codec.encode(value) if isinstance(value, Event) else value
    shell = Shell(does, clock=lambda: 7, retries=Retries(times=3, first_s=0.0))
    return Processed(await shell.process(Stored(does.topic.name, 12, "key", "id", raw)), does.calls)


HARVEST = {"path": ["m", "s", "l"], "leader": "a"}


async def test_what_the_handler_gives_becomes_records_of_its_topics() -> None:
    event = request("harvest_requested", HARVEST)
    answered = codec.result(event, "generation", 7, "answers_written", {"question": "?"})
    out = await processed(event, [answered])
    assert [(record.topic, record.key, record.event_id) for record in out.records] == [
        ("bohdi.answers", "hash", answered.event_id)
    ]
    assert out.events == [answered]


@pytest.mark.parametrize("value", [b"\xff\xff", b"not protobuf", b"", Event(event_id="x").SerializeToString()])
async def test_what_does_not_decode_is_dead(value: bytes) -> None:
    out = await processed(value)
    assert [(record.topic, record.value) for record in out.records] == [(DEAD.name, value)]
    assert out.calls == 0


async def test_a_dead_record_says_where_it_stood_and_why() -> None:
    out = await processed(b"\xff\xff")
    (dead,) = out.records
    told = dict(dead.headers)
    assert (dead.key, told["topic"], told["partition"], told["offset"]) == ("key", "bohdi.harvest.requests", "0", "12")
    assert told["reason"].startswith("not a bohdi.v1.Event")


async def test_an_event_of_a_newer_schema_is_dead() -> None:
    newer = request("harvest_requested", HARVEST)
    newer.schema_version = codec.SCHEMA_VERSION + 1
    (dead,) = (await processed(newer)).records
    assert (dead.topic, dead.value) == (DEAD.name, codec.encode(newer))
    assert "use a newer Bohdi" in dict(dead.headers)["reason"]


async def test_an_output_that_its_topic_does_not_take_costs_the_slot() -> None:
    event = request("harvest_requested", HARVEST)
    huge = codec.result(event, "generation", 7, "answers_written", {"question": "?" * DEAD.max_record_bytes})
    out = await processed(event, [huge])
    assert [record.topic for record in out.records] == [DEAD.name, FEEDBACK.name]
    assert "over the limit of 4194304" in dict(out.records[0].headers)["reason"]


async def test_the_same_bytes_at_the_same_place_are_dead_once() -> None:
    one, other = await processed(b"\xff\xff"), await processed(b"\xff\xff")
    assert one.records[0].event_id == other.records[0].event_id


async def test_an_event_of_another_topic_is_dead() -> None:
    out = await processed(request("sprout_requested", {"parent": 3}))
    assert [record.topic for record in out.records] == [DEAD.name]
    assert "sprout_requested does not belong" in dict(out.records[0].headers)["reason"]


async def test_a_handlers_mistake_costs_the_slot_and_leaves_the_input_among_the_dead() -> None:
    out = await processed(request("harvest_requested", HARVEST), KeyError("oops"))
    assert [record.topic for record in out.records] == [DEAD.name, FEEDBACK.name]
    (failed,) = out.events
    assert (failed.slot, failed.harvest_failed.request_hash) == (3, "hash")
    assert (failed.harvest_failed.failure, failed.harvest_failed.reason) == (Failure.REJECTED, "KeyError: 'oops'")
    assert out.calls == 1


async def test_a_model_that_is_away_for_a_while_is_asked_again() -> None:
    event = request("harvest_requested", HARVEST)
    answered = codec.result(event, "generation", 7, "answers_written", {"question": "?"})
    out = await processed(event, ModelUnavailable("1"), ModelUnavailable("2"), [answered])
    assert (out.calls, out.events) == (3, [answered])


async def test_a_model_that_stays_away_makes_the_slot_unavailable() -> None:
    out = await processed(request("harvest_requested", HARVEST), ModelUnavailable("gone"))
    assert out.calls == 1 + 3
    (failed,) = out.events
    assert (failed.harvest_failed.failure, failed.harvest_failed.reason) == (Failure.UNAVAILABLE, "gone")
    assert [record.topic for record in out.records] == [FEEDBACK.name]


async def test_of_many_inputs_that_wait_for_one_model_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    turns = [*[ModelUnavailable("qwen is away")] * 6, ModelUnavailable("phi is away"), []]
    shell = Shell(Does(turns), retries=Retries(times=7, first_s=0.0))
    raw = codec.encode(request("harvest_requested", HARVEST))
    inputs = [Stored(HARVEST_REQUESTS.name, offset, "key", "id", raw) for offset in range(2)]
    await asyncio.gather(*(shell.process(stored) for stored in inputs))
    said = [record.getMessage() for record in caplog.records if record.name == "bohdi"]
    assert said == [f"generation: {model} is away; asking again" for model in ("qwen", "phi")]


async def test_what_a_person_must_mend_is_not_asked_again() -> None:
    out = await processed(request("harvest_requested", HARVEST), ModelBlocked("the key is wrong"))
    (failed,) = out.events
    assert out.calls == 1
    assert (failed.harvest_failed.failure, failed.harvest_failed.reason) == (Failure.BLOCKED, "the key is wrong")


async def test_a_training_that_no_server_takes_is_for_a_person_to_mend() -> None:
    asked = request("training_requested", {"version": "r1"})
    out = await processed(asked, ModelUnavailable("gone"), topic=TRAINING_REQUESTS, name="training")
    assert out.calls == 1 + 3
    assert out.events[0].training_failed.failure == Failure.BLOCKED


async def test_a_model_that_refuses_makes_the_slot_rejected_without_another_try() -> None:
    out = await processed(request("harvest_requested", HARVEST), ModelRefused("too long"))
    assert (out.calls, out.events[0].harvest_failed.failure) == (1, Failure.REJECTED)


def test_the_pauses_between_tries_grow_and_are_bounded() -> None:
    assert Retries(times=6, first_s=1.0, longest_s=10.0).pauses_s() == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(
    ("kind", "failed", "about"),
    [
        ("sprout_requested", "sprout_failed", {"parent": 3}),
        ("harvest_requested", "harvest_failed", {"stage": "generation"}),
        ("answers_written", "harvest_failed", {"stage": "verdict"}),
        ("training_requested", "training_failed", {"version": "r4"}),
    ],
)
def test_every_request_has_a_failure_that_settles_it(kind: str, failed: str, about: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"parent": 3} if kind == "sprout_requested" else {}
    asked |= {"version": "r4"} if kind == "training_requested" else {}
    event = failure_of(request(kind, asked), "shell", 7, Failure.REJECTED, "why")
    assert event is not None
    assert codec.kind_of(event) == failed
    assert (event.run_id, event.round, event.step, event.slot) == ("run", 1, 2, 3)
    body = getattr(event, failed)
    assert {name: getattr(body, name) for name in about} == about
    assert (body.request_hash, body.failure, body.reason) == ("hash", Failure.REJECTED, "why")


def test_a_fact_asks_for_nothing_that_could_fail() -> None:
    event = Event(event_id="x", run_paused={"reason": "y"})
    assert failure_of(event, "shell", 7, Failure.REJECTED, "why") is None


async def test_only_a_log_that_takes_no_more_goes_through() -> None:
    with pytest.raises(LogFull):
        await processed(request("harvest_requested", HARVEST), LogFull("full"))


@given(st.binary(max_size=200))
async def test_no_bytes_raise(value: bytes) -> None:
    assert len((await processed(value)).records) <= 1


@pytest.mark.parametrize(
    "error", [ValueError("x" * 10_000), AssertionError(), RecursionError(), TimeoutError(), OSError()]
)
async def test_no_error_of_a_handler_goes_through(error: Exception) -> None:
    out = await processed(request("harvest_requested", HARVEST), error)
    assert [record.topic for record in out.records] == [DEAD.name, FEEDBACK.name]
    assert max(len(record.key) for record in out.records) <= 500


def test_every_kind_of_event_has_one_topic() -> None:
    kinds = {f.name for f in Event.DESCRIPTOR.oneofs_by_name["body"].fields}
    assert set(TOPIC_OF_KIND) == kinds
