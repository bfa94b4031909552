"""What a worker service does with one input, on any broker: handle it in the shell, make what comes of it durable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from bohdi_common.log.port import LogUnavailable, Record, Stored
from bohdi_common.runtime import metrics
from bohdi_common.runtime.shell import Shell

_log = logging.getLogger("bohdi")
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0

T = TypeVar("T")
Append = Callable[[Sequence[Record]], Awaitable[object]]


def handling(shell: Shell, append: Append) -> Callable[[Stored], Awaitable[None]]:
    """The function that handles one input of `shell`'s service: it returns once the outputs are durable, so that the
    input may be acknowledged, and raises what must stop the process."""

    async def handle(stored: Stored) -> None:
        await until_durable(append, await until_there(lambda: shell.process(stored)))

    return handle


async def until_durable(append: Append, records: Sequence[Record]) -> None:
    """Appends, and while the log is away tries again with growing pauses, without end: a host that waits shows it in
    its health, and an input that is not acknowledged is never lost. Raises LogError for what can never be appended."""
    if records:
        await until_there(lambda: append(records))


async def until_there(asked: Callable[[], Awaitable[T]]) -> T:
    """What `asked` gives, once the log that it needs is there."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await asked()
        except LogUnavailable as error:
            metrics.LOG_RETRIES.inc()
            _log.warning("%s; trying again in %.1f s", error, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def in_thread(asked: Callable[[], T]) -> T:
    """What `asked` gives, from a thread. Cancelled, it waits until the thread has ended: what it works on is no one's
    to touch before."""
    working = asyncio.ensure_future(asyncio.to_thread(asked))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()
        raise
