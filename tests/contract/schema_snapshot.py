"""The schema as it was last released, and which changes of it break what is in the logs already.

`python -m tests.contract.schema_snapshot` writes schema_snapshot.json anew from the proto; it refuses to do so when
something was changed or taken away rather than added.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from bohdi_common.events import events_pb2

FILE = Path(__file__).with_suffix(".json")
_TYPES = {
    getattr(FieldDescriptor, name): name[5:].lower() for name in vars(FieldDescriptor) if name.startswith("TYPE_")
}

Snapshot = dict[str, dict[str, dict[str, Any]]]


def snapshot() -> Snapshot:
    """`messages`: message -> field -> number, type, label, oneof. `enums`: enum -> value -> number."""
    file = events_pb2.DESCRIPTOR
    return {
        "messages": {name: _fields(message) for name, message in sorted(file.message_types_by_name.items())},
        "enums": {
            name: {value.name: value.number for value in enum.values}
            for name, enum in sorted(file.enum_types_by_name.items())
        },
    }


def _fields(message: Descriptor) -> dict[str, Any]:
    return {
        f.name: {
            "number": f.number,
            "type": _type(f),
            "label": "repeated" if f.is_repeated else "one",
            "oneof": f.containing_oneof.name if f.containing_oneof else None,
        }
        for f in message.fields
    }


def _type(f: FieldDescriptor) -> str:
    named = f.message_type or f.enum_type
    return named.full_name if named else _TYPES[f.type]


def breaks(old: Snapshot, new: Snapshot) -> list[str]:
    """What of `old` is not as it was in `new`, a line each: a name taken away, a number, type, label or oneof changed,
    a number given to another name. Empty when things were only added."""
    return [*_broken_messages(old["messages"], new["messages"]), *_broken_enums(old["enums"], new["enums"])]


def _broken_messages(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    told = []
    for message, fields in old.items():
        if message not in new:
            told.append(f"{message}: was taken away")
            continue
        for name, was in fields.items():
            now = new[message].get(name)
            if now is None:
                told.append(f"{message}.{name}: was taken away: keep it and comment that it is no longer written")
            else:
                told += [f"{message}.{name}: {k} was {was[k]}, is {now[k]}" for k in was if was[k] != now[k]]
        told += _reused(message, {n: f["number"] for n, f in fields.items()}, new[message], "number")
    return told


def _broken_enums(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    told = []
    for enum, values in old.items():
        for name, number in values.items():
            now = new.get(enum, {}).get(name)
            if now != number:
                told.append(f"{enum}.{name}: was {number}, is {'taken away' if now is None else now}")
        told += _reused(enum, values, {n: {"number": v} for n, v in new.get(enum, {}).items()}, "number")
    return told


def _reused(owner: str, old: dict[str, int], new: dict[str, Any], key: str) -> list[str]:
    held = {number: name for name, number in old.items()}
    return [
        f"{owner}.{name}: takes the number {now[key]} of {held[now[key]]}"
        for name, now in new.items()
        if name not in old and now[key] in held
    ]


def main() -> int:
    told = breaks(json.loads(FILE.read_text()), snapshot()) if FILE.exists() else []
    if told:
        print("not written, the proto breaks what is in the logs:", *told, sep="\n  ")
        return 1
    FILE.write_text(json.dumps(snapshot(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
