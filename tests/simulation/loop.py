"""An asyncio event loop in which nothing is left to chance but one seeded generator.

Time is virtual: it stands still while anything can run and jumps to the next timer when nothing can. Of the callbacks
that are ready any may be next. There are no threads and no sockets: what is given to an executor runs as a callback.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
_SWEPT_FROM = 100  # tasks that a process counts before it looks which have ended
_CANCELS_MAX = 20  # how often a killed process's tasks are cancelled until all of them have ended


class _Task(asyncio.Task):  # type: ignore[type-arg]
    """A task whose hash is its number: sets of tasks have the same order in every process."""

    def __init__(self, coroutine: Any, *, loop: SimulatedLoop, number: int, **rest: Any) -> None:
        self._number = number
        super().__init__(coroutine, loop=loop, **rest)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.AbstractEventLoop):
    """`errors` collects what a callback raised. `turn` runs one callback; everything else follows from it."""

    def __init__(self, chance: random.Random) -> None:
        self.turns = 0
        self.errors: list[str] = []
        self._random = chance.random
        self._now_s = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._tasks_made = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, this is the running loop of the thread."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    def turn(self) -> bool:
        """Runs one of the callbacks that are ready, after a jump in time where none is. False: nothing can ever run."""
        ready = self._ready
        if not ready and not self._jump():
            return False
        chosen = int(self._random() * len(ready))
        handle, ready[chosen] = ready[chosen], ready[-1]
        ready.pop()
        self.turns += 1
        if not handle._cancelled:
            handle._run()
        return True

    def _jump(self) -> bool:
        """To the next timer. What was to run at that time is then ready, together with what is due at the same time."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            return False
        self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            self._ready.append(heapq.heappop(timers)[2])
        return True

    def drain(self, process: Process) -> None:
        """Runs what is ready of one process, in order, until nothing is."""
        while mine := [handle for handle in self._ready if _process_of(handle) is process]:
            self._ready = [handle for handle in self._ready if _process_of(handle) is not process]
            for handle in mine:
                if not handle._cancelled:
                    handle._run()

    # ---- what asyncio asks of a loop ---------------------------------------------------------------------------

    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None, **rest: Any) -> asyncio.Task[Any]:
        self._tasks_made += 1
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        task = _Task(coro, loop=self, number=self._tasks_made, name=name, context=context)
        if process is not None:
            process.takes_on(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        outcome = self.create_future()

        def run() -> None:
            if outcome.cancelled():
                return
            try:
                outcome.set_result(func(*args))
            except Exception as error:
                outcome.set_exception(error)

        self.call_soon(run)
        return outcome

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""


class Process:
    """What dies together: all tasks that were begun in it, and those that they began. `alive` is false from the moment
    of its death on, and everything outside must refuse it then: what its tasks still do while they end must not be
    seen."""

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self._loop = loop
        self._tasks: list[asyncio.Task[Any]] = []
        self._swept_at = _SWEPT_FROM
        self._context = contextvars.copy_context()
        self._context.run(_PROCESS.set, self)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begins a task in this process."""
        return self._loop.create_task(coroutine, context=self._context.copy())

    def takes_on(self, task: asyncio.Task[Any]) -> None:
        """Counts a task that was begun in this process as its own."""
        self._tasks.append(task)
        if len(self._tasks) > self._swept_at:
            self._sweep()
            self._swept_at = max(_SWEPT_FROM, 2 * len(self._tasks))

    def _sweep(self) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]

    def kill(self) -> None:
        """Ends all its tasks at once, wherever they wait; nothing else runs in between."""
        self.alive = False
        for _ in range(_CANCELS_MAX):
            for task in self._tasks:
                task.cancel()
            self._loop.drain(self)
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # asked for, so that asyncio does not miss it: who would hear of it is dead
            self._sweep()
            if not self._tasks:
                return
        raise AssertionError(f"{self.name}: {len(self._tasks)} tasks go on after {_CANCELS_MAX} cancellations")


def _process_of(handle: asyncio.Handle) -> Process | None:
    return handle._context.get(_PROCESS)
