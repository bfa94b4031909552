"""The supervisor keeps processes at work, shows what they say, and ends them within a bound."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from bohdi import supervisor
from bohdi.supervisor import ServiceMistaken, Supervisor

SOON_S = 20.0


def supervised(*services: str) -> tuple[Supervisor, list[str]]:
    lines: list[str] = []
    return Supervisor({}, lines.append, module="tests.supervised.{}".format, services=services), lines


async def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.05)


async def test_what_is_killed_is_started_again_and_all_end_when_told() -> None:
    keeping, lines = supervised("steady")
    stop = asyncio.Event()
    running = asyncio.create_task(keeping.run(stop))
    await until(lambda: len([line for line in lines if line.endswith("here")]) == 1)
    first = keeping.pids["steady"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: len([line for line in lines if line.endswith("here")]) == 2)
    assert keeping.starts == {"steady": 2}
    assert any("ended with -9; starting it again" in line for line in lines)
    second = keeping.pids["steady"]
    stop.set()
    await asyncio.wait_for(running, SOON_S)
    assert keeping.pids == {}
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_pauses_between_starts_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0.01)
    keeping, lines = supervised("dying")
    stop = asyncio.Event()
    running = asyncio.create_task(keeping.run(stop))
    await until(lambda: keeping.starts.get("dying", 0) >= 4)
    stop.set()
    await asyncio.wait_for(running, SOON_S)
    pauses = [float(line.split(" in ")[1].removesuffix(" s")) for line in lines if "starting it again" in line]
    assert pauses == sorted(pauses)


async def test_a_service_that_was_told_wrongly_ends_them_all_with_its_line_shown() -> None:
    keeping, lines = supervised("steady", "mistaken")
    with pytest.raises(ServiceMistaken, match="mistaken: see the line above"):
        await asyncio.wait_for(keeping.run(asyncio.Event()), SOON_S)
    assert any("BOHDI_X: not known" in line for line in lines)
    assert keeping.pids == {}


async def test_what_does_not_end_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_STOP_S", 0.5)
    keeping, lines = supervised("deaf")
    stop = asyncio.Event()
    running = asyncio.create_task(keeping.run(stop))
    await until(lambda: any(line.endswith("here") for line in lines))
    stop.set()
    await asyncio.wait_for(running, SOON_S)
    assert any("killed" in line for line in lines)
