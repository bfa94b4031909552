"""What a run may cost, and what it has: tokens, money, harvests and hours, folded from the events that say it.

A cap of 0 is none. Money is in the currency of the prices, kept in millionths; hours are those of the log's times, the
time between a stop and its resume left out.
"""

from __future__ import annotations

from typing import Any

from bohdi_common.core.state import RunState

CAPS = ("tokens", "cost", "harvests", "hours")
_MILLION = 1_000_000
_HOUR_US = 3_600 * _MILLION


def spend(state: RunState, event: Any, resumed: bool) -> None:
    """Takes in what an event of the run says was spent, and the time that passed; done twice is paid twice."""
    if state.last_us and event.time_us > state.last_us and not resumed:
        state.spent_us += event.time_us - state.last_us
    state.last_us = max(state.last_us, event.time_us)
    for used in event.usage:
        state.spent_tokens += used.prompt_tokens + used.completion_tokens
        price = state.rules.prices.get(used.model) if state.rules else None
        if price:
            state.spent_micros += cost_micros(price, used.prompt_tokens, used.completion_tokens)


def cost_micros(price: tuple[float, float], prompt_tokens: float, completion_tokens: float) -> int:
    """What tokens cost at a price of prompts and of completions, per million: tokens times price are millionths."""
    return round(prompt_tokens * price[0] + completion_tokens * price[1])


def allow(state: RunState, budget: Any) -> None:
    """New caps, a `bohdi.v1.BudgetSettings`; one that names none stays as it was."""
    for name in CAPS:
        if (cap := getattr(budget, name)) > 0:
            state.caps[name] = cap


def spent(state: RunState) -> dict[str, float]:
    """By the caps' names, in their units."""
    return {
        "tokens": state.spent_tokens,
        "cost": state.spent_micros / _MILLION,
        "harvests": state.counts.get("harvests", 0) + state.counts.get("no_verdict", 0),
        "hours": state.spent_us / _HOUR_US,
    }


def exhausted(state: RunState) -> str:
    """Which cap is reached, as the reason of a pause; empty while none is."""
    if not state.caps:
        return ""
    used = spent(state)
    return next(
        (
            f"the budget of {state.caps[name]:g} {name} is spent ({used[name]:g}): resume with a larger one"
            for name in CAPS
            if 0 < state.caps.get(name, 0) <= used[name]
        ),
        "",
    )
