"""`bohdi dead`: the inputs that could not be handled, as they were, and putting them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from bohdi import dead_letters
from bohdi.dead_letters import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Inputs that no service could handle, as they were.")

Dir = Annotated[Path | None, typer.Argument(help="the run's folder")]
Kafka = Annotated[str | None, typer.Option("--kafka", help="HOST:PORT of a Kafka broker; default: BOHDI_KAFKA")]
Run = Annotated[str | None, typer.Option("--run", help="only those of this run")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, one a line")]
Which = Annotated[list[int], typer.Option("--letter", help="number of a letter, as `list` gives it; may be repeated")]

_HEX_BYTES = 256


@app.command("list")
def list_(dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """One line a letter: its number, where it stood, why it is here, and what it is if it can be read."""
    for letter in dead_letters.of(dir, kafka, run):
        if as_json:
            print(json.dumps(_facts(letter), ensure_ascii=False))
        else:
            what = f"{letter.kind} of {letter.run_id}" if letter.kind else f"{len(letter.value)} bytes"
            print(f"{letter.number}  {letter.place}  {what}: {letter.reason}")


@app.command()
def show(letter: Which, dir: Dir = None, kafka: Kafka = None) -> None:
    """All that is known of some letters: the event as JSON where it can be read, else its first bytes."""
    for found in dead_letters.numbered(dir, kafka, letter):
        facts = _facts(found)
        if found.event is not None:
            facts["event"] = MessageToDict(found.event, preserving_proto_field_name=True)
        else:
            facts["bytes"] = found.value[:_HEX_BYTES].hex()
        print(json.dumps(facts, indent=1, ensure_ascii=False))


@app.command()
def requeue(letter: Which, dir: Dir = None, kafka: Kafka = None) -> None:
    """Puts the bytes of some letters back on their topic, where their service handles them again. Nothing is put back
    on the feedback log. The slot of a letter was settled as failed when it came here: a later result moves nothing."""
    for found in dead_letters.numbered(dir, kafka, letter):
        print(dead_letters.requeue(dir, kafka, found))


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "letter": letter.number,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "reason": letter.reason,
        "bytes_in_all": len(letter.value),
        "kind": letter.kind,
        "run_id": letter.run_id,
    }
