"""Room that several share is given by turns, and never more of it than there is."""

import asyncio
import random

from bohdi_common.models.fair import FairGate


async def test_one_request_does_not_wait_behind_anothers_thousand() -> None:
    gate, order = FairGate(1), list[str]()

    async def ask(who: str) -> None:
        async with gate.turn(who):
            order.append(who)
            await asyncio.sleep(0)

    await asyncio.gather(*(ask("many") for _ in range(50)), ask("one"))
    assert order.index("one") <= 2


async def test_callers_that_go_away_leave_no_room_behind() -> None:
    rng, inside, most = random.Random(1), 0, 0
    gate = FairGate(3)

    async def ask(who: str) -> None:
        nonlocal inside, most
        async with gate.turn(who):
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(rng.random() / 100)
            finally:
                inside -= 1

    tasks = [asyncio.create_task(ask(rng.choice("abc"))) for _ in range(300)]
    for _ in range(200):
        await asyncio.sleep(rng.random() / 500)
        rng.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (most, inside, gate.busy) == (3, 0, 0)
    async with gate.turn("a"), gate.turn("b"), gate.turn("c"):
        assert gate.busy == 3
