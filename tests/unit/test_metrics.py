"""What is counted of inputs, calls, verdicts and trainings, and what a scrape looks up of a run."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable

import pytest

from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Answer, Event, HarvestJudged, TargetPromoted, Verdict
from bohdi_common.models.metering import Metered
from bohdi_common.models.port import Message, ModelRef, ModelUnavailable, Sampling
from bohdi_common.models.scripted import ScriptedModels
from bohdi_common.runtime import health, metrics
from bohdi_common.runtime.metric_collectors import gathered, of_health, of_local_host, of_runs
from services.bandit.handler import folded
from tests.recorded_run import RecordedRun
from tests.unit.script import request
from tests.unit.test_shell import HARVEST, processed


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def growth(name: str, **labels: str) -> Callable[[], float]:
    before = value(name, **labels)
    return lambda: value(name, **labels) - before


async def test_an_input_is_counted_by_its_kind_and_by_what_came_of_it() -> None:
    of = {"service": "generation", "type": "harvest_requested"}
    outcomes = {o: growth("bohdi_events_handled_total", outcome=o, **of) for o in ("done", "unavailable", "dead")}
    seconds, dead = (
        growth("bohdi_handling_seconds_count", **of),
        growth("bohdi_dead_letters_total", service="generation"),
    )
    retries = growth("bohdi_model_retries_total", service="generation")
    event = request("harvest_requested", HARVEST)
    await processed(event, [])
    await processed(event, ModelUnavailable("away"))
    await processed(event, RuntimeError("a mistake"))
    assert {outcome: count() for outcome, count in outcomes.items()} == {"done": 1, "unavailable": 1, "dead": 1}
    assert (seconds(), dead(), retries()) == (3, 1, 3)


async def test_what_cannot_be_decoded_is_a_dead_letter_of_an_unknown_type() -> None:
    counted = growth("bohdi_events_handled_total", service="generation", type="unknown", outcome="dead")
    await processed(b"\xff")
    assert counted() == 1


async def test_a_call_is_counted_by_model_and_outcome_with_its_tokens() -> None:
    def says(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
        if messages[0]["content"] == "go away":
            raise ModelUnavailable("away")
        return ["a b"] * sampling.n

    models = Metered(ScriptedModels(says), metrics.model_call)
    counts = [growth("bohdi_model_calls_total", model="m", outcome=o) for o in ("ok", "unavailable")]
    tokens = growth("bohdi_model_tokens_total", model="m", part="completion")
    seconds = growth("bohdi_model_call_seconds_count", model="m")
    reply = await models.complete(ModelRef("m"), [{"role": "user", "content": "hello"}], Sampling(8, n=2))
    with pytest.raises(ModelUnavailable):
        await models.complete(ModelRef("m"), [{"role": "user", "content": "go away"}], Sampling(8))
    assert [count() for count in counts] == [1, 1]
    assert (tokens(), seconds()) == (sum(c.completion_tokens for c in reply.completions), 2)


def test_models_beyond_the_bound_share_one_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_models_seen", {str(n): str(n) for n in range(metrics.MODELS_MAX)})
    assert metrics.model_label("0") == "0"
    assert metrics.model_label("one more") == metrics.OTHER


def judged(*verdicts: Verdict, best: int) -> Event:
    body = HarvestJudged(answers=[Answer()] * 3, verdicts=verdicts, counted=best >= 0, best=best, reward=int(best > 0))
    return Event(harvest_judged=body)


def test_verdicts_are_counted_by_agreement_and_position_beside_what_chance_would_give() -> None:
    outcomes = [growth("bohdi_verdicts_total", judge="j", outcome=o) for o in ("agrees", "differs", "abstained")]
    first, second = (growth("bohdi_verdict_positions_total", judge="j", position=p) for p in "12")
    expected = growth("bohdi_verdict_positions_expected_total", judge="j", position="2")
    rewards = growth("bohdi_harvests_judged_total", reward="1")
    metrics.appended(
        judged(
            Verdict(judge="j", order=[2, 0, 1], choice=2),
            Verdict(judge="j", order=[1, 0, 2], choice=0),
            Verdict(judge="j", order=[0, 1, 2], choice=-1),
            best=2,
        )
    )
    assert [count() for count in outcomes] == [1, 1, 1]
    assert (first(), second(), rewards()) == (1, 1, 1)
    assert expected() == pytest.approx(2 / 3)


def test_a_promoted_version_tells_its_losses_and_a_failed_one_is_counted() -> None:
    promoted, failed = (growth("bohdi_trainings_total", outcome=o) for o in ("promoted", "failed"))
    metrics.appended(Event(target_promoted=TargetPromoted(loss_first=2.0, loss_last=0.5, seconds=3.0)))
    failure: dict[str, object] = {"training_failed": {}}
    metrics.appended(Event(**failure))
    assert (promoted(), failed()) == (1, 1)
    assert value("bohdi_training_loss_nats", point="last") == 0.5


def state() -> RunState:
    """That of a recorded run in the midst of it."""
    run = RecordedRun()
    run.run()
    return folded(run.feedback[: len(run.feedback) * 2 // 3], run.run_id)


def scraped(*states: RunState) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with gathered(of_runs(lambda: states)):
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in metrics.REGISTRY.collect()
            for sample in family.samples
            if sample.name.startswith("bohdi_run")
        }


def test_a_scrape_tells_a_runs_state_as_it_is_folded() -> None:
    there = state()
    found = scraped(there)
    run = ("run", there.run_id)
    assert found["bohdi_run_events_total", (run,)] == there.sequence
    assert found["bohdi_run_round", (run,)] == there.round
    assert found["bohdi_run_outcomes_total", (run, ("what", "harvests"))] == there.counts["harvests"]
    sizes = [found["bohdi_run_tree_nodes", (("level", level), run)] for level in metrics.LEVELS.values()]
    assert sizes == there.tree.nodes_by_level[1:]
    weakest = [v for (name, _), v in found.items() if name == "bohdi_run_weakest_lambda_ratio"]
    leaves = [leaf for leaf in there.tree.leaves() if there.tree.pulls(leaf)]
    assert sorted(weakest) == sorted(sorted(map(there.tree.mean, leaves))[-metrics.WEAKEST :])


def test_the_series_of_a_run_that_is_over_are_gone() -> None:
    there = state()
    there.finished = "all rounds done"
    assert scraped(there) == {("bohdi_runs", ()): 0}


def test_what_is_left_of_a_budget_ends_at_nothing() -> None:
    there = state()
    there.spent_tokens = 100
    there.caps = {"tokens": 50.0, "harvests": 4.0 * max(1, there.counts["harvests"])}
    found = scraped(there)
    left = {dict(labels)["cap"]: v for (name, labels), v in found.items() if name == "bohdi_run_budget_left_ratio"}
    assert left["tokens"] == 0 and 0 < left["harvests"] < 1


def test_a_tree_grows_while_it_is_scraped() -> None:
    """A column that is looked at cannot grow: the bandit's fold would end by a BufferError."""
    there, over = state(), threading.Event()

    def scrape() -> None:
        while not over.is_set():
            scraped(there)

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        for number in range(3000):
            there.tree.add(0, f"domain {number}", grow=True)
    finally:
        over.set()
        scraping.join()
    assert there.tree.nodes_by_level[1] >= 3000


def test_the_health_server_answers_prometheus() -> None:
    there = health.Health("judging", stuck_after_s=60.0, lag={("bohdi.answers", 3): 7})
    port = health.serve(there, "127.0.0.1", 0)
    with gathered(of_health(there)), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'bohdi_consumer_lag_events{partition="3",service="judging",topic="bohdi.answers"} 7.0' in text
    assert 'bohdi_ready{service="judging"} 0.0' in text
    assert 'host="kafka",service="judging"' in text


def test_an_embedded_run_tells_of_each_of_its_services() -> None:
    with gathered(of_local_host(lambda: {"judging": 3}, lambda name: 1.5)):
        assert value("bohdi_in_flight_events", service="judging") == 3
        assert value("bohdi_oldest_input_age_seconds", service="judging") == 1.5
    assert value("bohdi_in_flight_events", service="judging") == 0
