"""A run's samples as data sets that Hugging Face's `datasets` loads and TRL trains on."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bohdi import run_places
from bohdi.exports import cards, folders, parquet
from bohdi.exports.columns import Column, Table
from bohdi.exports.history import effective
from bohdi.exports.rows import Row
from bohdi.run_folder import NoRun
from bohdi.run_places import RunPlace
from bohdi_common.core.evolve import evolve
from bohdi_common.core.held_back import is_held_back
from bohdi_common.core.state import RunState, state_sha256
from bohdi_common.events.events_pb2 import Event, RunStarted
from bohdi_common.models import prompts
from bohdi_common.runtime.config import BadConfig
from services.training.samples import Sample, sample_of

_DOMAINS = 50  # in the card's table at most
_ABOUT = (
    Column("sequence", "int", "run sequence of the harvest or rehearsal: `bohdi why sample` tells its story"),
    Column("origin", "text", "harvest, or rehearsal (what the target knew, in its own words)"),
    Column("round", "int", "from 0"),
    Column("path", "texts", "main, secondary and sub-domain"),
    Column("leader", "text", "model that wrote the question"),
    Column("author", "text", "model that wrote the best answer"),
    Column("draws", "int", "how often the run's trainings drew it"),
)
SFT = Table(
    "sft",
    "A question, and the best answer to it.",
    (
        Column("prompt", "messages", "the conversation that the target is asked in"),
        Column("completion", "messages", "the answer, as the assistant's turn"),
        *_ABOUT,
    ),
)
PREFERENCES = Table(
    "preferences",
    "A question, the best answer to it, and one that the judges did not choose.",
    (
        Column("prompt", "messages", "the conversation that the target is asked in"),
        Column("chosen", "messages", "the better answer"),
        Column("rejected", "messages", "the other answer"),
        *_ABOUT,
    ),
)


def _split(table: Table, split: str) -> Table:
    return Table(f"{table.name}/{split}", table.about, table.columns)


_SPLITS = {(table.name, split): _split(table, split) for table in (SFT, PREFERENCES) for split in ("train", "test")}


@dataclass
class _Read:
    """A run read once: what the fold says of its samples. `results`: harvests and rehearsals, late ones too; `draws`:
    by run sequence."""

    state: RunState = field(default_factory=RunState)
    started: RunStarted | None = None
    results: int = 0
    draws: array[int] = field(default_factory=lambda: array("L"))

    def take(self, event: Event) -> None:
        evolve(self.state, event)
        self.draws.append(0)
        self.results += event.WhichOneof("body") in ("harvest_judged", "rehearsal_answered")
        if self.started is None and event.HasField("run_started"):
            self.started = event.run_started
        training = self.state.training
        if training is not None and training.asked == self.state.sequence - 1:
            for sample in training.samples:
                self.draws[sample] += 1

    @property
    def late(self) -> int:
        """Results without effect: they came when nobody waited for them any more."""
        return self.results - sum(self.state.counts.get(what, 0) for what in ("harvests", "no_verdict", "rehearsals"))


def export_data(place: RunPlace, to: Path) -> dict[str, int]:
    """Writes the training sets of the run as it is now into a new folder; gives the rows of each set and split. The log
    is read twice, row group by row group. Raises BadConfig, NoRun and LogError."""
    parquet.arrow()
    read = _Read()
    with folders.fresh(to) as aside:
        for event in run_places.events(place):
            read.take(event)
        if read.started is None or read.state.rules is None:
            raise NoRun(f"{place.how_to}: the log does not say with what the run was started")
        if not read.state.pair_count and not read.state.rehearsals:
            raise BadConfig(f"{place.how_to}: the run has no sample yet: no harvest came to a verdict")
        domains: Counter[str] = Counter()
        authors: Counter[str] = Counter()
        held_back = read.started.settings.training.held_back_share > 0
        used = {key: table for key, table in _SPLITS.items() if held_back or key[1] == "train"}
        files = [(table, f"{table.name}.parquet") for table in used.values()]
        with parquet.ParquetFiles(aside, files) as written:
            for table, row in _rows(place, read):
                written.add(table, row)
                if table.name.startswith(SFT.name):
                    domains.update(row[5][:1])
                    authors[row[7]] += 1
        rows = {f"{name}/{split}": written.rows[table.name] for (name, split), table in used.items()}
        for (name, split), table in used.items():
            if not rows[f"{name}/{split}"]:
                (aside / f"{table.name}.parquet").unlink()  # `datasets` takes a split without rows for a mistake
        (aside / "README.md").write_text(_card(read, rows, domains, authors), encoding="utf-8")
    return {name: count for name, count in rows.items() if count}


def _rows(place: RunPlace, read: _Read) -> Iterator[tuple[Table, Row]]:
    assert read.started is not None
    settings = read.started.settings
    try:
        ask_answer = prompts.load(settings.prompts).ask_answer
    except KeyError as error:
        raise BadConfig(f"{place.how_to}: {error.args[0]}: use the Bohdi that made the run") from None
    took_effect = effective(read.state)
    for sequence, event in enumerate(islice(run_places.events(place), read.state.sequence)):
        if not took_effect[sequence]:
            continue
        sample = sample_of(event)
        split = "test" if is_held_back(event.run_id, sequence, settings.training.held_back_share) else "train"
        about = _about(sequence, event, sample, read.draws[sequence])
        prompt = ask_answer(sample.question)
        yield _SPLITS["sft", split], (prompt, _said(sample.answer), *about)
        if sample.worse:
            yield _SPLITS["preferences", split], (prompt, _said(sample.answer), _said(sample.worse), *about)


def _said(answer: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer}]


def _about(sequence: int, event: Event, sample: Sample, draws: int) -> Row:
    harvest = event.HasField("harvest_judged")
    body = event.harvest_judged if harvest else event.rehearsal_answered
    origin = "harvest" if harvest else "rehearsal"
    return (sequence, origin, event.round, list(body.path), body.leader, sample.author, draws)


def _card(read: _Read, rows: dict[str, int], domains: Counter[str], authors: Counter[str]) -> str:
    assert read.started is not None
    settings, state = read.started.settings, read.state
    there = {name: count for name, count in rows.items() if count}
    configs = []
    for table in (SFT, PREFERENCES):
        files = [
            {"split": split, "path": f"{table.name}/{split}.parquet"}
            for split in ("train", "test")
            if f"{table.name}/{split}" in there
        ]
        if files:
            default = {"default": True} if table is SFT else {}
            configs.append({"config_name": table.name, "data_files": files} | default)
    named = sorted(domains.items(), key=lambda item: (-item[1], item[0]))
    return cards.dataset_card(
        configs, max(there.values()),
        run_id=state.run_id, sources=[source.name for source in settings.sources], target=settings.target.name,
        events=state.sequence, state_sha256=state_sha256(state), prompts=settings.prompts,
        held_back=any(name.endswith("/test") for name in there),
        sizes=[(*name.split("/"), count) for name, count in there.items()],
        tables=[SFT, PREFERENCES], domains=named[:_DOMAINS], more_domains=max(0, len(named) - _DOMAINS),
        authors=sorted(authors.items(), key=lambda item: (-item[1], item[0])),
        no_verdict=state.counts.get("no_verdict", 0), late=read.late,
        decontaminated=len(settings.harvest.benchmarks),
    )  # fmt: skip
