"""What every event log promises. An adapter's test subclasses `EventLogContract` and says how to open its log."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bohdi_common.log.port import Done, EventLog, Record, Stored

PROMPT_S = 2.0  # Far above what a wake-up takes, far below what a test may hang.


def record(name: str, topic: str = "facts", key: str = "run", value: bytes = b"value") -> Record:
    return Record(topic=topic, key=key, event_id=name, value=value)


def ids(log: EventLog, topic: str = "facts", start: int = 0, stop: int | None = None) -> list[str]:
    return [stored.event_id for stored in log.read(topic, start, stop)]


async def first(count: int, following: AsyncIterator[Stored]) -> list[Stored]:
    return [await asyncio.wait_for(anext(following), PROMPT_S) for _ in range(count)]


class EventLogContract(ABC):
    @abstractmethod
    async def open(self, folder: Path) -> EventLog:
        """Opens the log that lives in `folder`: a new one at the first call, the same one after a `close`."""

    async def reopen(self, log: EventLog, folder: Path) -> EventLog:
        await log.close()
        return await self.open(folder)

    @pytest.fixture
    async def log(self, tmp_path: Path) -> AsyncIterator[EventLog]:
        log = await self.open(tmp_path)
        yield log
        await log.close()

    # Appending and reading

    async def test_what_is_appended_is_read_back_as_it_was(self, log: EventLog) -> None:
        await log.append([Record("facts", "run-1", "a", b"\0one"), Record("facts", "run-2", "b", b"two")])
        assert list(log.read("facts")) == [
            Stored("facts", 0, "run-1", "a", b"\0one"),
            Stored("facts", 1, "run-2", "b", b"two"),
        ]

    async def test_a_topic_without_records_is_empty(self, log: EventLog) -> None:
        assert list(log.read("facts")) == []
        assert log.end("facts") == 0

    async def test_offsets_follow_on_each_other_in_each_topic(self, log: EventLog) -> None:
        assert await log.append([record("a"), record("b", "other"), record("c")]) == [0, 0, 1]
        assert await log.append([record("d", "other"), record("e")]) == [1, 2]
        assert (log.end("facts"), log.end("other")) == (3, 2)

    async def test_topics_do_not_mix(self, log: EventLog) -> None:
        await log.append([record("a"), record("b", "other"), record("c")])
        assert ids(log) == ["a", "c"]
        assert ids(log, "other") == ["b"]

    async def test_the_order_within_an_append_is_kept(self, log: EventLog) -> None:
        names = [f"event {i}" for i in range(1000)]
        assert await log.append([record(name) for name in names]) == list(range(1000))
        assert ids(log) == names

    async def test_reading_starts_and_stops_where_it_is_told(self, log: EventLog) -> None:
        await log.append([record(str(i)) for i in range(700)])
        assert ids(log, start=350) == [str(i) for i in range(350, 700)]
        assert ids(log, start=350, stop=353) == ["350", "351", "352"]
        assert ids(log, start=698, stop=2000) == ["698", "699"]
        assert ids(log, start=5, stop=5) == ids(log, start=9, stop=5) == ids(log, start=700) == []

    async def test_reading_ends_where_the_topic_ended_at_the_call(self, log: EventLog) -> None:
        await log.append([record("a")])
        reading = log.read("facts")
        await log.append([record("b")])
        assert [stored.event_id for stored in reading] == ["a"]

    async def test_a_position_below_zero_is_refused(self, log: EventLog) -> None:
        with pytest.raises(ValueError, match="start must not be below 0: -1"):
            log.read("facts", -1)
        with pytest.raises(ValueError, match="start must not be below 0: -1"):
            await anext(log.follow("facts", -1))

    @pytest.mark.parametrize("value", [b"", b"\0", bytes(range(256)) * 4096], ids=["empty", "zero", "1 MB"])
    async def test_any_value_is_kept(self, log: EventLog, value: bytes) -> None:
        await log.append([record("a", value=value)])
        assert next(iter(log.read("facts"))).value == value

    @pytest.mark.parametrize("text", ["", "Богдан", "ключ\n\t'\";--", "🌳" * 50])
    async def test_any_text_is_a_key_and_an_id(self, log: EventLog, text: str) -> None:
        await log.append([record(text, key=text)])
        assert [(stored.key, stored.event_id) for stored in log.read("facts")] == [(text, text)]

    async def test_headers_are_kept(self, log: EventLog) -> None:
        headers = (("reason", "нет: 'x'\n"), ("offset", "7"), ("offset", ""))
        await log.append([Record("facts", "run", "a", b"value", headers), record("b")])
        assert [stored.headers for stored in log.read("facts")] == [headers, ()]

    async def test_an_append_of_nothing_writes_nothing(self, log: EventLog) -> None:
        assert await log.append([]) == []
        assert log.end("facts") == 0

    # Idempotence

    async def test_an_id_twice_in_one_append_is_written_once(self, log: EventLog) -> None:
        assert await log.append([record("a"), record("a", value=b"late"), record("b")]) == [0, 0, 1]
        assert [(s.event_id, s.value) for s in log.read("facts")] == [("a", b"value"), ("b", b"value")]

    async def test_an_id_that_is_there_is_not_written_again(self, log: EventLog) -> None:
        await log.append([record("a"), record("b")])
        assert await log.append([record("c"), record("b"), record("a")]) == [2, 1, 0]
        assert ids(log) == ["a", "b", "c"]

    async def test_an_id_that_is_there_is_not_written_again_after_reopening(
        self, log: EventLog, tmp_path: Path
    ) -> None:
        await log.append([record("a"), record("b")])
        again = await self.reopen(log, tmp_path)
        assert await again.append([record("b"), record("c")]) == [1, 2]
        assert ids(again) == ["a", "b", "c"]
        await again.close()

    async def test_an_id_may_stand_in_several_topics(self, log: EventLog) -> None:
        assert await log.append([record("a"), record("a", "other")]) == [0, 0]
        assert ids(log) == ids(log, "other") == ["a"]

    async def test_one_id_from_many_callers_at_once_is_written_once(self, log: EventLog) -> None:
        offsets = await asyncio.gather(*(log.append([record("a")]) for _ in range(50)))
        assert offsets == [[0]] * 50
        assert ids(log) == ["a"]

    # Many callers

    async def test_appends_of_many_callers_stay_whole_and_keep_each_callers_order(self, log: EventLog) -> None:
        async def caller(name: str) -> None:
            for i in range(10):
                offsets = await log.append([record(f"{name}-{i}-{part}") for part in range(3)])
                assert offsets == [offsets[0], offsets[0] + 1, offsets[0] + 2]

        await asyncio.gather(*(caller(f"c{i}") for i in range(20)))
        seen = ids(log)
        assert len(seen) == len(set(seen)) == 600
        for i in range(20):
            mine = [name for name in seen if name.startswith(f"c{i}-")]
            assert mine == [f"c{i}-{j}-{part}" for j in range(10) for part in range(3)]

    async def test_a_cancelled_caller_does_not_disturb_the_others(self, log: EventLog) -> None:
        calls = [asyncio.create_task(log.append([record(str(i))])) for i in range(20)]
        await asyncio.sleep(0)
        calls[7].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(done[7], asyncio.CancelledError)
        assert {str(i) for i in range(20) if i != 7} <= set(ids(log))

    # Following

    async def test_following_gives_what_is_there_and_then_what_comes(self, log: EventLog) -> None:
        await log.append([record(str(i)) for i in range(600)])
        following = log.follow("facts", 1)
        assert [stored.offset for stored in await first(599, following)] == list(range(1, 600))
        waiting = asyncio.create_task(first(2, following))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await log.append([record("b"), record("c")])
        assert [stored.event_id for stored in await waiting] == ["b", "c"]

    async def test_followers_of_a_topic_wake_up_promptly(self, log: EventLog) -> None:
        followers = [asyncio.create_task(first(1, log.follow("facts", 0))) for _ in range(5)]
        bystander = asyncio.create_task(first(1, log.follow("other", 0)))
        await asyncio.sleep(0.05)
        await log.append([record("a")])
        woken = await asyncio.wait_for(asyncio.gather(*followers), PROMPT_S)
        assert [stored.event_id for (stored,) in woken] == ["a"] * 5
        assert not bystander.done()
        bystander.cancel()

    async def test_following_from_beyond_the_end_waits_for_that_offset(self, log: EventLog) -> None:
        following = asyncio.create_task(first(1, log.follow("facts", 2)))
        await log.append([record("a"), record("b")])
        await asyncio.sleep(0.05)
        assert not following.done()
        await log.append([record("c")])
        assert await following == [Stored("facts", 2, "run", "c", b"value")]

    async def test_a_follower_misses_nothing_of_many_writers(self, log: EventLog) -> None:
        following = asyncio.create_task(first(200, log.follow("facts", 0)))
        await asyncio.gather(*(log.append([record(str(i))]) for i in range(200)))
        assert [stored.offset for stored in await following] == list(range(200))

    async def test_following_ends_when_the_log_is_closed(self, tmp_path: Path) -> None:
        log = await self.open(tmp_path)
        await log.append([record("a")])

        async def follow(topic: str) -> list[str]:
            return [stored.event_id async for stored in log.follow(topic, 0)]

        followers = [asyncio.create_task(follow(topic)) for topic in ("facts", "facts", "other")]
        await asyncio.sleep(0.05)
        await log.close()
        assert await asyncio.wait_for(asyncio.gather(*followers), PROMPT_S) == [["a"], ["a"], []]

    # Closing

    async def test_closing_finishes_the_appends_under_way(self, tmp_path: Path) -> None:
        log = await self.open(tmp_path)
        calls = [asyncio.create_task(log.append([record(str(i))])) for i in range(50)]
        await asyncio.sleep(0)
        await log.close()
        assert sorted(offset for (offset,) in await asyncio.gather(*calls)) == list(range(50))
        again = await self.open(tmp_path)
        assert sorted(ids(again), key=int) == [str(i) for i in range(50)]
        await again.close()

    async def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        log = await self.open(tmp_path)
        await log.close()
        await log.close()

    async def test_records_outlive_reopening(self, log: EventLog, tmp_path: Path) -> None:
        await log.append([record("a"), record("b", "other")])
        again = await self.reopen(log, tmp_path)
        assert await again.append([record("c")]) == [1]
        assert (ids(again), ids(again, "other")) == (["a", "c"], ["b"])
        await again.close()

    # Done marks

    async def test_the_cursor_is_the_lowest_offset_without_a_mark(self, log: EventLog) -> None:
        await log.append([record(str(i)) for i in range(6)])
        assert (log.cursor("judge", "facts"), log.done_beyond("judge", "facts")) == (0, set())
        expected = [(2, 0, {2}), (4, 0, {2, 4}), (0, 1, {2, 4}), (1, 3, {4}), (3, 5, set()), (5, 6, set())]
        for offset, cursor, beyond in expected:
            await log.append([], Done("judge", "facts", offset))
            assert (log.cursor("judge", "facts"), log.done_beyond("judge", "facts")) == (cursor, beyond)

    async def test_a_mark_set_again_changes_nothing(self, log: EventLog) -> None:
        await log.append([record(str(i)) for i in range(4)])
        for offset in (0, 0, 2, 2, 0):
            await log.append([], Done("judge", "facts", offset))
        assert (log.cursor("judge", "facts"), log.done_beyond("judge", "facts")) == (1, {2})

    async def test_marks_are_kept_apart_by_consumer_and_topic(self, log: EventLog) -> None:
        await log.append([record(f"{i}", topic) for i in range(3) for topic in ("facts", "other")])
        await log.append([], Done("judge", "facts", 0))
        await log.append([], Done("judge", "other", 2))
        await log.append([], Done("trainer", "facts", 1))
        assert (log.cursor("judge", "facts"), log.done_beyond("judge", "facts")) == (1, set())
        assert (log.cursor("judge", "other"), log.done_beyond("judge", "other")) == (0, {2})
        assert (log.cursor("trainer", "facts"), log.done_beyond("trainer", "facts")) == (0, {1})
        assert (log.cursor("trainer", "other"), log.done_beyond("trainer", "other")) == (0, set())

    async def test_marks_outlive_reopening(self, log: EventLog, tmp_path: Path) -> None:
        await log.append([record(str(i)) for i in range(4)])
        for offset in (0, 3):
            await log.append([record(f"out {offset}", "other")], Done("judge", "facts", offset))
        again = await self.reopen(log, tmp_path)
        assert (again.cursor("judge", "facts"), again.done_beyond("judge", "facts")) == (1, {3})
        assert ids(again, "other") == ["out 0", "out 3"]
        await again.close()

    async def test_marks_of_many_callers_all_count(self, log: EventLog) -> None:
        await log.append([record(str(i)) for i in range(60)])
        await asyncio.gather(
            *(log.append([record(f"out {i}", "other")], Done("judge", "facts", i)) for i in reversed(range(60)))
        )
        assert (log.cursor("judge", "facts"), log.done_beyond("judge", "facts")) == (60, set())
        assert log.end("other") == 60

    async def test_an_append_that_is_refused_writes_neither_records_nor_mark(self, log: EventLog) -> None:
        """And its neighbours, which may share its commit, are written."""
        await log.append([record("in")])
        bad = [record("good"), record("bad \ud800")]  # A lone surrogate has no UTF-8.
        calls = [
            log.append([record("before")]),
            log.append(bad, Done("judge", "facts", 0)),
            log.append([record("after")]),
        ]
        before, refused, after = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, Exception)
        assert (before, after) == ([1], [2])
        assert ids(log) == ["in", "before", "after"]
        assert (log.cursor("judge", "facts"), log.done_beyond("judge", "facts")) == (0, set())
