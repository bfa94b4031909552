"""`bohdi doctor`: what a run of a configuration would meet on this machine."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bohdi.cli_shared import Json, print_json, wide
from bohdi_common.runtime import config as configs

if TYPE_CHECKING:
    from bohdi.doctor.ahead import Ahead
    from bohdi.doctor.finding import Finding

app = typer.Typer()

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@app.command()
def doctor(
    config: Annotated[Path, typer.Argument(help="the run's YAML configuration")],
    store: Annotated[Path, typer.Option("--store", help="folder where the run's versions will be")] = Path("runs"),
    no_calls: Annotated[bool, typer.Option("--no-calls", help="ask no model and no server")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=3600, help="seconds for a check")] = 60.0,
    as_json: Json = False,
) -> None:
    """Checks a configuration's models, servers, templates, memory and disk on this machine, measures tokens a second
    and forecasts what the run will want. Ends with 1 when something fails."""
    loaded = configs.load(config)
    from bohdi.embedded import real_parts

    real_parts()
    from bohdi.doctor.examination import Examination

    findings: list[Finding] = []
    table = Table("", "check", "figures, or what to do", box=None)

    def say(finding: Finding) -> None:
        findings.append(finding)
        table.add_row(f"[{_STYLES[finding.level]}]{finding.level}[/]", escape(finding.what), escape(finding.told))

    examination = Examination(loaded, config.parent, store, timeout_s, say)
    most, about = asyncio.run(examination.whole(calls=not no_calls))
    if as_json:
        forecast = {"at_most": _plain(most), "as_measured": _plain(about) if about else None}
        print_json({"findings": [asdict(finding) for finding in findings], "forecast": forecast})
    else:
        wide().print(table)
        wide().print(_forecast(most, about))
    if any(finding.level == "fail" for finding in findings):
        sys.exit(1)


def _plain(ahead: Ahead) -> dict[str, Any]:
    return asdict(ahead)


def _forecast(most: Ahead, about: Ahead | None) -> Table:
    table = Table("the whole run", "at most", *(["with texts as in the burst"] if about else []), box=None)
    columns = [most, *([about] if about else [])]
    rows = {
        "calls": [f"{ahead.calls:,.0f}" for ahead in columns],
        **{name: [_figure(name, ahead.spent[name]) for ahead in columns] for name in most.spent},
        "tokens of the trainings": [f"{ahead.training_tokens:,.0f}" for ahead in columns],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _figure(name: str, value: float) -> str:
    if name == "hours":
        return f"{value:,.2f}" if value else "not known"
    return f"{value:,.2f}" if name == "cost" else f"{value:,.0f}"
