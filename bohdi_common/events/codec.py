"""Events to bytes and back, to log records, and the ids of results."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from bohdi_common.core.ids import derived_id
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import TOPIC_OF_KIND, Topic

SCHEMA_VERSION = 1


class Undecodable(ValueError):
    """The bytes are no event."""


class NewerSchema(Exception):
    """An event of a schema that this program does not know: update it before it reads on."""


def decode(value: bytes) -> Event:
    """The event in `value`. Raises Undecodable or NewerSchema."""
    try:
        event = Event.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a bohdi.v1.Event: {error}") from None
    if not event.event_id:  # asked first: stray bytes may well decode, to a schema of any number
        raise Undecodable("an event without an id or without a known body")
    if event.schema_version > SCHEMA_VERSION:
        raise NewerSchema(
            f"event {event.event_id} has schema version {event.schema_version}, this program reads up to "
            f"{SCHEMA_VERSION}: use a newer Bohdi"
        )
    if event.WhichOneof("body") is None:
        raise Undecodable("an event without an id or without a known body")
    return event


def encode(event: Event) -> bytes:
    return event.SerializeToString(deterministic=True)


def kind_of(event: Event) -> str:
    """The kind of an event's body, by its name in the proto."""
    kind = event.WhichOneof("body")
    assert kind is not None, "decode() lets no event without a body through"
    return kind


def topic_of(event: Event) -> Topic:
    """The one topic in which events of this kind stand."""
    return TOPIC_OF_KIND[kind_of(event)]


def key_of(event: Event) -> str:
    """The record's key: the run for what must stay in one order, the request for what may be spread."""
    topic = topic_of(event)
    return event.run_id if topic.key == "run id" else getattr(event, kind_of(event)).request_hash


def result(request: Event, producer: str, time_us: int, kind: str, body: dict[str, Any]) -> Event:
    """The event `kind` with the fields `body` as the outcome of `request`. It names the request by its hash, and its id
    follows from that hash: an outcome worked out twice is one event."""
    request_hash = getattr(request, kind_of(request)).request_hash
    fields: dict[str, Any] = {kind: {"request_hash": request_hash, **body}}
    return Event(
        event_id=derived_id(request.run_id, kind, request_hash),
        run_id=request.run_id,
        cause_id=request.event_id,
        round=request.round,
        step=request.step,
        slot=request.slot,
        time_us=time_us,
        schema_version=SCHEMA_VERSION,
        producer=producer,
        **fields,
    )


def by_hand(run_id: str, event_id: str, time_us: int, kind: str, body: Any) -> Event:
    """The event `kind` as what a person asked for: of no place in the run, and with no cause in it."""
    return Event(
        event_id=event_id,
        run_id=run_id,
        time_us=time_us,
        schema_version=SCHEMA_VERSION,
        producer="cli",
        **{kind: body},
    )
