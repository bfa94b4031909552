"""What a run may spend: folded from its events, and a pause at the cap."""

from typing import Any

import pytest

from bohdi_common.core import budget
from bohdi_common.core.decide import decide
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState, canonical, restored
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, RunStarted
from tests import closed_loop
from tests.closed_loop import Loop, World


def started(**caps: float) -> RunState:
    sources: list[dict[str, Any]] = [{"name": name, "path": name} for name in ("a", "b", "c")]
    sources[0] |= {"price_prompt": 2.0, "price_completion": 10.0}
    settings = closed_loop.settings(sources=sources, budget=caps)
    state = RunState()
    body = RunStarted(settings=settings)
    return evolve(state, codec.by_hand("run", "start", 1_000_000, "run_started", body))


def spent(state: RunState, at_us: int, kind: str = "target_evaluated", **used: tuple[int, int]) -> RunState:
    event = codec.by_hand("run", f"event {at_us}", at_us, kind, {})
    for model, (prompt, completion) in used.items():
        event.usage.add(model=model, prompt_tokens=prompt, completion_tokens=completion, calls=1)
    return evolve(state, event)


def pauses(state: RunState) -> list[str]:
    return [fact.body["reason"] for fact in decide(state) if fact.kind == "run_paused"]


def test_tokens_of_all_models_and_money_at_the_prices_of_each_add_up() -> None:
    state = started()
    spent(state, 2_000_000, a=(300_000, 100_000), b=(50, 1))
    spent(state, 3_000_000, a=(1, 1))
    assert budget.spent(state) == pytest.approx(
        {"tokens": 400_053, "cost": 0.6 + 1.0 + 12e-6, "harvests": 0, "hours": 2 / 3600}
    )


def test_hours_are_those_of_work_not_of_the_time_between_a_stop_and_its_resume() -> None:
    state = spent(started(), 3_601_000_000)
    spent(state, 90_000_000_000, "run_resumed")
    spent(state, 89_000_000_000)  # another writer's clock is behind
    assert spent(state, 91_800_000_000) and budget.spent(state)["hours"] == 1.5


@pytest.mark.parametrize(
    ("caps", "reason"),
    [
        ({"tokens": 100}, "the budget of 100 tokens is spent (100): resume with a larger one"),
        ({"cost": 0.001}, "the budget of 0.001 cost is spent (0.001): resume with a larger one"),
        ({"hours": 0.5}, "the budget of 0.5 hours is spent (0.5): resume with a larger one"),
        ({"tokens": 101, "cost": 0.0011, "hours": 0.51}, ""),
        ({}, ""),
    ],
)
def test_a_run_pauses_at_its_cap_and_says_which(caps: dict[str, float], reason: str) -> None:
    state = spent(started(**caps), 1_801_000_000, a=(0, 100))
    assert pauses(state) == ([reason] if reason else [])


def test_a_harvest_without_a_verdict_was_paid_for_and_counts_as_one() -> None:
    rules = {"grow": False, "slots": 6, "leaf_failures": 99}
    settings = closed_loop.settings(bandit=rules, budget={"harvests": 6})
    world = World(verdict=lambda request: request.slot % 2 == 0)
    state = Loop(world, settings, domains=[("m", "s", "l")]).run()
    assert (state.counts["harvests"], state.counts["no_verdict"], state.step) == (3, 3, 1)
    assert state.paused == "the budget of 6 harvests is spent (6): resume with a larger one"


def test_what_was_asked_before_the_cap_is_waited_for_and_nothing_more_is_asked() -> None:
    state = started(tokens=100)
    (drawn,) = decide(state)
    evolve(state, codec.by_hand("run", drawn.event_id, 2_000_000, drawn.kind, drawn.body))
    spent(state, 3_000_000, b=(100, 0))
    assert state.open_slots and not decide(state)
    late_us = 2_000_000 + round(state.rules.slot_timeout_s * 1e6) + 1 if state.rules else 0
    assert {fact.kind for fact in decide(state, late_us)} == {"slot_expired"}
    (sprout,) = state.sprouts.values()
    body = {"request_hash": sprout.request_hash, "parent": sprout.parent, "names": [{"name": "Physics", "votes": 3}]}
    evolve(state, codec.by_hand("run", "sprouted", 4_000_000, "domains_sprouted", body))
    assert pauses(state) == ["the budget of 100 tokens is spent (100): resume with a larger one"]


def test_a_run_goes_on_with_a_larger_cap_and_pauses_again_without_one() -> None:
    state = spent(started(tokens=100), 2_000_000, b=(100, 0))
    (pause,) = decide(state)
    evolve(state, codec.by_hand("run", pause.event_id, 3_000_000, pause.kind, pause.body))
    assert state.paused
    evolve(state, codec.by_hand("run", "as it was", 4_000_000, "run_resumed", {}))
    assert pauses(state)
    evolve(state, codec.by_hand("run", "more", 5_000_000, "run_resumed", {"budget": {"tokens": 200}}))
    assert not pauses(state) and [fact.kind for fact in decide(state)] == ["paths_drawn"]


def test_a_restored_state_has_spent_what_the_old_one_had() -> None:
    state = spent(started(tokens=10, cost=0.5), 2_000_000, a=(3, 4), b=(5, 6))
    again = restored(canonical(state))
    assert canonical(again) == canonical(state)
    assert pauses(again) == pauses(state) != []


def test_usage_of_a_model_that_nobody_knows_costs_nothing_and_breaks_nothing() -> None:
    event = Event(event_id="x", run_id="run", target_evaluated={})
    event.usage.add(model="stranger", prompt_tokens=7)
    assert budget.spent(evolve(started(), event))["tokens"] == 7
