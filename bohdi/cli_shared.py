"""What the commands share: their options, where they print, and a run folded for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bohdi.figures import Figures
from bohdi.run_places import RunPlace, events
from bohdi.visible import json_text
from bohdi_common.core.state import RunState
from services.bandit.handler import Bandit

_FILE_COLUMNS = 160  # of a table that goes to a file or a pipe

out = Console()
err = Console(stderr=True)

Dir = Annotated[Path | None, typer.Argument(help="the run's folder")]
Kafka = Annotated[str | None, typer.Option("--kafka", help="HOST:PORT of a Kafka broker; default: BOHDI_KAFKA")]
Run = Annotated[str | None, typer.Option("--run", help="name of a run on Kafka")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="of every random draw; default: a fresh one")]
Metrics = Annotated[str | None, typer.Option("--metrics", help="HOST:PORT where Prometheus finds this run's metrics")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def wide() -> Console:
    """For tables of many columns."""
    return out if out.is_terminal else Console(width=_FILE_COLUMNS)


def folded(place: RunPlace) -> tuple[Figures, RunState]:
    """State and figures of the run at `place`, after all its events. Raises NoRun, LogError."""
    bandit, figures = Bandit(place.run_id), Figures()
    for event in events(place):
        bandit.fold(event)
        figures.add(event)
    return figures, bandit.state


def print_json(value: Any) -> None:
    """The form in which programs read what a command says."""
    print(json_text(value, indent=1))
