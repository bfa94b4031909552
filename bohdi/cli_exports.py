"""A run as files for others: tables and SQL over them, training sets."""

from __future__ import annotations

import math
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bohdi.cli_shared import Dir, Json, Kafka, Run, out, print_json, wide
from bohdi.run_places import run_place
from bohdi.visible import visible
from bohdi_common.runtime.config import BadConfig

app = typer.Typer()

To = Annotated[Path, typer.Option("--to", help="a new folder")]


@app.command()
def export(to: To, dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """A run's tables as parquet files, one DuckDB file with views, and a model card for each version: from the log
    alone."""
    from bohdi.exports.run_tables import export as written

    contents = written(run_place(dir, kafka, run), to)
    if as_json:
        return print_json(contents)
    counted = ", ".join(f"{rows} {name}" for name, rows in contents["rows"].items() if rows)
    return print(f"{to}: {contents['events']} events of {contents['run_id']}: {counted}")


@app.command()
def sql(
    source: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="the run's folder, or that of an export, which is faster")
    ] = None,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="one SELECT")] = "",
    kafka: Kafka = None,
    run: Run = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="rows at most")] = 1000,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, max=86_400, help="seconds at most")] = 60.0,
    as_json: Json = False,
) -> None:
    """Asks a run's tables and views in SQL: `SHOW TABLES` has them, `DESCRIBE harvests` the columns. It can only
    read."""
    from bohdi.exports import database

    if run is not None and not query:
        source, query = None, source or ""
    folder = None if source is None else Path(source)
    if not query:
        raise BadConfig('sql: what is asked? give a run and one SELECT: bohdi sql DIR "SELECT * FROM wins"')
    if folder is not None and (folder / database.DATABASE).is_file():
        return _print(database.ask(folder / database.DATABASE, query, limit, timeout_s), as_json)
    from bohdi.exports.run_tables import export as written

    with tempfile.TemporaryDirectory(prefix="bohdi-sql-") as aside:
        written(run_place(folder, kafka, run), Path(aside) / "tables")
        return _print(database.ask(Path(aside) / "tables" / database.DATABASE, query, limit, timeout_s), as_json)


def _print(found: Any, as_json: bool) -> None:
    if as_json:
        rows = [dict(zip(found.columns, map(_plain, row), strict=True)) for row in found.rows]
        return print_json({"rows": rows, "more": found.more})
    table = Table()
    for name in found.columns:
        table.add_column(Text(visible(name)))
    for row in found.rows:
        table.add_row(*(Text(_shown(value)) for value in row))
    wide().print(table)
    if found.more:
        out.print(f"and more: --limit {len(found.rows)} rows are shown", style="dim")
    return None


def _plain(value: Any) -> Any:
    """What JSON has a form for."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else str(value)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return visible(" > ".join(value))
    return visible(str(value))


@app.command("export-data")
def export_data(to: To, dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """A run's samples as sets for supervised fine-tuning and for preferences, in the layout of Hugging Face's
    `datasets`, with a card: from the log alone."""
    from bohdi.exports.training_sets import export_data as written

    rows = written(run_place(dir, kafka, run), to)
    if as_json:
        return print_json(rows)
    return print(f"{to}: {', '.join(f'{count} rows of {name}' for name, count in rows.items())}")
