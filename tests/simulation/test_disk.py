"""The log in memory on which the embedded host is simulated keeps the port's contract."""

from __future__ import annotations

import random
from pathlib import Path

from tests.contract.event_log_contract import EventLogContract
from tests.simulation.disk import Disk, DiskLog
from tests.simulation.tape import Tape
from tests.simulation.weather import Weather

_DISKS: dict[Path, Disk] = {}


class TestDiskLog(EventLogContract):
    async def open(self, folder: Path) -> DiskLog:
        return DiskLog(_DISKS.setdefault(folder, Disk(Tape({}))), None, Weather(random.Random(0)))
