"""Questions to the log: the state at any moment, what lies between two, what other settings would have made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bohdi.analysis import points, travel
from bohdi.cli_shared import Dir, Json, Kafka, Run, out, print_json, wide
from bohdi.run_places import RunPlace, events, run_place
from bohdi_common.runtime.config import BadConfig

app = typer.Typer()

At = Annotated[str | None, typer.Option("--at", help="run sequence 1234, round:3 (its end), 2026-11-25T12:00:00Z")]
Top = Annotated[int, typer.Option("--top", min=1, help="rows of a table at most")]

_ON_KAFKA = "run:"


@app.command()
def replay(dir: Dir = None, kafka: Kafka = None, run: Run = None, at: At = None, as_json: Json = False) -> None:
    """Folds the log, up to a moment or all of it, and prints the hash of the state. Where a decision was made in that
    state its own hash of it stands beside; 1 when they differ."""
    place = run_place(dir, kafka, run)
    kept = travel.kept_states(place, at is not None)
    found = travel.moment(place, points.END if at is None else points.point(at), kept)
    shown: dict[str, Any] = {
        "events": found.state.sequence,
        "round": found.state.round,
        "nodes": sum(found.state.tree.nodes_by_level[1:]),
    }
    if found.recorded_sha256:
        shown["recorded_sha256"] = found.recorded_sha256
    shown["state_sha256"] = found.state_sha256
    if as_json:
        print_json(shown)
    else:
        for name, value in shown.items():
            print(f"{name} {value}")
    if found.differs:
        raise typer.Exit(1)


@app.command()
def diff(
    a: Annotated[
        str, typer.Argument(metavar="A[@AT]", help="folder of a run, or run:ID on Kafka; AT as in replay --at")
    ],
    b: Annotated[str, typer.Argument(metavar="B[@AT]", help="another run, or @AT: another moment of the same")],
    kafka: Kafka = None,
    top: Top = 20,
    as_json: Json = False,
) -> None:
    """What lies between two moments of a run, or of two: nodes born and reborn, posteriors moved, wins, samples."""
    from bohdi.analysis.diff import diff as difference
    from bohdi.analysis.diff import views

    (first, at_a), (second, at_b) = _named(a), _named(b)
    place = _place(first, kafka)
    if not second or second == first:
        before, after = views(events(place), [at_a, at_b])
    else:
        (before,), (after,) = views(events(place), [at_a]), views(events(_place(second, kafka)), [at_b])
    found = difference(before, after)
    if as_json:
        return print_json(found)
    return _print_diff(found, top)


def _named(text: str) -> tuple[str, points.Point]:
    """Run and moment of an argument; all of it names the run where what follows the last `@` is no moment."""
    run, at, moment = text.rpartition("@")
    if not at:
        return text, points.END
    if Path(text).is_dir():
        return text, points.END
    return run, points.point(moment) if moment else points.END


def _place(run: str, kafka: str | None) -> RunPlace:
    if run.startswith(_ON_KAFKA):
        return run_place(None, kafka, run.removeprefix(_ON_KAFKA))
    if not run:
        raise BadConfig("diff: the first moment is of no run: give A as a folder or run:ID")
    return run_place(Path(run), None, None)


def _print_diff(found: dict[str, Any], top: int) -> None:
    for side in ("a", "b"):
        of = found[side]
        told = f"{side}: {of['run_id']} after {of['events']} events, round {of['round']}, target {of['target_version']}"
        print(f"{told}, state_sha256 {of['state_sha256']}")
    for what in ("born", "gone"):
        if found[what]:
            named = [" > ".join(node["path"]) for node in found[what]]
            print(f"{what}: {len(named)}: {_some(named, top)}")
    if found["reborn"]:
        named = [f"{' > '.join(node['path'])} ({node['rebirths']:+d})" for node in found["reborn"]]
        print(f"reborn: {len(named)}: {_some(named, top)}")
    table = Table(title=f"posteriors that moved: {len(found['moved'])}, the most first")
    for column in ("domain", "a", "b", "moved"):
        table.add_column(column, justify="left" if column == "domain" else "right")
    for row in found["moved"][:top]:
        table.add_row(escape(" > ".join(row["path"])), _beta(row["a"]), _beta(row["b"]), f"{row['moved']:+.3f}")
    wide().print(table)
    wins = ", ".join(f"{model} {n['a']} -> {n['b']}" for model, n in found["wins"].items())
    print(f"wins: {wins or 'none'}")
    used = found["samples"]
    drawn = " -> ".join(f"{used[side]['drawn']} drawn, {used[side]['different']} different" for side in ("a", "b"))
    print(f"samples used: {drawn}")


def _beta(posterior: dict[str, Any]) -> str:
    return f"{posterior['lambda']:.3f} Beta({posterior['alpha']:g}, {posterior['beta']:g})"


def _some(names: list[str], top: int) -> str:
    more = f" and {len(names) - top} more" if len(names) > top else ""
    return ", ".join(names[:top]) + more


@app.command("what-if")
def what_if(
    dir: Dir = None,
    kafka: Kafka = None,
    run: Run = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, for all")] = None,
    grids: Annotated[list[str] | None, typer.Option("--grid", help="NAME=V1,V2,...: every combination")] = None,
    at: At = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="the hash of every variant's state")] = False,
    policy: Annotated[str, typer.Option("--policy", help="of draws, estimated: sharpness=S or uniform")] = "",
    top: Top = 20,
    as_json: Json = False,
) -> None:
    """The recorded outcomes folded under other settings: exact, for draws, answers and verdicts stay as they are. Made
    anew are rewards, windows, the sweeps of Introspection-Rebirth and the posteriors. With --policy what another policy
    of draws would have earned in the states the run went through: an estimate with its interval, or none and why."""
    from bohdi.analysis import what_if_view

    place = run_place(dir, kafka, run)
    moment = points.END if at is None else points.point(at)
    if policy:
        if sets or grids:
            raise BadConfig("what-if: --policy is of other draws, --set and --grid of the same ones: ask for one")
        return _print_estimate(place, policy, moment, as_json)
    told = what_if_view.told(events(place), sets or [], grids or [], moment, hashes)
    if as_json:
        return print_json(told)
    wide().print(what_if_view.table(told))
    if len(told["variants"]) == 1:
        wide().print(what_if_view.moved_table(told["variants"][0], top))
    for line in what_if_view.hash_lines(told):
        print(line)
    return out.print(what_if_view.FIXED, style="dim", markup=False, highlight=False)


def _print_estimate(place: RunPlace, said: str, at: points.Point, as_json: bool) -> None:
    from bohdi.analysis import off_policy

    found = off_policy.estimate(events(place), off_policy.policy(said), at)
    if as_json:
        return print_json({"policy": said} | found.told())
    print(f"recorded: mean reward {found.recorded:.3f} of {found.harvests} harvests that came of a draw from Root")
    if found.value is None:
        print(f"{said}: not to be told from this log: {found.refused}")
    else:
        told = f"{said}: mean reward {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] at 95%"
        print(f"{told}, as from {found.effective:.0f} harvests")
    if found.beyond >= 0.001:
        print(f"{found.beyond:.1%} of its draws are where the run nearly never drew: bounded by 0 and 1, not estimated")
    return out.print(off_policy.MEANS, style="dim", markup=False, highlight=False)
