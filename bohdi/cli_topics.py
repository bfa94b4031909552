"""`bohdi topics`: the cluster's topics held to the registry."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from bohdi.cli_shared import Json, Kafka
from bohdi_common.log.kafka_settings import KafkaSettings

app = typer.Typer(no_args_is_help=True, help="The topics on a Kafka cluster, held to the registry.")

Replication = Annotated[
    int | None, typer.Option("--replication", min=1, max=16, help="copies; default: one a broker, at most 3")
]


@app.command()
def create(kafka: Kafka = None, replication: Replication = None, as_json: Json = False) -> None:
    """Makes what is missing and corrects what differs, as far as that harms no run. Done again it does nothing."""
    from bohdi_common.runtime.kafka_topics import Cluster

    done = Cluster(KafkaSettings.from_environment(kafka), replication).create()
    if as_json:
        print(json.dumps({"done": done.mended, "refused": done.refused}, indent=1))
    else:
        for line in done.mended:
            print(f"done: {line}")
        if not done.differences:
            print("every topic is as the registry has it")
    _refused(done.refused)


@app.command()
def check(kafka: Kafka = None, replication: Replication = None, as_json: Json = False) -> None:
    """Ends with 0 when every topic is as the registry has it, with 1 and a line for each difference when not."""
    if _differences(kafka, replication, as_json):
        sys.exit(1)


@app.command()
def diff(kafka: Kafka = None, replication: Replication = None, as_json: Json = False) -> None:
    """What differs from the registry; always ends with 0."""
    _differences(kafka, replication, as_json)


def _differences(kafka: str | None, replication: int | None, as_json: bool) -> list[str]:
    from bohdi_common.runtime.kafka_topics import Cluster

    found = Cluster(KafkaSettings.from_environment(kafka), replication).differences()
    if as_json:
        print(json.dumps({"differences": found.differences, "refused": found.refused}, indent=1))
    else:
        for line in found.differences:
            print(line)
    return found.differences


def _refused(lines: list[str]) -> None:
    for line in lines:
        print(f"bohdi: refused: {line}", file=sys.stderr)
    if lines:
        sys.exit(1)
