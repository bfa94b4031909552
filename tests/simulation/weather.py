"""How bad things are: the rates of faults that a schedule draws, and none once they have ceased."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

_LATENCY_S = 0.02
_SLOW_S = 5.0


@dataclass
class Weather:
    """Shares of appends, deliveries, model calls and trainings that go wrong.

    refused        appends that the broker does not take
    acks_lost      appends that are written though their caller hears that they failed
    torn           appends of which only the first records are written
    slow           messages that are under way for seconds
    skips          assignments whose deliveries begin behind the committed offset (a fault of faust's)
    away, refuse   model calls that raise ModelUnavailable, ModelRefused
    dawdle         model calls that take longer than a slot may
    rubbish        replies that are no use
    disk_full      appends to the embedded log that raise LogFull
    """

    chance: random.Random
    refused: float = 0.0
    acks_lost: float = 0.0
    torn: float = 0.0
    slow: float = 0.0
    skips: float = 0.0
    away: float = 0.0
    refuse: float = 0.0
    dawdle: float = 0.0
    rubbish: float = 0.0
    disk_full: float = 0.0

    def latency_s(self) -> float:
        """Of one message."""
        if self.slow and self.chance.random() < self.slow:
            return self.chance.uniform(0, _SLOW_S)
        return self.chance.random() * _LATENCY_S

    def clears(self) -> None:
        """From now on nothing goes wrong."""
        for rate in fields(self):
            if rate.name != "chance":
                setattr(self, rate.name, 0.0)
