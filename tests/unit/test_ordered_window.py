"""The ordered window: many inputs in flight, acknowledged strictly in the order of their offsets."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.log.port import Stored
from bohdi_common.runtime.ordered_window import DeliveryGap, OrderedWindow

TOPIC = "inputs"
TURNS = 20  # of the loop, until all that can happen has happened


class Bench:
    """A window, the handlers in it, which end when they are told to, and what it acknowledged."""

    def __init__(self, capacity: int = 4, held_max: int = 8, starts: dict[int, int] | None = None) -> None:
        self.now_s = 0.0
        self.window = OrderedWindow(self.handle, capacity=capacity, held_max=held_max, clock_s=lambda: self.now_s)
        self.acknowledged: list[tuple[int, int]] = []
        self.begun: list[tuple[int, int]] = []
        self.ends: dict[tuple[int, int], asyncio.Future[None]] = {}
        self.assign({0: 0} if starts is None else starts)

    def assign(self, starts: dict[int, int]) -> None:
        self.window.assigned({(TOPIC, partition): offset for partition, offset in starts.items()})

    async def handle(self, stored: Stored) -> None:
        place = (stored.partition, stored.offset)
        self.begun.append(place)
        self.ends[place] = asyncio.get_running_loop().create_future()
        await self.ends[place]

    def delivery(self, offset: int, partition: int = 0) -> Stored:
        return Stored(TOPIC, offset, "", str(offset), b"", (), partition)

    async def take(self, *offsets: int, partition: int = 0) -> None:
        for offset in offsets:
            acknowledge = partial(self.acknowledged.append, (partition, offset))
            await self.window.take(self.delivery(offset, partition), acknowledge)
        await settled()

    async def end(self, *offsets: int, partition: int = 0) -> None:
        for offset in offsets:
            self.ends[partition, offset].set_result(None)
        await settled()

    async def fail(self, offset: int, error: BaseException, partition: int = 0) -> None:
        self.ends[partition, offset].set_exception(error)
        await settled()


async def settled() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


# ---- order -----------------------------------------------------------------------------------------------------


async def test_an_input_is_acknowledged_when_it_and_all_before_it_are_handled() -> None:
    bench = Bench()
    await bench.take(0, 1, 2)
    await bench.end(2, 1)
    assert bench.acknowledged == []
    await bench.end(0)
    assert bench.acknowledged == [(0, 0), (0, 1), (0, 2)]
    assert bench.window.held == 0


async def test_a_slow_input_holds_up_its_own_partition_alone() -> None:
    bench = Bench(starts={0: 0, 1: 5})
    await bench.take(0, 1)
    await bench.take(5, partition=1)
    await bench.end(1)
    await bench.end(5, partition=1)
    assert bench.acknowledged == [(1, 5)]


async def test_the_oldest_age_is_that_of_the_first_input_not_acknowledged() -> None:
    bench = Bench()
    assert bench.window.oldest_age_s == 0.0
    await bench.take(0)
    bench.now_s = 3.0
    await bench.take(1)
    assert bench.window.oldest_age_s == 3.0
    await bench.end(0)
    assert bench.window.oldest_age_s == 0.0
    bench.now_s = 5.0
    assert bench.window.oldest_age_s == 2.0


# ---- capacity and room -----------------------------------------------------------------------------------------


async def test_at_most_the_capacity_is_handled_at_once() -> None:
    bench = Bench(capacity=2)
    await bench.take(0, 1, 2, 3)
    assert bench.begun == [(0, 0), (0, 1)]
    await bench.end(1)
    assert bench.begun == [(0, 0), (0, 1), (0, 2)]


async def test_a_full_window_takes_nothing_in_until_its_head_is_acknowledged() -> None:
    bench = Bench(capacity=2, held_max=3)
    await bench.take(0, 1, 2)
    waiting = asyncio.create_task(bench.take(3))
    await bench.end(1)
    await bench.end(2)
    assert not waiting.done()
    await bench.end(0)
    await waiting
    assert (bench.window.held, bench.begun[-1]) == (1, (0, 3))


async def test_it_takes_nothing_in_before_it_knows_where_deliveries_begin() -> None:
    bench = Bench()
    bench.window.revoked()
    waiting = asyncio.create_task(bench.take(7))
    await settled()
    assert not waiting.done()
    bench.assign({0: 7})
    await waiting
    assert bench.begun == [(0, 7)]


async def test_what_was_delivered_to_an_assignment_that_is_over_is_dropped_after_the_wait() -> None:
    bench = Bench(capacity=1, held_max=1)
    await bench.take(0)
    acknowledge = partial(bench.acknowledged.append, (0, 1))
    waiting = asyncio.create_task(bench.window.take(bench.delivery(1), acknowledge, lambda: False))
    await settled()
    bench.window.revoked()
    bench.assign({0: 0})
    await waiting
    assert (bench.window.held, bench.begun) == (0, [(0, 0)])


def test_a_window_that_holds_less_than_it_handles_is_refused() -> None:
    async def make() -> None:
        with pytest.raises(ValueError, match="held_max 3 is below the capacity 4"):
            Bench(capacity=4, held_max=3)

    asyncio.run(make())


# ---- rebalances and redelivery ---------------------------------------------------------------------------------


async def test_after_a_rebalance_nothing_that_was_delivered_before_is_acknowledged() -> None:
    bench = Bench()
    await bench.take(0, 1)
    bench.window.revoked()
    await bench.end(0, 1)
    bench.assign({0: 0})
    await settled()
    assert bench.acknowledged == []


async def test_an_input_that_comes_again_while_it_is_handled_is_not_handled_twice() -> None:
    bench = Bench()
    await bench.take(0, 1)
    bench.window.revoked()
    bench.assign({0: 0})
    await bench.take(0, 1)
    assert bench.begun == [(0, 0), (0, 1)]
    await bench.end(0, 1)
    assert bench.acknowledged == [(0, 0), (0, 1)]


async def test_an_input_that_was_handled_meanwhile_is_acknowledged_when_it_comes_again() -> None:
    bench = Bench()
    await bench.take(0)
    bench.window.revoked()
    await bench.end(0)
    bench.assign({0: 0})
    await bench.take(0)
    assert (bench.begun, bench.acknowledged) == ([(0, 0)], [(0, 0)])


async def test_an_acknowledgement_that_the_broker_lost_is_given_again_without_handling() -> None:
    bench = Bench()
    await bench.take(0, 1)
    await bench.end(0, 1)
    bench.window.revoked()
    bench.assign({0: 0})
    await bench.take(0, 1)
    assert bench.begun == [(0, 0), (0, 1)]
    assert bench.acknowledged == [(0, 0), (0, 1)] * 2


async def test_what_another_consumer_has_now_is_given_up_and_handled_anew_when_it_is_back() -> None:
    bench = Bench(starts={0: 0, 1: 0})
    await bench.take(0)
    bench.window.revoked()
    bench.assign({1: 0})
    await settled()
    assert bench.ends[0, 0].cancelled()
    bench.window.revoked()
    bench.assign({0: 0})
    await bench.take(0)
    await bench.end(0)
    assert (bench.begun, bench.acknowledged) == ([(0, 0), (0, 0)], [(0, 0)])


async def test_a_record_that_is_delivered_twice_in_one_assignment_is_taken_once() -> None:
    bench = Bench()
    await bench.take(0, 0, 1, 0)
    assert (bench.window.held, bench.begun) == (2, [(0, 0), (0, 1)])


# ---- gaps, failures, ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("taken", "then", "expected"), [((), 1, 0), ((0, 1), 3, 2)])
async def test_a_gap_between_deliveries_is_refused(taken: tuple[int, ...], then: int, expected: int) -> None:
    bench = Bench()
    await bench.take(*taken)
    with pytest.raises(DeliveryGap, match=f"inputs/0: offset {then} was delivered, {expected} was to come"):
        await bench.take(then)
    assert (0, then) not in bench.begun


async def test_an_input_whose_handling_raises_is_never_acknowledged_nor_is_what_comes_after_it() -> None:
    bench = Bench()
    await bench.take(0, 1, 2)
    await bench.fail(1, OSError("broken"))
    await bench.end(0, 2)
    assert bench.acknowledged == [(0, 0)]
    with pytest.raises(OSError, match="broken"):
        bench.window.failed.result()


async def test_draining_waits_for_what_is_in_hand() -> None:
    bench = Bench()
    await bench.take(0, 1)
    draining = asyncio.create_task(bench.window.drain(60.0))
    await settled()
    assert not draining.done()
    await bench.end(1, 0)
    await draining
    assert bench.acknowledged == [(0, 0), (0, 1)]


async def test_draining_gives_up_after_its_time_what_is_not_handled_then() -> None:
    bench = Bench()
    await bench.take(0, 1)
    await bench.end(1)
    await bench.window.drain(0.01)
    await settled()
    assert bench.ends[0, 0].cancelled()
    assert (bench.acknowledged, bench.window.failed.done()) == ([], False)


async def test_draining_an_empty_window_is_over_at_once() -> None:
    await Bench().window.drain(60.0)


# ---- any order of everything -----------------------------------------------------------------------------------

ACTIONS = st.lists(st.sampled_from(["deliver", "deliver", "end", "end", "commit", "rebalance", "move"]), max_size=60)


@given(ACTIONS, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(0, 4))
def test_whatever_happens_nothing_is_committed_before_it_is_handled(
    actions: list[str], chance: object, capacity: int, more: int
) -> None:
    asyncio.run(_Anything(actions, chance, capacity, capacity + more).run())


class _Anything:
    """A broker that delivers two partitions from what is committed, and commits what it is told, late or never."""

    def __init__(self, actions: list[str], chance: object, capacity: int, held_max: int) -> None:
        self.actions = actions
        self.chance = chance
        self.sizes = (capacity, held_max)
        self.committed = {0: 0, 1: 0}
        self.handled: defaultdict[int, set[int]] = defaultdict(set)

    async def run(self) -> None:
        self.bench = Bench(*self.sizes, starts=self.committed)
        self.next = dict(self.committed)
        self.told: dict[int, int] = {}
        for action in self.actions:
            await getattr(self, f"_{action}")()
            await settled()
            assert len([end for end in self.bench.ends.values() if not end.done()]) <= self.sizes[0]
            assert self.bench.window.held <= self.sizes[1]
        await self._finish()

    async def _deliver(self) -> None:
        if self.next and self.bench.window.held < self.sizes[1]:
            partition = self.chance.choice(sorted(self.next))
            offset = self.next[partition]
            self.next[partition] += 1
            await self.bench.window.take(
                self.bench.delivery(offset, partition), partial(self._acknowledged, partition, offset)
            )

    def _acknowledged(self, partition: int, offset: int) -> None:
        """All before it is handled: the broker forgets it."""
        assert self.handled[partition] >= set(range(offset + 1))
        assert offset + 1 >= self.told.get(partition, 0)
        self.told[partition] = offset + 1

    async def _end(self) -> None:
        under_way = sorted(place for place, end in self.bench.ends.items() if not end.done())
        if under_way:
            partition, offset = self.chance.choice(under_way)
            self.handled[partition].add(offset)
            await self.bench.end(offset, partition=partition)

    async def _commit(self) -> None:
        self.committed |= {p: max(offset, self.committed[p]) for p, offset in self.told.items()}

    async def _rebalance(self) -> None:
        self._assign({0, 1})

    async def _move(self) -> None:
        """A partition goes to another consumer for a while, and what that one does not commit comes back."""
        self._assign({self.chance.randrange(2)})

    def _assign(self, partitions: set[int]) -> None:
        self.bench.window.revoked()
        self.told = {}
        self.next = {partition: self.committed[partition] for partition in partitions}
        self.bench.assign(self.next)

    async def _finish(self) -> None:
        """In the end everything that was delivered once is acknowledged."""
        goal = {p: max(self.handled[p], default=-1) + 1 for p in (0, 1)}
        self._assign({0, 1})
        for _ in range(200):
            if all(self.told.get(p, self.committed[p]) >= goal[p] for p in (0, 1)):
                return
            await self._deliver()
            await settled()
            await self._end()
            await settled()
        raise AssertionError(f"told {self.told} of {goal}")
