"""The report: a run as one page that opens without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bohdi.cli_shared import Dir, Kafka, Run
from bohdi.run_places import run_place
from bohdi_common.runtime.config import BadConfig

_INTERRUPTED = 130

app = typer.Typer()


@app.command()
def report(
    file: Annotated[Path, typer.Option("--out", help="the HTML file; one that is there is written anew")],
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    live: Annotated[bool, typer.Option("--live", help="write it anew while the run goes on, until it is over")] = False,
    every: Annotated[float | None, typer.Option("--every", min=1, max=3600, help="seconds between; 10")] = None,
) -> None:
    """One HTML file that opens without a network: the verdict in words, accuracy, the tree at any round, posteriors,
    who wins where, judges, trainings, tokens and cost, failures, samples to read. The same log gives the same file.
    With --live the page that is open in a browser loads itself again."""
    from bohdi.report.writing import Writer

    if every is not None and not live:
        raise BadConfig("report: --every is of --live: give both")
    writer = Writer(run_place(dir, kafka, run), file)
    if not live:
        writer.read_on()
        writer.write()
        return print(file)
    every = every or 10.0
    print(f"{file}: written anew every {every:g} s until the run is over, or Ctrl-C", flush=True)
    try:
        writer.follow(every)
    except KeyboardInterrupt:
        print(f"bohdi: the run goes on: {file} stays as it is", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    return print(f"the run is over: {writer.over}")
