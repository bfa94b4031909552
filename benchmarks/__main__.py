"""The table of what the system costs, each row a ratio to something measured in the same run.

`python -m benchmarks [--only WORDS] [--strict]` prints the table and writes benchmarks/results.json. A row that could
not be measured is named, and the exit code is 1. A floor that is not reached is shown as such; it is an error (exit
code 1) only with `--strict`, because most floors are absolute numbers and a busy or slow machine misses them. The made
logs in benchmarks/work/ take two or three minutes the first time. The rows over Kafka share one broker of the bench's
own.

To add a row: one function that gives a `Measured`, in the module of its group, and one entry in ROWS.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    appends,
    draws,
    exports,
    folds,
    local_models,
    long_log,
    rebirth,
    replay,
    reports,
    service_events,
    simulations,
    what_if,
    whole_runs,
)
from benchmarks.rows import Floor, Measured, Result, Row, result

RESULTS = Path("benchmarks/results.json")


def _whole_runs(how: str, run: Callable[[int, float], Measured], floor: Floor) -> list[Row]:
    return [
        Row(f"whole run, {how}, capacity {capacity}, {latency_s} s a call", partial(run, capacity, latency_s), floor)
        for capacity, latency_s in ((2, 0.1), (8, 0.1), (32, 0.1), (32, 0.5))
    ]


ROWS = (
    Row("path draws, B = 30, 1k leaves", partial(draws.per_second, 10, 10, 10)),
    Row("path draws, B = 30, 10k leaves", partial(draws.per_second, 22, 22, 21)),
    Row("path draws, B = 30, 90k leaves", partial(draws.per_second, 45, 45, 45), Floor(60_000)),
    Row("folds, 1k events of 300 bytes", partial(folds.many_times, folds.START)),
    Row("folds, 1M events of 300 bytes", partial(folds.throughout, folds.SHORT), Floor(80_000)),
    Row("folds, 100k events as the demo's", partial(folds.many_times, folds.AS_IN_THE_DEMO)),
    Row("folds, 50k events of 4 kB", partial(folds.many_times, folds.LONG)),
    Row("what-if, 50 settings in one pass", partial(what_if.in_replays, False), Floor(5, most=True)),
    Row("what-if, 50 settings, two rules of rewards", partial(what_if.in_replays, True), Floor(5, most=True)),
    Row("export, 100k events as the demo's", exports.tables),
    Row("export-data, 100k events as the demo's", exports.training_sets),
    Row("report, 100k events as the demo's", partial(reports.written, folds.AS_IN_THE_DEMO)),
    *(
        Row(f"{command}, 1M events with texts", partial(long_log.THE_LOG.read_by, command))
        for command in ("replay", "verify", "export", "report")
    ),
    Row("simulation, 200 runs side by side", simulations.per_second, Floor(5, ratio=True)),
    Row("IR, 90k windows, two-sample", partial(rebirth.milliseconds, "two_sample", 0.05), Floor(20, most=True)),
    Row("IR, 90k windows, paper", partial(rebirth.milliseconds, "paper", 0.2), Floor(10, most=True)),
    Row("durable appends, 1 caller", partial(appends.per_second, 1)),
    Row("durable appends, 64 callers", partial(appends.per_second, 64)),
    Row("local adapter, 1 caller", partial(local_models.per_second, 1)),
    Row("local adapter, 32 callers", partial(local_models.per_second, 32)),
    Row("local adapter, 128 callers", partial(local_models.per_second, 128), Floor(15, ratio=True)),
    *_whole_runs("embedded", whole_runs.embedded, Floor(0.95, ratio=True)),  # before there is a broker beside them
    *_whole_runs("over Kafka", whole_runs.over_kafka, Floor(0.9, ratio=True)),  # before it holds what others wrote
    Row("service events, against faust", partial(service_events.per_second, "faust"), Floor(1 / 1.3, ratio=True)),
    Row("service events, against aiokafka", partial(service_events.per_second, "aiokafka")),
    Row("service events, 1 partition, 2 workers", partial(service_events.per_second, "faust", 1, 2)),
    Row("service events, 4 partitions, 1 worker", partial(service_events.per_second, "faust", 4, 1)),
    Row("service events, 4 partitions, 2 workers", partial(service_events.per_second, "faust", 4, 2)),
    Row("replay from Kafka, against kafka-python", replay.against_kafka_python),
    Row("replay from Kafka, against aiokafka", replay.against_aiokafka),
    Row("replay from Kafka, against SQLite", replay.against_sqlite),
)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the rows whose name holds this; writes no file")
    parser.add_argument("--strict", action="store_true", help="a floor that is not reached is an error")
    arguments = parser.parse_args()
    results, missing = measured([row for row in ROWS if arguments.only in row.name])
    Console(width=150).print(_table(results))
    if not arguments.only:
        RESULTS.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8")
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    below = [r.name for r in results if r.met is False]
    print(f"floors not reached: {', '.join(below) or 'none'}")
    return 1 if missing or (below and arguments.strict) else 0


def measured(rows: Sequence[Row]) -> tuple[list[Result], list[str]]:
    """The rows' results, and a line for each row that could not be measured: the others are worth having."""
    results: list[Result] = []
    missing: list[str] = []
    for row in rows:
        print(f"{row.name} ...", file=sys.stderr, flush=True)
        try:
            results.append(result(row))
        except Exception as error:
            missing.append(f"{row.name}: {type(error).__name__}: {error}")
    return results, missing


def _table(results: list[Result]) -> Table:
    table = Table("row", "value", "unit", "against", "ratio", "floor", "met")
    for r in results:
        met = "" if r.met is None else "yes" if r.met else "NO"
        table.add_row(r.name, _short(r.value), r.unit, r.against, _short(r.ratio), r.rule, met)
    return table


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
