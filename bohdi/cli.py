"""The command line. Every command ends with one of the exit codes below, and a user's mistake with one clear line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree as RichTree
from typer.exceptions import TyperException

from bohdi import (
    cli_analysis,
    cli_dead,
    cli_doctor,
    cli_exports,
    cli_models,
    cli_report,
    cli_simulate,
    cli_topics,
    cli_why,
)
from bohdi import figures as figs
from bohdi.cli_shared import Dir, Json, Kafka, Metrics, Run, Seed, err, folded, out, print_json, wide
from bohdi.domain_text import NoScikitLearn
from bohdi.harness import HarnessFailed
from bohdi.run_folder import NoRun, RunFolder, resolved
from bohdi.run_places import FolderPlace, RunPlace, run_place
from bohdi.supervisor import ServiceMistaken
from bohdi.visible import json_text
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import ALL_ROUNDS_DONE, RunState, state_sha256
from bohdi_common.events import codec
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log import inbox
from bohdi_common.log.kafka_settings import BadSetting
from bohdi_common.log.port import LogError
from bohdi_common.log.sqlite import has_host
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import BadConfig, Config
from bohdi_common.runtime.shell import record_of, wall_clock_us


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    PROBLEMS = 1  # verify, replay or doctor found something, or the harness gave no scores
    MISTAKE = 2  # a configuration, argument or folder that cannot be used
    PAUSED = 3  # the run cannot go on by itself; its reason was printed
    LOG = 4  # the log cannot be used: damaged, of a newer version, in use, or the disk is full
    INTERRUPTED = 130  # a signal ended it; `bohdi resume` goes on


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Fuses several source LLMs into one target LLM. Exit codes: 0 done, 1 verify or doctor found problems, "
    "2 a mistake in the input, 3 the run paused, 4 the log cannot be used, 130 interrupted (resume goes on).",
)
microworld_app = typer.Typer(no_args_is_help=True, help="The test bed that is shipped: four tiny models.")
app.add_typer(microworld_app, name="microworld")
app.add_typer(cli_topics.app, name="topics")
app.add_typer(cli_dead.app, name="dead")
app.add_typer(cli_models.app)
app.add_typer(cli_analysis.app)
app.add_typer(cli_why.app, name="why")
app.add_typer(cli_exports.app)
app.add_typer(cli_doctor.app)
app.add_typer(cli_report.app)
app.add_typer(cli_simulate.app)


def main() -> None:
    """Entry point: the command, and its mistakes as one line each."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for client in ("kafka", "aiokafka"):  # what they say of a broker that is away comes as one line of ours
        logging.getLogger(client).setLevel(logging.CRITICAL)
    try:
        sys.exit(app(standalone_mode=False) or Exit.DONE)
    except TyperException as error:  # a wrong option or argument; typer's own display takes five lines
        _fail(f"{getattr(error, 'format_message', error.__str__)()} (see bohdi --help)", Exit.MISTAKE)
    except (BadConfig, BadSetting, NoRun, NoScikitLearn, ServiceMistaken) as error:
        _fail(error, Exit.MISTAKE)
    except HarnessFailed as error:
        _fail(error, Exit.PROBLEMS)
    except (LogError, codec.NewerSchema) as error:
        _fail(error, Exit.LOG)
    except BrokenPipeError:  # `bohdi log DIR | head`
        sys.exit(Exit.DONE)
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}", Exit.LOG)


def _fail(error: object, code: Exit) -> None:
    for line in str(error).splitlines():
        print(f"bohdi: {line}", file=sys.stderr)
    sys.exit(code)


# ---- running ---------------------------------------------------------------------------------------------------


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="the run's YAML configuration")],
    dir: Annotated[Path | None, typer.Option("--dir", help="a new folder for the run")] = None,
    kafka: Kafka = None,
    run: Run = None,
    seed: Seed = None,
    metrics: Metrics = None,
    as_json: Json = False,
) -> None:
    """Starts a run: with --dir in this process, until it is finished, paused or interrupted; with --kafka or --run on a
    cluster, whose services go on with it also when this command, which watches and evaluates it, is ended."""
    settings = resolved(configs.load(config), config.parent)
    fresh = secrets.randbits(32) if seed is None else seed
    if dir is None:
        if metrics is not None:
            raise BadConfig("--metrics: on Kafka the services have them: see `bohdi up --metrics` and BOHDI_HEALTH")
        from bohdi.embedded import fresh_run_id
        from bohdi.kafka_runs import kafka_place, submit

        place = kafka_place(kafka, run or fresh_run_id(settings))
        submit(place, settings, fresh)
        return _watch(place, settings, as_json)
    folder = RunFolder(dir)
    _serve_metrics(metrics)
    from bohdi.embedded import new_run, real_parts

    parts = real_parts()
    new_run(settings, folder, fresh, parts)
    return _host(settings, folder, parts, as_json, resume=False)


@app.command()
def watch(
    kafka: Kafka = None,
    run: Run = None,
    config: Annotated[Path | None, typer.Option("--config", help="evaluate the models as this asks")] = None,
    as_json: Json = False,
) -> None:
    """Watches a run on Kafka until it is finished or paused."""
    if run is None:
        raise BadConfig("watch: which run? give --run ID")
    from bohdi.kafka_runs import kafka_place

    _watch(kafka_place(kafka, run), resolved(configs.load(config), config.parent) if config else None, as_json)


@app.command()
def resume(
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="a new cap of the budget")] = None,
    cost: Annotated[float | None, typer.Option("--cost", min=0, help="a new cap, in the prices' currency")] = None,
    harvests: Annotated[int | None, typer.Option("--harvests", min=1, help="a new cap")] = None,
    hours: Annotated[float | None, typer.Option("--hours", min=0, help="a new cap")] = None,
    metrics: Metrics = None,
    as_json: Json = False,
) -> None:
    """Goes on with a run that was paused, interrupted or killed; with larger caps, where its budget was spent."""
    given = {"tokens": tokens, "cost": cost, "harvests": harvests, "hours": hours}
    caps = {name: cap for name, cap in given.items() if cap is not None}
    place = run_place(dir, kafka, run)
    if place.folder is None:
        from bohdi.kafka_runs import by_hand

        return by_hand(place, "run_resumed", {"budget": caps})
    _serve_metrics(metrics)
    settings = resolved(place.folder.load_config(), place.folder.path)
    from bohdi.embedded import real_parts

    return _host(settings, place.folder, real_parts(), as_json, resume=True, caps=caps)


@app.command()
def up(
    config: Annotated[Path | None, typer.Argument(help="a run to start, watch and end with")] = None,
    kafka: Kafka = None,
    run: Run = None,
    store: Annotated[Path, typer.Option("--store", help="folder of all runs' versions")] = Path("runs/kafka"),
    seed: Seed = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="HOST:PORT of the bandit's health and metrics; the others follow")
    ] = None,
    as_json: Json = False,
) -> None:
    """The five services as processes of this machine, on Kafka: until Ctrl-C, or until the run of CONFIG is over."""
    from bohdi import up as services
    from bohdi.kafka_runs import kafka_place, submit, watched

    os.environ["BOHDI_STORE"] = str(store.absolute())
    settings = None if config is None else resolved(configs.load(config), config.parent)
    health_from = None if metrics is None else _address(metrics)
    services.make_topics(kafka)
    if settings is None:
        asyncio.run(services.up(kafka, health_from=health_from))
        return None
    from bohdi.embedded import fresh_run_id
    from bohdi.live import LiveView

    place = kafka_place(kafka, run or fresh_run_id(settings))
    submit(place, settings, secrets.randbits(32) if seed is None else seed)
    with LiveView(err if as_json else out) as view:
        state = asyncio.run(services.up(kafka, lambda: watched(place, view, settings), health_from))
    return _close(place, state, as_json)


@app.command()
def copy(
    kafka: Kafka = None,
    run: Run = None,
    source: Annotated[Path | None, typer.Option("--from", help="folder of a run to be copied to Kafka")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="new folder for the run that --run names on Kafka")] = None,
) -> None:
    """Copies a run between Kafka and a folder, event by event: the hashes agree."""
    if (source is None) == (to is None) or (to is not None and run is None):
        raise BadConfig("copy: give --from DIR, or --run ID with --to DIR")
    from bohdi.kafka_runs import copy_to_folder, copy_to_kafka, kafka_place

    if to is not None and run is not None:
        return print(f"{copy_to_folder(kafka_place(kafka, run), RunFolder(to))} events of {run} are in {to}")
    assert source is not None
    place, copied = copy_to_kafka(RunFolder(source), lambda run_id: kafka_place(kafka, run_id))
    return print(f"{copied} events of {place.run_id} are on {place.kafka.bootstrap}")


def _serve_metrics(where: str | None) -> None:
    """Answers Prometheus from now on, where that is asked for. Raises BadConfig for an address that cannot be had."""
    if where is None:
        return
    from bohdi_common.runtime import metrics

    host, port = _address(where)
    try:
        port = metrics.serve(host, port)
    except OSError as error:
        raise BadConfig(f"--metrics: {where}: {error.strerror or error}: give another port") from None
    print(f"bohdi: metrics on http://{host}:{port}/metrics", file=sys.stderr)


def _address(metrics: str) -> tuple[str, int]:
    from bohdi.route_host import address

    return address(metrics, "--metrics")


def _host(
    config: Config, folder: RunFolder, parts: Any, as_json: bool, resume: bool, caps: Mapping[str, float] | None = None
) -> None:
    from bohdi.embedded import host_run
    from bohdi.live import LiveView

    with LiveView(err if as_json else out) as view:
        state = asyncio.run(host_run(config, folder, parts, view, resume=resume, caps=caps or {}))
    _close(FolderPlace(folder), state, as_json)


def _watch(place: Any, config: Config | None, as_json: bool) -> None:
    from bohdi.kafka_runs import watched
    from bohdi.live import LiveView

    with LiveView(err if as_json else out) as view:
        try:
            state = asyncio.run(watched(place, view, config))
        except KeyboardInterrupt:
            print(f"bohdi: the run goes on: watch it with `bohdi watch {place.how_to}`", file=sys.stderr)
            sys.exit(Exit.INTERRUPTED)
    _close(place, state, as_json)


def _close(place: RunPlace, state: RunState, as_json: bool) -> None:
    """The end of a run, or why there is none."""
    if state.paused and not state.finished:
        why = figs.why_paused(*folded(place))
        print(f"bohdi: paused: {why}: mend it and go on with `bohdi resume {place.how_to}`", file=sys.stderr)
        sys.exit(Exit.PAUSED)
    if not state.finished:
        print(f"bohdi: interrupted: go on with `bohdi resume {place.how_to}`", file=sys.stderr)
        sys.exit(Exit.INTERRUPTED)
    figures, state = folded(place)
    closing = figs.summary(figures, state, state_sha256(state))
    place.keep_summary(json.dumps(closing, indent=1) + "\n")
    if as_json:
        print_json(closing)
    else:
        _print_summary(closing)


@app.command()
def pause(dir: Dir = None, kafka: Kafka = None, run: Run = None) -> None:
    """Asks the host of a run to pause it; `resume` goes on."""
    _ask_host(
        run_place(dir, kafka, run),
        "run_paused",
        "asked for by hand",
        "the host pauses the run",
        f"the run rests already, and `bohdi resume {dir}` goes on with it",
    )


@app.command()
def cancel(dir: Dir = None, kafka: Kafka = None, run: Run = None) -> None:
    """Asks the host of a run to end it for good, as it stands; what was promoted and recorded stays."""
    _ask_host(
        run_place(dir, kafka, run),
        "run_finished",
        "cancelled by hand",
        "the host ends the run",
        f"`bohdi resume {dir}` will end the run and do nothing more",
    )


def _ask_host(place: RunPlace, kind: str, reason: str, effect: str, without_host: str) -> None:
    """On Kafka appends a command to the feedback log; in a folder leaves it in the inbox, for the host at work or the
    next one, and says which. Raises NoRun, LogError."""
    over = folded(place)[1].finished
    folder, run_id = place.folder, place.run_id
    hosted = folder is not None and has_host(folder.log)
    if over and not hosted:
        return print(f"the run is over: {over}")
    if folder is None:
        from bohdi.kafka_runs import by_hand

        by_hand(place, kind, {"reason": reason})
        return print("asked: it takes effect when the bandit reads it")
    now_us = wall_clock_us()
    event = codec.by_hand(run_id, derived_id(run_id, "by hand", kind, now_us), now_us, kind, {"reason": reason})
    inbox.put(folder.inbox, record_of(event))
    return print(f"asked: {effect} within a second" if hosted else f"asked, but no host is at work: {without_host}")


# ---- looking ---------------------------------------------------------------------------------------------------


@app.command()
def status(dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """Where a run stands."""
    figures, state = folded(run_place(dir, kafka, run))
    standing = figs.status(figures, state)
    if as_json:
        return print_json(standing)
    table = Table.grid(padding=(0, 2))
    readable = {
        "weakest": "\n".join(f"{mean:.2f}  {domain}" for domain, mean in standing["weakest"]),
        "counts": ", ".join(f"{what} {n}" for what, n in sorted(standing["counts"].items())),
        "refusals": "\n".join(figs.refusal_lines(standing["refusals"])) or "none",
        "judges": "\n".join(figs.judge_lines(standing["judges"])) or "none asked yet",
    }
    for name, value in (standing | readable).items():
        table.add_row(name, escape(str(value)))
    return out.print(table)


@app.command()
def tree(dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """The tree of domains with the posterior of lambda, the probability that the target is worse there."""
    _, state = folded(run_place(dir, kafka, run))
    rows = figs.tree_rows(state)
    if as_json:
        return print_json(rows)
    root = RichTree("Root")
    branches: dict[tuple[str, ...], RichTree] = {(): root}
    for row in rows:
        path = tuple(row["path"])
        label = f"{escape(path[-1])}  [dim]lambda {row['lambda']:.2f}, Beta({row['alpha']}, {row['beta']})[/dim]"
        if not row["open"]:
            label += " [dim](closed)[/dim]"
        branches[path] = branches[path[:-1]].add(label)
    return out.print(root)


@app.command("log")
def log_(
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    topic: Annotated[str, typer.Option("--topic", help="which topic")] = FEEDBACK.name,
    start: Annotated[int, typer.Option("--from", min=0, help="first offset")] = 0,
) -> None:
    """Events as JSON, one a line: of a folder all that its log holds, on Kafka those of the run."""
    for stored in run_place(dir, kafka, run).records(topic, start):
        line: dict[str, Any] = {"offset": stored.offset}
        if isinstance(run, str):
            line["partition"] = stored.partition
        try:
            line |= MessageToDict(codec.decode(stored.value), preserving_proto_field_name=True)
        except (codec.Undecodable, codec.NewerSchema) as error:
            line |= {"undecodable": str(error), "bytes": stored.value.hex()}
        print(json_text(line))


@app.command()
def verify(dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """Holds a run to its invariants: checksums, ids, accounting, decisions, samples, versions."""
    from bohdi.verify_run import verify_folder, verify_on_kafka

    place = run_place(dir, kafka, run)
    report = verify_on_kafka(place) if place.folder is None else verify_folder(place.folder)
    if as_json:
        print_json(report)
    else:
        for problem in report["problems"]:
            print(f"{problem['where']}: {problem['what']}")
        for line in report["absent"]:
            print(f"not here, so not checked: {line}")
        counted = ", ".join(f"{n} {what}" for what, n in report["checked"].items())
        wrong = len(report["problems"])
        print(f"{'1 problem' if wrong == 1 else f'{wrong} problems' if wrong else 'clean'}: {counted}")
    if report["problems"]:
        sys.exit(Exit.PROBLEMS)


@microworld_app.command("build")
def microworld_build(
    to: Annotated[Path, typer.Option("--out", help="a new folder for the four models")],
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    scale: Annotated[float, typer.Option("--scale", min=0.001, max=10.0, help="share of the training steps")] = 1.0,
) -> None:
    """Trains the micro-world's models from scratch (about a quarter of an hour of one core) and evaluates them."""
    if to.exists() and any(to.iterdir()):
        raise BadConfig(f"{to}: exists already: name a new folder")
    from bohdi.embedded import real_parts

    real_parts()
    from rich.progress import Progress as Bars

    from bohdi.microworld.build import Progress, build

    with Bars(console=out) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.model not in tasks:
                tasks[progress.model] = bars.add_task(progress.model, total=progress.steps)
            bars.update(
                tasks[progress.model], completed=progress.step, description=f"{progress.model} {progress.loss:.3f}"
            )

        build(to, seed=seed, steps_scale=scale, progress=show)
    print(to)


# ---- shared ----------------------------------------------------------------------------------------------------


def _print_summary(closing: dict[str, Any]) -> None:
    """The closing table: held-out accuracy by domain, of the target over the rounds and of each source."""
    scored = [r for r in closing["rounds"] if "domains" in r]
    if closing["start"] and scored:
        columns = [("start", closing["start"]), *((r["version"], r) for r in scored)]
        sources = [(name, scores) for name, scores in closing["sources"].items() if scores]
        table = Table(title="held-out accuracy: the target by round, beside the sources")
        table.add_column("domain", no_wrap=True)
        for name, _ in columns + sources:
            table.add_column(name, justify="right", style="dim" if name in closing["sources"] else None)
        for domain in closing["start"]["domains"]:
            table.add_row(escape(domain), *(_share(s["domains"].get(domain)) for _, s in columns + sources))
        table.add_section()
        for row in ("new", "old", "overall"):
            table.add_row(row, *(_share(scores[row]) for _, scores in columns + sources))
        wide().print(table)
        wide().print("new: the domains that the target did not know at the start; old: those that it did", style="dim")
    if closing["tasks"]:
        wide().print(_tasks_table(closing["tasks"]))
    if closing["finished"] != ALL_ROUNDS_DONE:
        print(f"ended early: {closing['finished']}")
    grown = closing["tree"]
    print(f"tree: {grown['main']} main, {grown['secondary']} secondary domains, {grown['leaves']} leaves")
    print(
        f"{closing['events']} events, {closing['harvests']} harvests, {closing['tokens']} tokens, "
        f"{closing['seconds']} seconds"
    )
    for line in (*figs.refusal_lines(closing["refusals"]), *figs.judge_lines(closing["judges"])):
        print(line)
    print(f"state_sha256 {closing['state_sha256']}")


def _tasks_table(scored: list[dict[str, Any]]) -> Table:
    """What lm-evaluation-harness gave: a row for each metric of a task, a column for each model and version."""
    table = Table(title="tasks of lm-evaluation-harness")
    table.add_column("task", no_wrap=True)
    values: dict[tuple[str, str], dict[str, float]] = {}
    for of in scored:
        column = f"{of['model']} {of['version']}".strip()
        for score in of["scores"]:
            values.setdefault((score["task"], score["metric"]), {})[column] = score["value"]
    columns = list(dict.fromkeys(column for row in values.values() for column in row))
    for column in columns:
        table.add_column(escape(column), justify="right")
    for (task, metric), row in values.items():
        table.add_row(escape(f"{task} {metric}"), *(_share(row.get(column)) for column in columns))
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
