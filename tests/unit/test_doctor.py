"""What the doctor computes: which requests a run makes, whether they fit, and what they come to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from bohdi.doctor import examination, machine
from bohdi.doctor.ahead import SPROUTS_SHARED, Ahead, Lengths, ahead, at_most
from bohdi.doctor.asked import Asked, asked_of, judges_of
from bohdi.doctor.contexts import fits, rendered
from bohdi.doctor.finding import gib
from bohdi.doctor.folders import Looked, lora
from bohdi.doctor.machine import Machine
from bohdi.doctor.speed import Request, Speed, burst, requests_of
from bohdi_common.core import budget
from bohdi_common.core.state import Rules
from bohdi_common.models.local import MAX_VERSIONS
from bohdi_common.models.port import Endpoint, Message, ModelRef, Reply, Sampling
from bohdi_common.runtime.config import Config, parse
from services.training import forecast
from tests.unit.script import Script
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
    [("leader", dict.fromkeys("abcd", 0.25)), ("panel", dict.fromkeys("abcd", 1.0) | {"j": 1.0}),
     ("panel_without_author", dict.fromkeys("abcd", 0.75) | {"j": 1.0})],
)  # fmt: skip
def test_who_judges_how_often_follows_from_the_mode(mode: str, shares: dict[str, float]) -> None:
    beside = [{"name": "j", "path": "j"}] if "j" in shares else []
    sources = [{"name": name, "path": name} for name in "abcd"]
    assert judges_of(config(sources=sources, judging={"mode": mode, "judges": beside})) == shares


def test_a_models_own_system_prompt_is_part_of_what_is_checked() -> None:
    told = config(sources=[{"name": "a", "path": "a", "system": "Be brief."}])
    for asked in asked_of(told, told.sources[0]):
        assert "Be brief." in asked.messages[0]["content"] and "Be brief." in asked.longest[0]["content"]


def test_the_longest_request_has_the_longest_names_at_every_level_and_beside_them() -> None:
    of = config(bandit=config().bandit.model_dump() | {"grow": True})
    longest = {asked.kind: asked.longest[-1]["content"] for asked in asked_of(of, of.sources[0])}
    name = "Applied theory of rather specific things and their relations to"
    assert f"{name} > {name}" in longest["proposal"]
    assert f"{name} > {name} > {name}" in longest["question"]
    assert all(f"their relations {number}" in longest["proposal"] for number in range(20))


def test_a_verdict_has_room_for_the_question_and_every_answer() -> None:
    of = config(harvest={"question_max_tokens": 50, "answer_max_tokens": 200})
    room = {asked.kind: asked.room for asked in asked_of(of, of.sources[0])}
    assert room == {"question": 0, "answer": 50, "verdict": 50 + 3 * 200}


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


def test_a_request_costs_what_it_is_written_around_too() -> None:
    around = {"question": 7.0, "answer": 11.0, "verdict": 13.0}
    more, less = looked_ahead(config(), replace(LENGTHS, around=around)), looked_ahead(config())
    assert more.tokens["a"].prompt - less.tokens["a"].prompt == 30 * 7 + 60 * 11 + 60 * 13
    assert more.tokens["t"].prompt - less.tokens["t"].prompt == 60 * 11
    assert more.calls == less.calls


def test_every_sample_of_a_question_or_of_a_proposal_is_written() -> None:
    bandit = config().bandit.model_dump() | {"grow": True}
    grown = {"bandit": bandit, "sprout": {"samples": 3}, "harvest": {"question_samples": 4}}
    found = looked_ahead(config(**grown), replace(LENGTHS, sprouts=0.5)).tokens["a"].completion
    assert found == 30 * 4 * 10 + 60 * 100 + 60 * 1 + 30 * 3 * 5


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
    unused = config(bandit=bandit, training={"rehearsal_share": 0.0})  # the bandit asks them all the same
    assert looked_ahead(unused).calls == more.calls


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
    trained = looked_ahead(config(), tokens_s=speeds, training_tokens_s=50.0)
    assert trained.spent["hours"] == pytest.approx((written / 10 + trained.training_tokens / 50) / 3600)
    behind = [{"name": n, "adapter": "http", "urls": ["http://x/v1"]} for n in ("a", "b")]
    apart = looked_ahead(config(sources=behind), tokens_s=speeds, training_tokens_s=1e12)
    assert apart.spent["hours"] == pytest.approx(max(o.completion for o in apart.tokens.values()) / 36_000, rel=1e-6)


def test_a_training_reads_as_many_examples_as_the_bandit_would_draw() -> None:
    paper = config(preset="paper", harvest={"question_max_tokens": 10, "answer_max_tokens": 90})
    assert looked_ahead(paper, at_most(paper, {})).training_tokens == 2 * 180 * 100
    longest = {"training": {"max_tokens": 50}, "preset": "paper"}
    assert looked_ahead(config(**longest), at_most(config(**longest), {})).training_tokens == 2 * 180 * 50


def test_a_training_by_passes_grows_with_the_pairs_and_what_was_rehearsed_and_reads_them_in_every_epoch() -> None:
    training = {"passes": 1.0, "batch": 10, "epochs": 2, "rehearsal_share": 0.5, "replay_share": 0.2}
    bandit = config().bandit.model_dump()
    around = replace(LENGTHS, around={"answer": 5.0})
    alone = looked_ahead(config(training=training), around)
    assert alone.training_tokens == (30 + 60) * 2 * (5 + 10 + 100)
    rehearsed = config(training=training, bandit=bandit | {"rehearsal_questions": 40})
    assert looked_ahead(rehearsed, around).training_tokens == 2 * alone.training_tokens


def test_a_cap_that_the_run_may_reach_is_warned_of() -> None:
    most = looked_ahead(config())
    assert list(examination._caps(config(budget={"harvests": 60, "tokens": 10**9}), most)) == []
    (found,) = examination._caps(config(budget={"harvests": 59, "tokens": 10**9}), most)
    assert (found.level, found.what) == ("warn", "budget")
    assert found.told.startswith("the whole run may want 60 harvests, and pauses at its cap of 59: ")


def test_texts_are_likely_as_long_as_those_of_the_burst_on_average_and_else_as_long_as_they_may_be() -> None:
    speeds = {"a": Speed(9.0, {"answer": 20.0, "question": 5.0}), "b": Speed(9.0, {"answer": 40.0, "verdict": 2.0})}
    likely = examination._measured(replace(LENGTHS, around={"answer": 3.0}), speeds)
    assert likely == Lengths(5.0, 30.0, LENGTHS.proposal, 2.0, {"answer": 3.0}, SPROUTS_SHARED)


def test_a_request_itself_is_a_token_for_every_four_characters() -> None:
    of = config()
    (answer,) = (asked for asked in asked_of(of, of.target) if asked.kind == "answer")
    assert examination._around(of)["answer"] == sum(len(m["content"]) for m in answer.messages) / 4


async def test_a_burst_tells_the_tokens_of_a_second_and_of_each_kind_where_no_text_was_cut() -> None:
    class Slow(Script):
        async def complete(self, *asked: Any) -> Reply:
            await asyncio.sleep(1.0)  # a machine may stall for most of that
            return await super().complete(*asked)

    models = Slow(lambda model, prompt: "whole" if prompt == "a?" else "cut off...")  # two tokens, either
    asked = [
        Request(kind, [{"role": "user", "content": f"{kind[0]}?"}], 64, 0.7, 0.9) for kind in ("answer", "verdict")
    ]
    found = await burst(models, ModelRef("m", endpoint=Endpoint(("http://x/v1",), "m")), asked, at_once=3)
    assert (len(models.calls), found.lengths) == (6, {"answer": 2.0})
    assert 6 < found.tokens_s <= 12
    assert models.calls[0][2] == Sampling(64, 0.7, 0.9)


def test_a_burst_asks_for_no_longer_texts_than_the_run_and_than_tell_of_the_speed() -> None:
    of = config(harvest={"question_max_tokens": 50, "answer_max_tokens": 4000})
    told = {request.kind: request.max_tokens for request in requests_of(of, of.sources[0])}
    assert told == {"question": 50, "answer": 128, "verdict": of.judging.max_tokens}


@pytest.mark.parametrize(("rank", "level"), [(16, "ok"), (64, "warn")])
def test_a_lora_rank_that_servers_take_only_when_told_so_is_warned_of(rank: int, level: str) -> None:
    behind = {"name": "t", "path": "t", "adapter": "http", "urls": ["http://x/v1"]}
    asked = config(target=behind, training={"lora_rank": rank})
    found = {finding.what: finding for finding in lora(asked, looked()["t"])}
    assert found["LoRA on the servers"].level == level
    assert ("--max-lora-rank 64 or more" in found["LoRA on the servers"].told) == (level == "warn")
    here = config(training={"lora_rank": rank})
    assert [finding.what for finding in lora(here, looked()["t"])] == ["LoRA"]


def test_lora_and_muon_are_not_for_one_training() -> None:
    both = config(training={"lora_rank": 4, "muon_learning_rate": 0.01})
    assert [(f.level, f.told) for f in lora(both, looked()["t"])][1:] == [
        ("fail", "muon_learning_rate is for matrices that LoRA freezes: set one of them to 0")
    ]


class Words:
    """A tokenizer of words, whose template ends a prompt with one that begins the reply."""

    def apply_chat_template(self, messages: list[Message], tokenize: bool, add_generation_prompt: bool) -> str:
        if len(messages) > 1:
            raise TemplateError("one message at a time")
        return messages[0]["content"] + " Answer:" * add_generation_prompt

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[str]]:
        return {"input_ids": text.split() + ["<s>"] * add_special_tokens}


def test_prompts_are_counted_as_the_template_makes_them_and_one_that_it_refuses_is_told_of() -> None:
    seen = Looked(Path("m"), Words(), THREE_B, 100, 2)
    short: list[Message] = [{"role": "user", "content": "one two"}]
    long: list[Message] = [{"role": "user", "content": "one two three four"}]
    asked = Asked("answer", short, long, room=7, max_tokens=50, lower="")
    assert [f.told for f in rendered("m", seen, [asked])] == ["tokens with the reply, of 100: answer 53 to 62"]
    (refused,) = rendered("m", seen, [replace(asked, longest=long * 2)])
    assert (refused.level, refused.what) == ("fail", "template of m")
    assert "refuses a answer: one message at a time" in refused.told


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


@pytest.mark.parametrize(("on_gpu", "unit"), [(False, 4), (True, 2)])
def test_models_hold_their_weights_and_the_target_those_of_the_versions_that_it_keeps(on_gpu: bool, unit: int) -> None:
    wanted = unit * (2 + MAX_VERSIONS) * THREE_B.parameters
    there = [wanted - 1, wanted, round(wanted / 0.9) + 1]  # beyond nine tenths of what is free it may not go well
    found = [levels(config(), Machine(on_gpu, memory, "x"))["memory of the models"] for memory in there]
    assert found == ["fail", "warn", "ok"]
    both = wanted + forecast.memory(THREE_B, machine.plan_of(config(), 131_072, on_gpu)).total
    found = [levels(config(), Machine(on_gpu, memory, "x"))["memory of both"] for memory in (both - 1, both)]
    assert found == ["fail", "warn"]


def test_the_plan_of_a_training_is_what_the_trainer_will_do() -> None:
    harvest = {"question_max_tokens": 100, "answer_max_tokens": 400}
    training = {"batch": 96, "max_tokens": 2048, "launcher": "trainjob", "processes": 2,
                "nodes": 3, "sharding": "fsdp"}  # fmt: skip
    plan = machine.plan_of(config(harvest=harvest, training=training), None, on_gpu=True)
    assert (plan.row_tokens, plan.muon, plan.shards, plan.rows * plan.passes) == (500, False, 6, 96)
    assert plan.passes > 1
    assert machine.plan_of(config(harvest=harvest, training=training), 300, on_gpu=True).row_tokens == 300
    assert machine.plan_of(config(training={"muon_learning_rate": 0.01}), None, on_gpu=True).muon
    cut = config(harvest=harvest, training=training | {"max_tokens": 200})
    assert machine.plan_of(cut, None, on_gpu=True).row_tokens == 200


def test_free_memory_is_what_the_system_tells_within_the_bound_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       9000 kB\nMemAvailable:    8000 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine._system_memory() == 8000 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    for bound, free in (("max\n", 8000 * 1024), (f"{2**30}\n", 8000 * 1024), ("50000\n", 49_000)):
        (tmp_path / "memory.max").write_text(bound)
        assert machine._system_memory() == free


def test_a_disk_holds_a_version_for_each_round_and_the_one_that_is_being_written(tmp_path: Path) -> None:
    (whole,) = machine.disk(config(), looked()["t"], tmp_path)
    assert whole.told.startswith(f"3 versions of {gib(2 * THREE_B.parameters)}: ")  # as many bytes as in its folder
    (adapters,) = machine.disk(config(training={"lora_rank": 8}), looked()["t"], tmp_path)
    assert adapters.told.startswith(f"3 versions of {gib(4 * forecast.adapter_parameters(THREE_B, 8))}: ")


def test_a_disk_that_cannot_hold_every_version_is_named(tmp_path: Path) -> None:
    huge = replace(looked()["t"], shape=replace(THREE_B, parameters=10**15))
    assert [f.level for f in machine.disk(config(), huge, tmp_path / "runs")] == ["fail"]
    assert [f.level for f in machine.disk(config(training={"lora_rank": 1}), looked()["t"], tmp_path)] == ["ok"]
