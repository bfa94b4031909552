"""What the doctor computes: which requests a run makes, whether they fit, and what they come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bohdi.doctor import machine
from bohdi.doctor.ahead import Ahead, Lengths, ahead, at_most
from bohdi.doctor.asked import Asked, asked_of, judges_of
from bohdi.doctor.contexts import fits
from bohdi.doctor.folders import Looked, lora
from bohdi.doctor.machine import Machine
from bohdi_common.core import budget
from bohdi_common.core.state import Rules
from bohdi_common.runtime.config import Config, parse
from tests.unit.test_training_forecast import THREE_B

GIB = 2**30
LENGTHS = Lengths(question=10, answer=100, proposal=5, verdict=1, around={})


def config(**changes: Any) -> Config:
    raw: dict[str, Any] = {
        "name": "x",
        "sources": [{"name": "a", "path": "a"}, {"name": "b", "path": "b"}],
        "target": {"name": "t", "path": "t"},
        "bandit": {"rounds": 2, "steps": 3, "slots": 10, "grow": False, "rehearsal_questions": 0},
        "domains": [["one", "two", "three"]],
        "judging": {"both_orders": False},
        "harvest": {"question_samples": 1},
    }
    return parse(raw | changes, "x.yaml")


def looked_ahead(of: Config, lengths: Lengths = LENGTHS, **told: Any) -> Ahead:
    digests = dict.fromkeys([m.name for m in (*of.sources, of.target, *of.judging.judges)], "")
    return ahead(of, Rules.of(of.settings(0, digests)), lengths, told.pop("tokens_s", {}), **told)


def kinds(of: Config) -> dict[str, list[str]]:
    return {m.name: [a.kind for a in asked_of(of, m)] for m in (*of.sources, of.target, *of.judging.judges)}


def test_each_model_is_checked_with_the_requests_that_it_will_get() -> None:
    grown = {"bandit": {"grow": True}}
    assert kinds(config()) == {"a": ["question", "answer", "verdict"], "b": ["question", "answer", "verdict"],
                               "t": ["answer"]}  # fmt: skip
    assert kinds(config(**grown))["a"] == ["proposal", "question", "answer", "verdict"]
    judged = config(judging={"mode": "judge", "judges": [{"name": "j", "path": "j"}]})
    assert kinds(judged) == {"a": ["question", "answer"], "b": ["question", "answer"], "t": ["answer"],
                             "j": ["verdict"]}  # fmt: skip
    assert kinds(config(judging={"mode": "judge", "judge": "t"}))["t"] == ["answer", "verdict"]


@pytest.mark.parametrize(
    ("mode", "shares"),
    [("leader", {"a": 0.5, "b": 0.5}), ("panel", {"a": 1.0, "b": 1.0}), ("panel_without_author", {"a": 0.5, "b": 0.5})],
)
def test_who_judges_how_often_follows_from_the_mode(mode: str, shares: dict[str, float]) -> None:
    assert judges_of(config(judging={"mode": mode})) == shares


def test_a_models_own_system_prompt_is_part_of_what_is_checked() -> None:
    told = config(sources=[{"name": "a", "path": "a", "system": "Be brief."}])
    assert all("Be brief." in asked.messages[0]["content"] for asked in asked_of(told, told.sources[0]))


def test_a_verdict_has_room_for_the_question_and_every_answer() -> None:
    of = config(harvest={"question_max_tokens": 50, "answer_max_tokens": 200})
    verdict = asked_of(of, of.sources[0])[-1]
    assert verdict.room == 50 + 3 * 200


@pytest.mark.parametrize(("context", "level"), [(None, "ok"), (160, "ok"), (159, "warn"), (60, "warn"), (59, "fail")])
def test_a_context_is_too_small_when_the_shortest_request_does_not_fit_and_small_when_the_longest(
    context: int | None, level: str
) -> None:
    asked = Asked("answer", [], [], room=70, max_tokens=50, lower="harvest.answer_max_tokens")
    found = fits("m", [asked], {"answer": (10, 40)}, context)
    assert found.level == level
    assert ("lower harvest.answer_max_tokens" in found.told) == (level != "ok")


def test_calls_and_tokens_are_those_of_the_run() -> None:
    """60 harvests: a question each, three answers, two verdicts that read the question and all answers."""
    found = looked_ahead(config())
    assert found.calls == 60 * (1 + 3 + 2)
    assert found.tokens["t"].completion == 60 * 100
    assert found.tokens["a"].completion == 30 * 10 + 60 * 100 + 60 * 1
    assert found.tokens["a"].prompt == 60 * 10 + 60 * (10 + 3 * 100)
    assert found.spent["harvests"] == 60
    assert found.spent["tokens"] == sum(of.prompt + of.completion for of in found.tokens.values())
    assert tuple(found.spent) == budget.CAPS


def test_a_tree_that_grows_costs_proposals_of_every_source() -> None:
    grown = config(bandit=config().bandit.model_dump() | {"grow": True})
    assert looked_ahead(grown, replace(LENGTHS, sprouts=0.5)).calls - looked_ahead(config()).calls == 2 * 30


def test_both_orders_and_more_verdicts_multiply_what_judges_are_asked() -> None:
    once = looked_ahead(config())
    sixfold = looked_ahead(config(judging={"both_orders": True, "verdicts": 3}))
    assert sixfold.calls - once.calls == 5 * 120


def test_rehearsals_are_questions_and_answers_of_the_target_without_a_judge() -> None:
    bandit = config().bandit.model_dump() | {"rehearsal_questions": 40}
    more, less = looked_ahead(config(bandit=bandit)), looked_ahead(config())
    assert more.calls - less.calls == 2 * 40
    assert more.spent["harvests"] == less.spent["harvests"]


def test_money_is_by_each_models_prices() -> None:
    priced = config(target={"name": "t", "path": "t", "price_completion": 10.0, "price_prompt": 1.0})
    found = looked_ahead(priced)
    assert found.spent["cost"] == pytest.approx((60 * 100 * 10 + 60 * 10) / 1e6)


def test_hours_are_known_once_every_speed_is_and_models_of_one_process_take_turns() -> None:
    speeds = {"a": 10.0, "b": 10.0, "t": 10.0}
    assert looked_ahead(config()).spent["hours"] == 0
    assert looked_ahead(config(), tokens_s=speeds).spent["hours"] == 0
    here = looked_ahead(config(), tokens_s=speeds, training_tokens_s=1e12)
    written = sum(of.completion for of in here.tokens.values())
    assert here.spent["hours"] == pytest.approx(written / 10 / 3600, rel=1e-6)
    behind = [{"name": n, "adapter": "http", "urls": ["http://x/v1"]} for n in ("a", "b")]
    apart = looked_ahead(config(sources=behind), tokens_s=speeds, training_tokens_s=1e12)
    assert apart.spent["hours"] == pytest.approx(max(o.completion for o in apart.tokens.values()) / 36_000, rel=1e-6)


def test_a_training_reads_as_many_examples_as_the_bandit_would_draw() -> None:
    paper = config(preset="paper", harvest={"question_max_tokens": 10, "answer_max_tokens": 90})
    assert looked_ahead(paper, at_most(paper, {})).training_tokens == 2 * 180 * 100
    longest = {"training": {"max_tokens": 50}, "preset": "paper"}
    assert looked_ahead(config(**longest), at_most(config(**longest), {})).training_tokens == 2 * 180 * 50


@pytest.mark.parametrize(("rank", "level"), [(16, "ok"), (64, "warn")])
def test_a_lora_rank_that_servers_take_only_when_told_so_is_warned_of(rank: int, level: str) -> None:
    behind = {"name": "t", "path": "t", "adapter": "http", "urls": ["http://x/v1"]}
    asked = config(target=behind, training={"lora_rank": rank})
    found = {finding.what: finding for finding in lora(asked, looked()["t"])}
    assert found["LoRA on the servers"].level == level
    assert ("--max-lora-rank 64 or more" in found["LoRA on the servers"].told) == (level == "warn")
    here = config(training={"lora_rank": rank})
    assert [finding.what for finding in lora(here, looked()["t"])] == ["LoRA"]


def looked(positions: int | None = 131_072) -> dict[str, Looked]:
    return {name: Looked(Path(name), None, THREE_B, positions, 2) for name in ("a", "b", "t")}


def levels(of: Config, there: Machine) -> dict[str, str]:
    return {finding.what: finding.level for finding in machine.memory_of(of, looked(), there)}


def test_a_full_fine_tune_of_three_billion_fits_eighty_gigabytes_by_itself_and_not_beside_its_sources() -> None:
    of = config(training={"max_tokens": 2048})
    found = levels(of, Machine(True, 80 * 10**9, "GPU"))
    assert found == {"memory of the models": "ok", "memory of the training": "ok", "memory of both": "fail"}


def test_lora_fits_where_a_full_fine_tune_does_not() -> None:
    there = Machine(True, 40 * GIB, "GPU")
    assert levels(config(), there)["memory of the training"] == "fail"
    assert levels(config(training={"lora_rank": 16}), there)["memory of the training"] == "ok"
    sharded = {"launcher": "torchrun", "processes": 4, "sharding": "fsdp"}
    assert levels(config(training=sharded), there)["memory of the training"] == "ok"
    assert levels(config(training=sharded), replace(there, on_gpu=False))["memory of the training"] == "fail"


def test_a_disk_that_cannot_hold_every_version_is_named(tmp_path: Path) -> None:
    huge = replace(looked()["t"], shape=replace(THREE_B, parameters=10**15))
    assert [f.level for f in machine.disk(config(), huge, tmp_path / "runs")] == ["fail"]
    assert [f.level for f in machine.disk(config(training={"lora_rank": 1}), looked()["t"], tmp_path)] == ["ok"]
