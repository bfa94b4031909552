"""`bohdi why`: where a sample, a domain or a version came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

import typer

from bohdi import why_view
from bohdi.cli_shared import Dir, Json, Kafka, Run, print_json
from bohdi.run_places import RunPlace, events, run_place

app = typer.Typer(no_args_is_help=True, help="Where a training sample, a domain or a version of the target came from.")

Top = Annotated[int, typer.Option("--top", min=1, help="lines of a list at most")]


@app.command()
def sample(
    number: Annotated[
        str, typer.Argument(metavar="N", help="run sequence of a harvest or rehearsal, or its event's id")
    ],
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    top: Top = 20,
    as_json: Json = False,
) -> None:
    """Who asked, what everybody answered, every verdict and its order, the draw and its probability, the versions of
    models and prompts, and which trainings used it."""
    from bohdi.analysis import why

    _tell(why.sample, why_view.sample, number, run_place(dir, kafka, run), top, as_json)


@app.command()
def node(
    path: Annotated[str, typer.Argument(metavar="PATH", help="names of the domains, as in 'Main > Secondary > Sub'")],
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    top: Top = 20,
    as_json: Json = False,
) -> None:
    """Who proposed a domain with how many votes, its rewards, and its rebirths with their statistics."""
    from bohdi.analysis import why

    _tell(why.node, why_view.node, path, run_place(dir, kafka, run), top, as_json)


@app.command()
def version(
    name: Annotated[str, typer.Argument(metavar="VERSION", help="r3, say, base or last")],
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    top: Top = 20,
    as_json: Json = False,
) -> None:
    """What a version of the target was trained on, from which version, its losses and its evaluations."""
    from bohdi.analysis import why

    _tell(why.version, why_view.version, name, run_place(dir, kafka, run), top, as_json)


def _tell(
    why: Callable[..., dict[str, Any]],
    view: Callable[[dict[str, Any], int], Iterator[str]],
    what: str,
    place: RunPlace,
    top: int,
    as_json: bool,
) -> None:
    told = why(partial(events, place), what)
    if as_json:
        return print_json(told)
    for line in view(told, top):
        print(line)
    return None
