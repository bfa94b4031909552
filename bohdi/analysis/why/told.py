"""What the three questions share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bohdi_common.events.events_pb2 import Event

Events = Callable[[], Iterable[Event]]

SAMPLES = ("harvest_judged", "rehearsal_answered")  # kinds of events that may be trained on
NAMED_MOST = 10  # domains or versions in a complaint


def plain(message: Any) -> dict[str, Any]:
    """A message as plain values by its fields' names: whole numbers stay such, enums are their names, and a field that
    is absent, where there is such a thing, is left out."""
    return {
        field.name: _plain_value(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _plain_value(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [plain(part) if field.message_type else part for part in value]
    if field.message_type:
        return plain(value)
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value
