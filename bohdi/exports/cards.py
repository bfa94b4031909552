"""Model and dataset cards as Hugging Face has them: Markdown with YAML before it, from what a run's log says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bohdi.visible import visible
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events.events_pb2 import Event, RunStarted, TargetEvaluated, TargetPromoted

PAPER = "https://arxiv.org/abs/2506.15721"
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~])")


@dataclass(frozen=True)
class Drawn:
    """A training as it was drawn, its samples counted."""

    round: int
    base_version: str
    average_with: list[str]
    draws: int
    samples: int
    from_rehearsal: int


@dataclass
class Told:
    """What cards tell, from a run's events in their order."""

    run_id: str = ""
    started: RunStarted | None = None
    drawn: dict[str, Drawn] = field(default_factory=dict)  # by request
    promoted: dict[str, TargetPromoted] = field(default_factory=dict)  # by version
    evaluated: dict[tuple[str, str, str], TargetEvaluated] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """The next event."""
        match event.WhichOneof("body"):
            case "run_started" if self.started is None:
                self.run_id, self.started = event.run_id, event.run_started
            case "training_drawn":
                body = event.training_drawn
                counts = (len(body.samples), len(set(body.samples)), body.from_rehearsal)
                drawn = Drawn(event.round, body.base_version, list(body.average_with), *counts)
                self.drawn.setdefault(body.request_hash, drawn)
            case "target_promoted" if event.target_promoted.request_hash in self.drawn:
                self.promoted.setdefault(event.target_promoted.version, event.target_promoted)
            case "target_evaluated":
                scored = event.target_evaluated
                self.evaluated[scored.model, scored.version, scored.benchmark] = scored


def model_card(version: str, told: Told) -> str:
    """The card of a promoted version. Raises KeyError for another."""
    assert told.started is not None
    settings, promoted = told.started.settings, told.promoted[version]
    target = settings.target.name
    mine = _scores(told, target, version)
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["bohdi", "model-fusion", "synthetic-data"],
    }
    if mine:
        front["model-index"] = [{"name": f"{target} {version}", "results": [_result(score) for score in mine]}]
    sources = [source.name for source in settings.sources]
    beside = [*_scores(told, target, BASE_VERSION), *(s for name in sources for s in _scores(told, name, ""))]
    return _rendered(
        "model_card.md.jinja", front,
        version=version, target=target, run_id=told.run_id, started=told.started, sources=sources,
        training=settings.training, drawn=told.drawn[promoted.request_hash], promoted=promoted,
        scores=[*mine, *beside] if mine else [],
    )  # fmt: skip


def _scores(told: Told, model: str, version: str) -> list[dict[str, Any]]:
    """A row for each metric of each benchmark: of one that scores by domain the mean over domains."""
    rows: list[dict[str, Any]] = []
    for (name, of, benchmark), scored in told.evaluated.items():
        if (name, of) != (model, version):
            continue
        common = {"model": name, "version": of or "-"}
        if scored.harness:
            for s in scored.scores:
                row = {"benchmark": s.domain, "metric": s.metric, "value": s.value, "questions": s.questions}
                rows.append(common | row)
        elif scored.scores:
            mean = sum(s.accuracy for s in scored.scores) / len(scored.scores)
            asked = sum(s.questions for s in scored.scores)
            where = PurePath(benchmark).name  # a file's: the folders above are of one machine
            rows.append(common | {"benchmark": where, "metric": "accuracy", "value": mean, "questions": asked})
    return rows


def _result(score: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": score["benchmark"], "type": score["benchmark"]},
        "metrics": [{"type": score["metric"], "value": round(score["value"], 6)}],
    }


def dataset_card(configs: list[dict[str, Any]], rows: int, **values: Any) -> str:
    """The card of a run's training sets; `rows` of the largest set, `values` of the template."""
    sizes = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    front = {
        "pretty_name": f"Bohdi run {values['run_id']}",
        "task_categories": ["text-generation"],
        "tags": ["bohdi", "synthetic"],
        "size_categories": [next((name for most, name in sizes if rows < most), "1M<n<10M")],
        "configs": configs,
    }
    return _rendered("dataset_card.md.jinja", front, **values)


def _rendered(template: str, front: Mapping[str, Any], **values: Any) -> str:
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=False)
    return _environment().get_template(template).render(front=text, paper=PAPER, **values).rstrip("\n") + "\n"


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent
    made = Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, autoescape=False, trim_blocks=False)
    made.filters["md"] = _plain
    return made


def _plain(text: object) -> str:
    """Text that Markdown and a table leave as it is."""
    return _MARKUP.sub(r"\\\1", visible(str(text)))
