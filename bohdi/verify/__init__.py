"""Holds the log of a run to its invariants and says what is wrong and where.

    report = Report()
    for problem in chain(of_log_file(integrity(path)), problems(feedback_events(log), versions, report=report)):
        print(problem)

The events are read once, in log order; several runs in one stream are held apart. Memory: tree, sprouts, open slots, 8
bytes per event and per request; no texts. The verification keeps its own accounting (`ledger`) and compares it at the
end with the state that the fold gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from bohdi.verify import agreement
from bohdi.verify import requests as request_checks
from bohdi.verify.hashes import Hashes
from bohdi.verify.ledger import Ledger
from bohdi.verify.report import Kind, Problem, Report
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.models.versions import MANIFEST, VersionStore
from services.generation.gates import decontamination

__all__ = ["Kind", "Problem", "Report", "of_log_file", "problems"]


def problems(
    events: Iterable[tuple[int, Event]],
    versions: Path | None = None,
    *,
    requests: Iterable[tuple[int, Event]] = (),
    benchmarks: Sequence[Path] = (),
    buried: Collection[int] = (),
    report: Report | None = None,
) -> Iterator[Problem]:
    """All that is wrong with the runs whose feedback events these are, each event with its offset, in log order.

    `versions`: the folder of promoted versions; None: they are not looked at. `requests`: what the request topics (and
    bohdi.answers) hold, each with its offset in its topic. `benchmarks`: files whose questions must not have been
    asked. `buried`: offsets of feedback records that stand among the dead letters: they moved nothing, and what is
    wrong with them is known. `report` is filled while this is read. Raises BadBenchmark for one that cannot be read.
    """
    report = Report() if report is None else report
    for problem in _problems(events, versions, requests, tuple(benchmarks), buried, report):
        report.problems += 1
        yield problem


def of_log_file(lines: Iterable[str]) -> Iterator[Problem]:
    """The findings of the log file's own check (`integrity` of its adapter), to be chained before `problems`."""
    return (Problem("log file", line, Kind.LOG) for line in lines)


def _problems(
    events: Iterable[tuple[int, Event]],
    versions: Path | None,
    requests: Iterable[tuple[int, Event]],
    benchmarks: tuple[Path, ...],
    buried: Collection[int],
    report: Report,
) -> Iterator[Problem]:
    def stands_in_a_benchmark(question: str, words: int) -> bool:
        return decontamination(benchmarks, words).refuses(question)

    gate = stands_in_a_benchmark if benchmarks else None
    runs: dict[str, tuple[Ledger, _Fold]] = {}
    for offset, event in events:
        report.events += 1
        if event.run_id not in runs:
            runs[event.run_id] = Ledger(event.run_id, report, gate), _Fold(Hashes(report))
            report.runs += 1
        run, fold = runs[event.run_id]
        run.take(event)
        if offset in buried:
            run.found.clear()
        if wrong := fold.take(event):
            run.found.append((Kind.STATE, wrong))
        promoted = versions is not None and event.HasField("target_promoted")
        if run.found or promoted:
            where = f"feedback offset {offset}, run sequence {run.account.sequence - 1} of {event.run_id or 'no run'}"
            yield from (Problem(where, what, kind) for kind, what in run.found)
            run.found.clear()
        if promoted and versions is not None:
            promotion = event.target_promoted
            for what in _wrong_with_version(versions, promotion.version, promotion.manifest_digest, report):
                yield Problem(where, what, Kind.VERSION)
    for offset, event in requests:
        report.requests += 1
        where = f"{codec.topic_of(event).name} offset {offset} of {event.run_id}"
        if event.run_id not in runs:
            yield Problem(where, "a request of a run that the feedback log does not hold", Kind.REQUEST)
        else:
            found = request_checks.wrong_with(runs[event.run_id][0], event)
            yield from (Problem(where, what, kind) for kind, what in found)
    for run_id, (run, fold) in runs.items():
        where = f"the state of {run_id or 'no run'} at the end"
        yield from (Problem(where, what, Kind.STATE) for what in fold.differences(run))


class _Fold:
    """The fold beside the ledger. Where it fails it stops: the log is what is held to account, and is read on."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._state = RunState()
        self._failed = ""

    def take(self, event: Event) -> str:
        """What is wrong with the hash that the event records of its state; empty for none."""
        wrong = ""
        if not self._failed:
            sequence = self._state.sequence
            try:
                wrong = self._hashes.wrong(self._state, event)
                self._state = evolve(self._state, event)
            except Exception as error:
                self._failed = f"the fold fails at run sequence {sequence}: {type(error).__name__}: {error}"
        return wrong

    def differences(self, run: Ledger) -> Iterator[str]:
        return iter([self._failed]) if self._failed else agreement.differences(run, self._state)


def _wrong_with_version(folder: Path, version: str, digest: str, report: Report) -> Iterator[str]:
    """A promoted version's folder beside the digest that was recorded. One that is not here is counted, no problem."""
    try:
        if not (folder / version).is_dir():
            report.versions_absent += 1
            return
        report.versions += 1
        store = VersionStore(folder)
        wrong = store.check(version)
        manifest = store.path(version) / MANIFEST
        yield from wrong
        if manifest.is_file() and hashlib.sha256(manifest.read_bytes()).hexdigest() != digest:
            yield f"{version}/{MANIFEST}: not the manifest that was promoted ({digest})"
    except (ValueError, OSError) as error:
        yield f"version {version!r} cannot be checked: {error}"
