"""Whatever another program wrote comes through as a record, and can go on to the dead letters."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.events.topics import DEAD
from bohdi_common.log.kafka_records import encoded, key_bytes, stored
from bohdi_common.runtime.shell import CUT_FROM, dead_record

NAMES = st.one_of(st.text(), st.sampled_from(["event-id", "topic", "offset", ""]))
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=70_000)), max_size=5)


@dataclass
class Consumed:
    """A consumer's record, as kafka-python and aiokafka have them."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    partition: int = 3
    offset: int = 7


@given(st.none() | st.binary(max_size=5_000), st.none() | st.binary(), HEADERS, st.text())
def test_any_record_is_read_and_its_dead_letter_can_be_written(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], reason: str
) -> None:
    read = stored("topic", Consumed(key, value, headers))
    assert (read.value, key_bytes(read.key)) == (value or b"", key or b"")
    letter = dead_record(read, reason)
    written = encoded(letter, ())
    assert written["value"] == read.value
    assert dict(letter.headers)["offset"] == "7"
    assert CUT_FROM not in dict(letter.headers)


def test_a_record_without_an_id_is_known_by_where_it_stands() -> None:
    assert stored("topic", Consumed(None, None)).event_id == "topic/3/7"


def test_half_a_character_in_a_reason_stops_no_letter() -> None:
    letter = dead_record(stored("topic", Consumed(b"\xff", b"")), "cut \ud83d here")
    assert dict(encoded(letter, ())["headers"])["reason"] == b"cut ? here"


def test_what_is_longer_than_the_dead_topic_takes_is_cut_and_says_so() -> None:
    letter = dead_record(stored("topic", Consumed(None, bytes(DEAD.max_record_bytes + 9))), "long")
    assert len(letter.value) == DEAD.max_record_bytes
    assert dict(letter.headers)[CUT_FROM] == str(DEAD.max_record_bytes + 9)
