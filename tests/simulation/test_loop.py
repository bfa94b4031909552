"""The loop of the simulation: virtual time, chance from one seed alone, processes that die at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from tests.simulation.loop import Process, SimulatedLoop


def simulated(main: Coroutine[Any, Any, Any], seed: int = 0) -> SimulatedLoop:
    """The loop after everything that `main` began has come to its end."""
    loop = SimulatedLoop(random.Random(seed))
    with loop.running():
        loop.create_task(main)
        while loop.turn():
            pass
    assert loop.errors == []
    return loop


def test_sleeping_takes_the_time_it_says_and_no_more() -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(sleeper("a year", 31_536_000.0), sleeper("a second", 1.0))

    assert simulated(main()).time() == 31_536_000.0
    assert seen == [("a second", 1.0), ("a year", 31_536_000.0)]


def order_of_ten(seed: int) -> list[int]:
    order: list[int] = []

    async def one(number: int) -> None:
        order.append(number)

    async def main() -> None:
        await asyncio.gather(*map(one, range(10)))

    simulated(main(), seed)
    return order


def test_what_is_ready_runs_in_an_order_that_follows_from_the_seed() -> None:
    assert order_of_ten(1) == order_of_ten(1)
    assert len({tuple(order_of_ten(seed)) for seed in range(20)}) > 15
    assert sorted(order_of_ten(3)) == list(range(10))


def test_threads_and_timeouts_are_callbacks_of_the_same_loop() -> None:
    seen: list[Any] = []

    async def main() -> None:
        seen.append(await asyncio.to_thread(sum, [1, 2, 3]))
        try:
            await asyncio.wait_for(asyncio.sleep(10), 3)
        except TimeoutError:
            seen.append(asyncio.get_running_loop().time())

    simulated(main())
    assert seen == [6, 3.0]


def test_sets_of_tasks_have_one_order_everywhere() -> None:
    async def nothing() -> None: ...

    async def main() -> None:
        tasks = {asyncio.get_running_loop().create_task(nothing(), name=str(number)) for number in range(50)}
        assert [task.get_name() for task in tasks] == [str(number) for number in range(50)]
        await asyncio.wait(tasks)

    simulated(main())


def test_a_process_that_is_killed_does_nothing_more() -> None:
    loop = SimulatedLoop(random.Random(0))
    seen: list[str] = []

    async def child() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append("child")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(100)

    with loop.running():
        process = Process(loop, "victim")
        task = process.start(main())
        loop.call_at(3.5, process.kill)
        while loop.turn():
            pass
    assert (seen, task.cancelled(), process.alive, loop.time()) == (["child"] * 3, True, False, 3.5)


def test_a_process_is_killed_though_its_tasks_hold_on() -> None:
    loop = SimulatedLoop(random.Random(0))

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    with loop.running():
        process = Process(loop, "stubborn")
        process.start(stubborn())
        loop.turn()
        process.kill()
        assert loop.time() == 0.0
