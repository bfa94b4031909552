"""`bohdi dead`: what no service could handle, looked at and put back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from bohdi.cli_shared import Dir, Json, Kafka
from bohdi.dead_letters import FolderDead, KafkaDead, Letter, NotRequeued, letters
from bohdi.run_folder import RunFolder
from bohdi.visible import json_text, visible
from bohdi_common.events import codec
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.runtime.config import BadConfig

_PROBLEMS = 1
_REASON_CHARS = 100  # of a reason in the list; `show` has all of it
_DUMPED_BYTES = 256
_ROW_BYTES = 16

app = typer.Typer(
    no_args_is_help=True,
    help="What no service could handle (bohdi.dead), looked at and put back. DIR is the folder of a run; without it "
    "the letters of a cluster's runs are meant, with --run those whose event is of that run.",
)

Named = Annotated[list[str], typer.Argument(metavar="[DIR] N...", help="the run's folder, and numbers as `list` has")]
Run = Annotated[str | None, typer.Option("--run", help="only letters whose event is of this run")]


@app.command("list")
def list_(dir: Dir = None, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """One line for each: number, where it stood, size, kind and run of its event, and why it is here."""
    some = False
    for letter in letters(_place(dir, kafka).records(), run):
        facts, some = _facts(letter), True
        if as_json:
            print(json_text(facts))
        else:
            of = f"{facts['kind']} of {facts['run']}" if facts["kind"] else "no event"
            stood = letter.stood or "(written by another program)"
            print(f"{letter.number}  {stood}  {facts['bytes']} bytes  {of}  {visible(facts['reason'][:_REASON_CHARS])}")
    if not some and not as_json:
        print("no dead letters")


@app.command()
def show(named: Named, kafka: Kafka = None, run: Run = None, as_json: Json = False) -> None:
    """Headers and event of a letter, or the first of its bytes where they are none."""
    place, numbers = _named(named, kafka)
    for letter in _found(place, numbers, run):
        event = letter.event
        body = MessageToDict(event, preserving_proto_field_name=True) if event else None
        if as_json:
            print(json_text({**_facts(letter), "event": body, "hex": letter.stored.value.hex()}))
            continue
        print(f"number: {letter.number}\nkey: {letter.stored.key!r}\nbytes: {len(letter.stored.value)}")
        for name, value in letter.stored.headers:
            print(f"{name}: {visible(value)}")
        print(json_text(body, indent=1) if body else _dump(letter.stored.value))


@app.command()
def requeue(named: Named, kafka: Kafka = None, run: Run = None) -> None:
    """Puts the bytes of letters back on their topic, as new records that their service handles again.

    Never onto bohdi.feedback: what stands there is what the runs are. A slot that was settled as failed meanwhile stays
    settled: what comes of the requeued request is counted as late and moves nothing. So requeue what is still waited
    for, once its service was mended or updated. Done twice it is done once. Ends with 1 when a letter was refused."""
    place, numbers = _named(named, kafka)
    refused = False
    for letter in _found(place, numbers, run):
        try:
            record = letter.requeued()
            print(f"{letter.number}: {record.topic}, as {record.event_id}: {place.requeue(record)}")
        except NotRequeued as error:
            refused = True
            print(f"bohdi: refused: {error}", file=sys.stderr)
    if refused:
        sys.exit(_PROBLEMS)


def _place(dir: Path | None, kafka: str | None) -> FolderDead | KafkaDead:
    if dir is not None and kafka is not None:
        raise BadConfig("dead: whose letters? give a folder or --kafka, not both")
    return FolderDead(RunFolder(dir)) if dir is not None else KafkaDead(KafkaSettings.from_environment(kafka))


def _named(named: list[str], kafka: str | None) -> tuple[FolderDead | KafkaDead, list[str]]:
    """The place and the numbers that are meant. A folder named like a number is to be written with a slash."""
    dir, numbers = (None, named) if _is_number(named[0]) else (Path(named[0]), named[1:])
    if wrong := [text for text in numbers if not _is_number(text)]:
        raise BadConfig(f"dead: not a letter's number: {wrong[0]!r}; `bohdi dead list` has them")
    if not numbers:
        raise BadConfig("dead: which letters? give their numbers; `bohdi dead list` has them")
    return _place(dir, kafka), numbers


def _is_number(text: str) -> bool:
    return text.replace(":", "", 1).isdecimal()


def _found(place: FolderDead | KafkaDead, numbers: list[str], run: str | None) -> list[Letter]:
    """The letters in the order of their numbers as given. Raises BadConfig when one is not there."""
    wanted = set(numbers)
    there = {letter.number: letter for letter in letters(place.records(), run) if letter.number in wanted}
    if missing := [number for number in numbers if number not in there]:
        raise BadConfig(f"dead: {place.how_to} has no letter {missing[0]}; `bohdi dead list` has those that there are")
    return [there[number] for number in dict.fromkeys(numbers)]


def _facts(letter: Letter) -> dict[str, Any]:
    event = letter.event
    return {
        "number": letter.number,
        "topic": letter.told("topic"),
        "partition": letter.told("partition"),
        "offset": letter.told("offset"),
        "reason": letter.told("reason"),
        "bytes": len(letter.stored.value),
        "kind": codec.kind_of(event) if event else "",
        "run": event.run_id if event else "",
    }


def _dump(value: bytes) -> str:
    """The first bytes in hexadecimal, and as text where they are some."""
    rows = []
    for start in range(0, min(len(value), _DUMPED_BYTES), _ROW_BYTES):
        row = value[start : start + _ROW_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{start:08x}  {row.hex(' '):<{3 * _ROW_BYTES}} {text}")
    more = [f"... {len(value) - _DUMPED_BYTES} more"] if len(value) > _DUMPED_BYTES else []
    return "\n".join([*rows, *more]) or "(no bytes)"
