"""bohdi simulate: runs that might have been, by the hundred, or one of them as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bohdi.cli_shared import Json, out, print_json, wide
from bohdi_common.runtime.config import BadConfig

app = typer.Typer()

_SEEDS_MAX = 100_000
_OF_A_RUN = 1_800
_SEEDS, _HARVESTS = 20, 1_000_000  # runs that nobody asked for: so many, if all together harvest no more


@app.command()
def simulate(
    model: Annotated[Path | None, typer.Argument(help="YAML file of a model of domains; default: 36 leaves")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="folder of a run to take the model from")] = None,
    policies: Annotated[list[str] | None, typer.Option("--policy", help="default, paper, uniform, ucb, ...")] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, max=_SEEDS_MAX, help="runs of each policy; default: 20, fewer if long"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the first; the others follow")] = 0,
    leaves: Annotated[int | None, typer.Option("--leaves", min=1, help="a given tree of so many, a cube")] = None,
    harvests: Annotated[
        int | None,
        typer.Option("--harvests", min=1, help="of a run, in whole rounds; default: 1800, or enough for --log"),
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="bandit.NAME=VALUE or training.NAME=VALUE")] = None,
    mean: Annotated[float, typer.Option("--mean", min=0, max=1, help="weakness that is to be reached")] = 0.2,
    log: Annotated[
        Path | None, typer.Option("--log", help="a new folder: one run with its events, as recorded")
    ] = None,
    events: Annotated[int, typer.Option("--events", min=1, help="of --log at most")] = 1_000_000,
    text_bytes: Annotated[int, typer.Option("--text-bytes", min=0, max=100_000, help="of each text in --log")] = 0,
    write_model: Annotated[
        Path | None, typer.Option("--write-model", help="writes the model as YAML, runs none")
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulates whole runs on a model of domains: by hand, or taken from a run's log with --from. Prints regret,
    coverage, imbalance, harvests to a mean and rebirths of each policy, with 95% intervals over the seeds. --log DIR
    writes one run as the services record it, for all commands that read a run."""
    chosen = _model(model, source, leaves)
    if write_model is not None:
        return _write(chosen, write_model)
    names = policies or ["default"]
    if log is not None:
        return _record(chosen, names, seed, log, events, text_bytes, sets or [], harvests, as_json)
    from bohdi.simulator.policies import check
    from bohdi.simulator.report import compare, report
    from bohdi.simulator.setup import simulations

    for name in names:
        check(name)
    harvests = harvests or _OF_A_RUN
    runs = seeds or max(1, min(_SEEDS, _HARVESTS // harvests))
    numbers = range(seed, seed + runs)
    found = {name: report(simulations(chosen, name, numbers, harvests, sets or []), mean) for name in names}
    compare(found)
    if as_json:
        return print_json({"model": chosen.model_dump(mode="json"), "mean": mean, "seeds": runs, "policies": found})
    return _print(found, runs, mean)


def _model(file: Path | None, source: Path | None, leaves: int | None) -> Any:
    from bohdi.simulator import model as models

    if sum(given is not None for given in (file, source, leaves)) > 1:
        raise BadConfig("simulate: a file of domains, --from and --leaves exclude each other: give one")
    if source is not None:
        from bohdi.run_places import events, run_place
        from bohdi.simulator.calibration import calibrated

        return calibrated(events(run_place(source, None, None)))
    if leaves is not None:
        side = next(side for side in range(1, leaves + 1) if side**3 >= leaves)
        return models.parse({"width": (side, side, side), "given": True}, f"--leaves {leaves}")
    return models.DomainModel() if file is None else models.load(file)


def _write(model: Any, file: Path) -> None:
    import yaml

    if file.exists():
        raise BadConfig(f"{file}: exists already: name a new file")
    file.write_text(yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True), "utf-8")
    print(f"model of {len(model.paths)} leaves: {file}")


def _record(
    model: Any,
    policies: list[str],
    seed: int,
    dir: Path,
    events: int,
    text_bytes: int,
    sets: list[str],
    harvests: int | None,
    as_json: bool,
) -> None:
    from itertools import islice

    from bohdi.run_folder import RunFolder
    from bohdi.simulator import recorded
    from bohdi.simulator.setup import configuration, settings
    from bohdi_common.core.state import state_sha256

    if len(policies) > 1 or policies[0] not in ("default", "paper"):
        raise BadConfig("--log: one policy that the bandit service can follow: default or paper")
    if harvests is None:  # the hash of every round costs the state: a long log has some hundred rounds
        harvests, sets = events, [f"bandit.steps={max(3, events // 3_000)}", *sets]
    config = configuration(model, policies[0], harvests, sets)
    made = recorded.Recording(model, settings(config, seed), text_bytes)
    written = recorded.write(RunFolder(dir), config, islice(made.events(), events))
    told = {"events": written, "finished": made.bandit.state.finished, "state_sha256": state_sha256(made.bandit.state)}
    if as_json:
        return print_json(told)
    for name, value in told.items():
        print(f"{name} {value}")
    return None


def _print(found: dict[str, Any], seeds: int, mean: float) -> None:
    from bohdi.simulator.report import FIGURES, rows

    table = Table(title=f"{seeds} seeds, a mean weakness of {mean:g} to be reached; 95% intervals")
    for column in ("policy", *FIGURES):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for row in rows(found.items()):
        table.add_row(*row)
    wide().print(table)
    for name, meaning in FIGURES.items():
        out.print(f"{name}: {meaning}", style="dim", markup=False, highlight=False)
