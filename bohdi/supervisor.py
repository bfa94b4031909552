"""The five services as processes on one machine: logs side by side, started again when they die, ended in time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SERVICES = ("bandit", "tree_expansion", "generation", "judging", "training")
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0  # a process that lived so long starts again without a pause
_STOP_S = 25.0  # above what a service allows itself
_MISTAKE = 2  # a service that was told wrongly will not be better the next time
_LINE_BYTES_MAX = 64 * 1024

Print = Callable[[str], None]


class ServiceMistaken(Exception):
    """A service cannot run as it was told. Its own line says why."""


@dataclass
class Supervisor:
    """`environment`: what the services are told; `own`: what each is told beside that; `module`: what is started for a
    service's name. `pids` are those at work now, by service."""

    environment: Mapping[str, str]
    show: Print
    module: Callable[[str], str] = "services.{}".format
    services: Sequence[str] = SERVICES
    own: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    longest_pause_s: float = _LONGEST_PAUSE_S
    pids: dict[str, int] = field(default_factory=dict, init=False)
    starts: dict[str, int] = field(default_factory=dict, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises ServiceMistaken, once all are ended."""
        mistaken: list[str] = []
        keeping = [asyncio.create_task(self._keep(name, stop, mistaken)) for name in self.services]
        await asyncio.gather(*keeping)
        if mistaken:
            raise ServiceMistaken(f"{', '.join(mistaken)}: see the line above; correct it and start again")

    async def _keep(self, name: str, stop: asyncio.Event, mistaken: list[str]) -> None:
        pause_s = _FIRST_PAUSE_S
        while not stop.is_set():
            started_s = time.monotonic()
            code = await self._once(name, stop)
            if stop.is_set():
                return
            if code == _MISTAKE:
                mistaken.append(name)
                stop.set()
                return
            pause_s = _FIRST_PAUSE_S if time.monotonic() - started_s > _STEADY_S else pause_s
            self.show(f"{name:<14} | ended with {code}; starting it again in {pause_s:.1f} s")
            await _either(asyncio.sleep(pause_s), stop.wait())
            pause_s = min(2 * pause_s, self.longest_pause_s)

    async def _once(self, name: str, stop: asyncio.Event) -> int:
        """One life of a service; its exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-m", self.module(name),
            env={**os.environ, **self.environment, **self.own.get(name, {}), "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES_MAX, start_new_session=True,
        )  # fmt: skip
        self.pids[name] = process.pid
        self.starts[name] = self.starts.get(name, 0) + 1
        reading = asyncio.create_task(self._show_lines(name, process))
        await _either(process.wait(), stop.wait())
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await _either(process.wait(), asyncio.sleep(_STOP_S))
            if process.returncode is None:
                self.show(f"{name:<14} | has not ended within {_STOP_S:.0f} s: killed")
                process.kill()
        code = await process.wait()
        del self.pids[name]
        await reading
        return code

    async def _show_lines(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line over the limit; what of it was read is gone
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if text and not text.startswith("\x1b[?25"):  # faust hides and shows the cursor
                self.show(f"{name:<14} | {text}")


async def _either(*waits: Coroutine[Any, Any, Any]) -> None:
    """Waits for the first of them; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
