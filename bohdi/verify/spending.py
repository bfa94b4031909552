"""Whether a run's budget was spent at a moment of its log, added up from the events anew."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from bohdi_common.events import events_pb2 as pb

_CAPS = ("tokens", "cost", "harvests", "hours")
_HOUR_US = 3_600_000_000


class Spending:
    """Of one run: what its events say was spent, against the caps that they name."""

    def __init__(self) -> None:
        self.caps: dict[str, float] = {}
        self.prices: dict[str, tuple[float, float]] = {}
        self.used: Counter[str] = Counter()
        self._micros = 0
        self._last_us = 0

    def started(self, settings: pb.Settings) -> None:
        """The run's first caps, and its models' prices."""
        everybody = (*settings.sources, settings.target, *settings.judging.judges)
        self.prices = {model.name: (model.price_prompt, model.price_completion) for model in everybody}
        self.allow(settings.budget)

    def allow(self, budget: pb.BudgetSettings) -> None:
        """Caps that replace those of their names."""
        self.caps |= {name: cap for name in _CAPS if (cap := getattr(budget, name)) > 0}

    def take(self, event: pb.Event) -> None:
        """The next event of the run."""
        if 0 < self._last_us < event.time_us and event.WhichOneof("body") != "run_resumed":
            self.used["us"] += event.time_us - self._last_us
        self._last_us = max(self._last_us, event.time_us)
        for used in event.usage:
            self.used["tokens"] += used.prompt_tokens + used.completion_tokens
            prompt, completion = self.prices.get(used.model, (0.0, 0.0))
            self._micros += round(used.prompt_tokens * prompt + used.completion_tokens * completion)

    def settled(self) -> None:
        """One more harvest came back judged."""
        self.used["harvests"] += 1

    def over(self) -> bool:
        """Whether a cap is reached."""
        spent = {
            "tokens": Fraction(self.used["tokens"]),
            "cost": Fraction(self._micros, 1_000_000),
            "harvests": Fraction(self.used["harvests"]),
            "hours": Fraction(self.used["us"], _HOUR_US),
        }
        # The fold compares floats: a cap within a rounding error of what was spent is reached.
        return any(float(spent[name]) >= cap for name, cap in self.caps.items())
