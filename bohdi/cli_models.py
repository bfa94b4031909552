"""What a run made, and who is good at what: evaluations, exports, profiles, the router."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape
from rich.table import Table

from bohdi import profile_view, profiles
from bohdi.cli_shared import Dir, Json, Kafka, Run, folded, out, print_json, wide
from bohdi.exports import cards
from bohdi.harness import Results
from bohdi.run_folder import RunFolder, why_no_model
from bohdi.run_places import RunPlace, events, run_place, settings
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.models.places import place
from bohdi_common.models.versions import VersionStore, is_adapter
from bohdi_common.runtime.config import BadConfig

app = typer.Typer()

Strength = Annotated[
    float, typer.Option("--strength", min=0.01, max=1e6, help="harvests that a domain's prior, its parent, counts for")
]
FromRound = Annotated[int, typer.Option("--from-round", min=0, help="leave out what was harvested in rounds before")]


@app.command("eval")
def eval_(
    model: Annotated[
        Path | None, typer.Argument(help="a model folder or microworld:NAME; CONFIG or DIR of a run")
    ] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="of lm-evaluation-harness, with commas")] = "",
    tasks_folder: Annotated[
        Path | None, typer.Option("--tasks-folder", help="YAML files of further tasks", exists=True, file_okay=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="questions of each task at most; 0: all")] = 0,
    name: Annotated[str, typer.Option("--model", help="a model of CONFIG or DIR; default: the target")] = "",
    version: Annotated[str, typer.Option("--version", help="of the target: base, r3, say, or last")] = "last",
    kafka: Kafka = None,
    run: Run = None,
    benchmark: Annotated[str, typer.Option("--benchmark", help="JSON lines with question, answer, path")] = (
        "microworld:heldout"
    ),
    as_json: Json = False,
) -> None:
    """Held-out accuracy of a model folder, by domain; with --tasks what lm-evaluation-harness makes of any model or
    version, recorded in the log of its run."""
    if tasks:
        from bohdi import harness_runs
        from bohdi.harness import Tasks

        asked = Tasks(tuple(filter(None, tasks.split(","))), tasks_folder, limit)
        place = run_place(model, kafka, run) if run or (model and RunFolder(model).log.is_file()) else None
        results, recorded = harness_runs.evaluated(place, model, name, version, asked)
        return _print_tasks(results, recorded, as_json)
    if model is None or name or run:
        raise BadConfig("eval: give a model folder, or --tasks of lm-evaluation-harness with a run or a configuration")
    return _held_out(model, benchmark, as_json)


def _print_tasks(results: Results, recorded: str, as_json: bool) -> None:
    if as_json:
        scores = [MessageToDict(score, preserving_proto_field_name=True) for score in results.scores]
        return print_json({"harness": results.harness, "tasks_digest": results.tasks_digest, "scores": scores})
    table = Table("task", "metric", "value", "standard error", "questions")
    for score in results.scores:
        error = f"{score.stderr:.4f}" if score.stderr else "-"
        table.add_row(escape(score.domain), score.metric, f"{score.value:.4f}", error, str(score.questions))
    out.print(table)
    return print(f"{results.harness}; {recorded}")


def _held_out(model: Path, benchmark: str, as_json: bool) -> None:
    folder, questions = place(str(model)), place(benchmark)
    if why := why_no_model(folder):
        raise BadConfig(f"{model}: {why}")
    if not questions.is_file():
        raise BadConfig(f"{benchmark}: no such benchmark file: give a JSON-lines file with question, answer and path")
    from bohdi.embedded import real_parts

    real_parts()
    from bohdi.microworld.evaluate import accuracy

    try:
        domains = accuracy(folder, questions)
    except ValueError as error:
        raise BadConfig(f"{model}: {error}") from None
    overall = sum(domains.values()) / len(domains)
    if as_json:
        return print_json({"overall": overall, "domains": domains})
    table = Table("domain", "accuracy")
    for domain, share in sorted(domains.items()):
        table.add_row(escape(domain), f"{share:.3f}")
    table.add_row("overall", f"{overall:.3f}")
    return out.print(table)


@app.command("export-model")
def export_model(
    version: Annotated[str, typer.Argument(help="a promoted version (r3, say), or `last`")],
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    to: Annotated[Path | None, typer.Option("--out", help="where to; default: export/VERSION beside versions")] = None,
) -> None:
    """A version of the target as a plain folder that transformers and vLLM load, its checksums checked; an adapter is
    merged into the weights of its base. Its model card, README.md, is written from the log."""
    where = run_place(dir, kafka, run)
    _, state = folded(where)
    name = state.target_version if version == "last" else version
    if name not in state.versions or name == BASE_VERSION:
        promoted = ", ".join(state.versions[1:]) or "none"
        raise BadConfig(f"{version}: not a promoted version of this run (there are: {promoted})")
    if problems := VersionStore(where.versions).check(name):
        raise BadConfig(f"{where.versions}: {problems[0]}: restore it from a copy of the run")
    target = to or where.versions.parent / "export" / name
    if target.exists():
        raise BadConfig(f"{target}: exists already: name another folder with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    made = where.versions / name
    if is_adapter(made):
        _merge(made, place(settings(where).target.path), target)
    else:
        shutil.copytree(made, target)
    (target / "README.md").write_text(_card(where, name), encoding="utf-8")
    print(target)


def _card(where: RunPlace, version: str) -> str:
    told = cards.Told()
    for event in events(where):
        told.take(event)
    return cards.model_card(version, told)


def _merge(adapter: Path, base: Path, target: Path) -> None:
    """Raises BadConfig when the base is not here."""
    from bohdi.embedded import real_parts

    real_parts()
    from bohdi_common.models import huggingface

    try:
        huggingface.merge(adapter, base, target)
    except ValueError as error:
        raise BadConfig(f"{error}: the target's base must be where the run had it") from None


@app.command()
def profile(
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    file: Annotated[Path | None, typer.Option("--out", help="a JSON file for `bohdi route`")] = None,
    strength: Strength = profiles.STRENGTH,
    from_round: FromRound = 0,
    as_json: Json = False,
) -> None:
    """Who is good at what: every model's win rate by domain, and how well a question's domain is told by its text."""
    from bohdi import profile_file

    place = run_place(dir, kafka, run)
    made, reading = profile_file.read_run(place.run_id, events(place), strength, from_round)
    validation, why_not, gain = profile_file.checked(made, reading)
    written = profile_file.as_json(made, validation, gain)
    if file is not None:
        file.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        return print_json({key: value for key, value in written.items() if key != "questions"})
    wide().print(profile_view.table(made))
    for line in profile_view.lines(made, validation, why_not, gain):
        wide().print(line, style="dim", markup=False)
    return None


@app.command()
def route(
    source: Annotated[Path | None, typer.Argument(metavar="[PROFILE|DIR]", help="a profile, or a run's folder")] = None,
    kafka: Kafka = None,
    run: Run = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="where the models are; default: as the run had")
    ] = None,
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0: a free one")] = "127.0.0.1:8080",
    strength: Strength = profiles.STRENGTH,
    from_round: FromRound = 0,
) -> None:
    """A server that speaks OpenAI's chat completions and asks the best model of each question's domain."""
    from bohdi import route_host

    address = route_host.address(listen)
    if source is not None and source.is_file():
        planned = route_host.by_file(source, config)
    else:
        planned = route_host.by_run(run_place(source, kafka, run), config, strength, from_round)
    for line in planned.left_out:
        print(f"bohdi: {line}", file=sys.stderr)
    asyncio.run(route_host.host(planned, address, lambda url: print(f"listening on {url}", flush=True)))
