"""Runs on a Kafka cluster as a person meets them: submitted, watched, evaluated, and copied to a folder and back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from bohdi.embedded import evaluation_of, run_started
from bohdi.kafka_places import KafkaPlace, kafka_place
from bohdi.live import LiveView
from bohdi.run_folder import RunFolder
from bohdi.run_places import FolderPlace, RunPlace, events
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka import KafkaLog
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.port import EventLog, Record
from bohdi_common.log.sqlite import SqliteLog, has_host
from bohdi_common.runtime.config import BadConfig, Config
from bohdi_common.runtime.feedback import follow_feedback
from bohdi_common.runtime.kafka_process import described
from bohdi_common.runtime.shell import record_of, wall_clock_us
from services.bandit.handler import Bandit

__all__ = ["by_hand", "copy_to_folder", "copy_to_kafka", "kafka_place", "submit", "watched"]

_COPIED_AT_ONCE = 500


def submit(place: KafkaPlace, config: Config, seed: int) -> None:
    """Starts a run: the bandit takes it up when it reads the event. Raises BadConfig for a name that is taken."""
    if place.exists():
        raise BadConfig(f"{place.how_to}: exists already: watch it with `bohdi watch`, or give another --run")
    place.append([record_of(run_started(config, place.run_id, seed))])


def by_hand(place: RunPlace, kind: str, body: dict[str, Any]) -> None:
    """Appends what a person asks of a run: it takes effect when the bandit reads it."""
    now_us = wall_clock_us()
    event = codec.by_hand(place.run_id, derived_id(place.run_id, "by hand", kind, now_us), now_us, kind, body)
    assert isinstance(place, KafkaPlace)
    place.append([record_of(event)])


async def watched(place: KafkaPlace, view: LiveView, config: Config | None = None) -> RunState:
    """Shows a run until it is finished or paused; evaluates its models beside, as `config` asks."""
    reader = KafkaReader(place.kafka, place.partition)
    log = KafkaLog(place.kafka, place.partition, describe=described)
    evaluation = evaluation_of(place.run_id, config, log, place.stores.folder_of) if config else None
    evaluating = asyncio.create_task(evaluation.follow()) if evaluation else None
    try:
        state = await _followed(place, reader, view)
        if state.finished and evaluating is not None:
            await evaluating
        return state
    finally:
        if evaluating is not None:
            evaluating.cancel()
            with suppress(asyncio.CancelledError):
                await evaluating
        await log.close()
        reader.close_reading()


async def _followed(place: KafkaPlace, reader: KafkaReader, view: LiveView) -> RunState:
    bandit = Bandit(place.run_id)
    past = await asyncio.to_thread(reader.end, FEEDBACK.name)
    async for offset, event in follow_feedback(reader, 0):
        if event.run_id == place.run_id:
            bandit.fold(event)
            if offset < past:
                view.begin(lambda: bandit.state, past=bandit.state.sequence)
            view.on_event(event)
        state = bandit.state
        if offset + 1 >= past and (state.finished or state.paused):
            return state
    return bandit.state


# ---- copies ----------------------------------------------------------------------------------------------------


def copy_to_folder(place: KafkaPlace, folder: RunFolder) -> int:
    """The run's log, and its versions where they are here, in a new folder; returns the number of events.

    Raises BadConfig when something stands there."""
    if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise BadConfig(f"{folder.path}: exists already: name a new folder")
    folder.path.mkdir(parents=True, exist_ok=True)
    copied = asyncio.run(_copied(place, lambda: SqliteLog.open(folder.log, create=True)))
    if place.versions.is_dir():
        shutil.copytree(place.versions, folder.versions)
    return copied


def copy_to_kafka(folder: RunFolder, place_of: Callable[[str], KafkaPlace]) -> tuple[KafkaPlace, int]:
    """The log of the run in `folder` onto the cluster, its versions into the store; returns its place there and the
    number of events. Done again after a failure it goes on where it ended. A run that is not over goes on there, and
    must not in the folder. Raises BadConfig while a host is at work on it."""
    if has_host(folder.log):
        raise BadConfig(f"{folder.path}: a host is at work on it: stop it first")
    source = FolderPlace(folder)
    place = place_of(source.run_id)
    if folder.versions.is_dir() and not place.versions.exists():
        shutil.copytree(folder.versions, place.versions)
    log = KafkaLog(place.kafka, place.partition, describe=described)
    return place, asyncio.run(_copied(source, lambda: log))


async def _copied(source: RunPlace, open_log: Callable[[], EventLog]) -> int:
    """Appends the run's events in their order. One that stands in the log twice (a broker delivered it again) is kept
    twice, under an id of its own: it has a place in the run's order."""
    log = open_log()
    copied = 0
    try:
        records = _each_once(events(source))
        while some := list(islice(records, _COPIED_AT_ONCE)):
            await log.append(some)
            copied += len(some)
        return copied
    finally:
        await log.close()


def _each_once(run: Iterator[Event]) -> Iterator[Record]:
    seen: set[str] = set()
    for number, event in enumerate(run):
        record = record_of(event)
        yield replace(record, event_id=f"{record.event_id}@{number}") if record.event_id in seen else record
        seen.add(record.event_id)
