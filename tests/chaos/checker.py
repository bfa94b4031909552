"""Accounts for every record of a cluster, from the raw topics and the proto alone: no code of the fold, the decisions
or the verification is used, so that what they get wrong is seen here.

`lost`: what was asked and never settled, and inputs of which nothing came. `double_counted`: rewards that a run's tree
holds beyond those of the first settlements (or lacks).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, TopicPartition

from bohdi_common.events.events_pb2 import Event

FEEDBACK, DEAD = "bohdi.feedback", "bohdi.dead"
INPUTS = {
    "bohdi.sprout.requests": "sprout_requested",
    "bohdi.harvest.requests": "harvest_requested",
    "bohdi.answers": "answers_written",
    "bohdi.training.requests": "training_requested",
}
SETTLES = ("harvest_judged", "harvest_failed", "rehearsal_answered", "slot_expired")
ENDS_TRAINING = ("target_promoted", "training_failed")

Topics = Mapping[str, Sequence[Any]]
Rows = Iterable[tuple[tuple[str, ...], int, int]]


@dataclass
class Account:
    """A line for each thing that is wrong, and the counts."""

    lost: list[str] = field(default_factory=list)
    double_counted: list[str] = field(default_factory=list)
    duplicates: int = 0
    dead_letters: int = 0
    records: int = 0
    settled: int = 0


def raw_topics(bootstrap: str) -> dict[str, list[Any]]:
    """Every record of every topic, in offset order of each partition, by a plain consumer."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    topics: dict[str, list[Any]] = {}
    for topic in (FEEDBACK, DEAD, *INPUTS):
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        ends = consumer.end_offsets(places)
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: list[Any] = []
        while any(consumer.position(place) < ends[place] for place in places):
            for some in consumer.poll(timeout_ms=1000).values():
                found += some
        topics[topic] = found
    consumer.close()
    return topics


def account(topics: Topics, trees: Mapping[str, Rows]) -> Account:
    """`trees`: for each run its nodes as (path of names, alpha, beta), as the system itself shows them."""
    kept = Account(records=sum(map(len, topics.values())), dead_letters=len(topics[DEAD]))
    for records in topics.values():
        ids = Counter(_header(record) for record in records)
        kept.duplicates += sum(count - 1 for count in ids.values())
    runs: defaultdict[str, list[Event]] = defaultdict(list)
    for event in _events(topics[FEEDBACK]):
        runs[event.run_id].append(event)
    for run_id, events in runs.items():
        _run(kept, run_id, _firsts(events), trees.get(run_id, ()))
    _inputs(kept, topics)
    return kept


def _run(kept: Account, run_id: str, events: Sequence[Event], tree: Rows) -> None:
    """Everything asked is settled, and each first settlement stands once in the tree."""
    asked: dict[str, str] = {}
    settled: dict[str, Event] = {}
    for event in events:
        kind = event.WhichOneof("body")
        body = getattr(event, kind)
        if kind == "paths_drawn":
            asked |= {slot.request_hash: "slot" for slot in body.slots if slot.request_hash}
        elif kind == "slot_continued" and body.drawn.request_hash:
            asked[body.drawn.request_hash] = "slot"
        elif kind == "training_drawn" and body.samples:
            asked[body.request_hash] = "training"
        elif kind in SETTLES or kind in ENDS_TRAINING:
            settled.setdefault(body.request_hash, event)
    kept.settled += sum(request in settled for request in asked)
    kept.lost += [
        f"{run_id}: {what} {request} was never settled" for request, what in asked.items() if request not in settled
    ]
    _rewards(kept, run_id, [settled[request] for request in asked if request in settled], tree)


def _rewards(kept: Account, run_id: str, settlements: Sequence[Event], tree: Rows) -> None:
    wins: Counter[tuple[str, ...]] = Counter()
    pulls: Counter[tuple[str, ...]] = Counter()
    for event in settlements:
        judged = event.harvest_judged
        if event.WhichOneof("body") == "harvest_judged" and judged.counted:
            for depth in range(1, len(judged.path) + 1):
                pulls[tuple(judged.path[:depth])] += 1
                wins[tuple(judged.path[:depth])] += judged.reward
    for path, alpha, beta in tree:
        expected = (1 + wins[path], 1 + pulls[path] - wins[path])
        if (alpha, beta) != expected:
            kept.double_counted.append(f"{run_id}: {path}: Beta({alpha}, {beta}), the settlements give Beta{expected}")


def _inputs(kept: Account, topics: Topics) -> None:
    """Of every input something came: an event that it caused, or a dead letter that names where it stood."""
    causes = {event.cause_id for topic in (FEEDBACK, "bohdi.answers") for event in _events(topics[topic])}
    buried = {(_header(r, "topic"), _header(r, "partition"), _header(r, "offset")) for r in topics[DEAD]}
    for topic in INPUTS:
        for record in topics[topic]:
            place = (topic, str(record.partition), str(record.offset))
            event = _event(record)
            if place not in buried and (event is None or event.event_id not in causes):
                kept.lost.append(f"{'/'.join(place)}: nothing came of it")


def _firsts(events: Iterable[Event]) -> list[Event]:
    """The first event of each id: what was written twice happened once."""
    firsts: dict[str, Event] = {}
    for event in events:
        firsts.setdefault(event.event_id, event)
    return list(firsts.values())


def _events(records: Iterable[Any]) -> Iterable[Event]:
    return (event for event in map(_event, records) if event is not None)


def _event(record: Any) -> Event | None:
    try:
        event = Event.FromString(record.value or b"")
    except DecodeError:
        return None
    return event if event.event_id and event.WhichOneof("body") else None


def _header(record: Any, name: str = "event-id") -> str:
    found = next((value for key, value in record.headers if key == name), None)
    return f"{record.topic}/{record.partition}/{record.offset}" if found is None else found.decode(errors="replace")
