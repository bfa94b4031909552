"""verify, for a run's folder: the file's own integrity, then the invariants of the log and of the versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from bohdi.run_folder import RunFolder, digest_of
from bohdi.run_places import RunPlace, events
from bohdi.verify import Kind, Problem, Report, of_log_file, problems
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Settings
from bohdi_common.events.topics import DEAD, FEEDBACK, TOPICS
from bohdi_common.log.port import LogCorrupt, Stored
from bohdi_common.log.sqlite_file import integrity
from bohdi_common.models.places import place
from bohdi_common.runtime.feedback import feedback_events

_REQUESTS = tuple(topic.name for topic in TOPICS if topic not in (FEEDBACK, DEAD))


def verify_folder(folder: RunFolder) -> dict[str, Any]:
    """`problems`: what is wrong and where; `absent`: what is not here and so was not checked; `checked`: counts.
    Raises LogError when there is no log, and NewerSchema."""
    report = Report()
    found = list(of_log_file(integrity(folder.log)))
    try:
        reader = folder.read()
    except LogCorrupt:  # so damaged that it cannot be read at all: all there is to say has been said
        return _result(found, [], report, 0)
    records = _Records(reader)
    benchmarks, absent = _benchmarks(event for _, event in feedback_events(reader))
    found += problems(
        records.of(FEEDBACK.name),
        folder.versions,
        requests=records.requests(),
        benchmarks=benchmarks,
        report=report,
    )
    absent += records.unread
    if report.versions_absent:
        absent.append(f"{folder.versions}: the folders of {report.versions_absent} promoted versions")
    return _result([*found, *records.unfit], absent, report, reader.end(DEAD.name))


def verify_on_kafka(place: RunPlace) -> dict[str, Any]:
    """As `verify_folder`, of one run on a cluster. Bytes that are no event belong to no run and are passed over. Raises
    NoRun, LogError and NewerSchema."""
    report = Report()
    records = _Records(_OfRun(place), passes_over=True)
    benchmarks, absent = _benchmarks(events(place))
    dead = list(place.records(DEAD.name))
    found = list(
        problems(
            records.of(FEEDBACK.name),
            place.versions,
            requests=records.requests(),
            benchmarks=benchmarks,
            buried=_buried(dead, next(place.records(FEEDBACK.name)).partition),
            report=report,
        )
    )
    absent += records.unread
    if report.versions_absent:
        absent.append(f"{place.versions}: the folders of {report.versions_absent} promoted versions")
    return _result([*found, *records.unfit], absent, report, len(dead))


def _buried(dead: Iterable[Stored], partition: int) -> set[int]:
    """Offsets in a partition of the feedback log of the records that stand among the dead letters."""
    told = (dict(stored.headers) for stored in dead)
    here = (t["offset"] for t in told if (t.get("topic"), t.get("partition")) == (FEEDBACK.name, str(partition)))
    return {int(offset) for offset in here if offset.isdigit()}


class _Readable(Protocol):
    def read(self, topic: str) -> Iterator[Stored]: ...


@dataclass
class _OfRun:
    place: RunPlace

    def read(self, topic: str) -> Iterator[Stored]:
        return self.place.records(topic)


@dataclass
class _Records:
    """The events of a log. Reading ends at a record that is damaged, which the file's own check names."""

    reader: _Readable
    passes_over: bool = False  # what holds no event is no problem: others may write here
    unfit: list[Problem] = field(default_factory=list)  # records that hold no event, or another than they say
    unread: list[str] = field(default_factory=list)

    def requests(self) -> Iterator[tuple[int, Event]]:
        """What the request topics hold, to be read after the run's own log. Where that is damaged they give nothing:
        nobody can tell what a decision behind the damage asked for from what none did."""
        return chain.from_iterable(self.of(topic) for topic in _REQUESTS if not self.unread)

    def of(self, topic: str) -> Iterator[tuple[int, Event]]:
        try:
            for stored in self.reader.read(topic):
                try:
                    event = codec.decode(stored.value)
                except codec.Undecodable as error:
                    if not self.passes_over:
                        self._note(topic, stored.offset, str(error))
                    continue
                except codec.NewerSchema:
                    if self.passes_over and topic != FEEDBACK.name:  # a dead letter to its service: it moved nothing
                        continue
                    raise
                if codec.topic_of(event).name != topic:
                    if not self.passes_over:
                        self._note(topic, stored.offset, f"{codec.kind_of(event)} does not belong here")
                    elif topic != FEEDBACK.name:  # there it has its place in the run's order
                        continue
                elif (_without_copy(stored.event_id), stored.key) != (event.event_id, codec.key_of(event)):
                    self._note(topic, stored.offset, "the record's id or key is not that of its event")
                yield stored.offset, event
        except LogCorrupt:
            self.unread.append(f"what stands behind the damaged record of {topic}, and what follows from it")

    def _note(self, topic: str, offset: int, what: str) -> None:
        self.unfit.append(Problem(f"{topic} offset {offset}", what, Kind.LOG))


def _without_copy(event_id: str) -> str:
    """A record that was delivered twice stands in a copy of the log under its id, `@` and its number."""
    return event_id.partition("@")[0]


def _benchmarks(run: Iterable[Event]) -> tuple[list[Path], list[str]]:
    """The files whose questions were never to be asked, and a line for each that is not here as it was."""
    settings = Settings()
    try:
        for event in run:
            if event.HasField("run_started"):
                settings = event.run_started.settings
                break
    except LogCorrupt:
        pass
    files, absent = [], []
    for name, digest in zip(settings.harvest.benchmarks, settings.harvest.benchmark_digests, strict=False):
        file = place(name)
        if not file.is_file():
            absent.append(f"{name}: the benchmark's questions")
        elif digest_of(file) != digest:
            absent.append(f"{name}: the benchmark as it was (the file there has changed since)")
        else:
            files.append(file)
    return files, absent


def _result(found: list[Problem], absent: list[str], report: Report, dead: int) -> dict[str, Any]:
    counts = {name.replace("_", " "): count for name, count in vars(report).items()}
    del counts["problems"], counts["versions absent"]
    return {
        "problems": [{"where": p.where, "what": p.what, "kind": p.kind} for p in found],
        "absent": absent,
        "checked": counts | {"dead letters": dead},
    }
