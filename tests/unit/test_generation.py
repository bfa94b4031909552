"""Generation: a question that passes the gates, and everybody's answer to it."""

from pathlib import Path
from typing import Any

import pytest

from bohdi_common.core.state import Failure
from bohdi_common.events.events_pb2 import Event
from bohdi_common.models.port import ModelRef, ModelRefused, ModelUnavailable
from services.generation.handler import Generation
from services.generation.near_duplicates import EarlierQuestions
from tests.unit.script import Says, Script, no_log, request

PATH = ["Science", "Physics", "Optics"]
HARVEST = {"path": PATH, "leader": "b", "target_version": "r2"}


async def outcome(says: Says, harvest: dict[str, Any] | None = None, **body: Any) -> tuple[Event, Script]:
    models = Script(says)
    generation = Generation(models, EarlierQuestions(no_log), clock=lambda: 7)
    (result,) = await generation.handle(request("harvest_requested", HARVEST | body, harvest=harvest or {}))
    return result, models


def asks_and_says(question: str | list[str] = "Why is it blue?", **answers: str) -> Says:
    """A model's answer is its name unless given."""
    return lambda model, prompt: question if prompt.startswith("Ask:") else answers.get(model, model)


async def test_the_leader_asks_and_the_target_and_all_sources_answer() -> None:
    result, models = await outcome(asks_and_says())
    body = result.answers_written
    assert (body.question, body.leader, list(body.path)) == ("Why is it blue?", "b", PATH)
    assert [(answer.model, answer.version, answer.text) for answer in body.answers] == [
        ("target", "r2", "target"), ("a", "", "a"), ("b", "", "b"), ("c", "", "c"),
    ]  # fmt: skip
    assert models.calls[0][0] == ModelRef("b", path="b")
    assert models.calls[1][0] == ModelRef("target", "r2", "run", "target")
    assert models.calls[0][1][-1]["content"] == "Ask: Science > Physics > Optics"


async def test_answers_carry_what_they_cost_and_the_settings_go_on_to_the_judges() -> None:
    result, _ = await outcome(asks_and_says())
    answer = result.answers_written.answers[0]
    assert (answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, answer.seconds) == ("stop", 3, 2, 0.5)
    assert result.answers_written.question_prompt_tokens == 3
    assert [source.name for source in result.answers_written.settings.sources] == ["a", "b", "c"]


async def test_a_question_may_have_many_lines() -> None:
    result, _ = await outcome(asks_and_says("Given:\n  x = 1\nWhat is x?\n"))
    assert result.answers_written.question == "Given:\n  x = 1\nWhat is x?"


async def test_the_first_sample_that_is_a_whole_question_is_asked() -> None:
    result, _ = await outcome(asks_and_says(["  ?? ", "What was cut...", "Whole?", "Later?"]), {"question_samples": 4})
    assert result.answers_written.question == "Whole?"


async def test_no_question_is_a_rejection_at_the_stage_of_the_question() -> None:
    result, models = await outcome(asks_and_says("..."))
    failed = result.harvest_failed
    assert (failed.failure, failed.stage, failed.request_hash) == (Failure.REJECTED, "question", "hash")
    assert len(models.calls) == 1


async def test_a_question_of_a_benchmark_is_never_asked(tmp_path: Path) -> None:
    file = tmp_path / "heldout.jsonl"
    file.write_text('{"question": "Why is it blue?"}\n')
    models = Script(asks_and_says())
    generation = Generation(models, EarlierQuestions(no_log), benchmark_of=lambda name: tmp_path / name)
    event = request("harvest_requested", HARVEST)
    event.harvest_requested.settings.harvest.benchmarks.append("heldout.jsonl")
    (result,) = await generation.handle(event)
    assert (result.harvest_failed.stage, result.harvest_failed.failure) == ("gate", Failure.REJECTED)


async def test_an_empty_answer_takes_no_part() -> None:
    result, _ = await outcome(asks_and_says(a="  \n"))
    assert [answer.failed for answer in result.answers_written.answers] == ["", "empty", "", ""]


async def test_an_answer_that_the_token_limit_cut_takes_part() -> None:
    result, _ = await outcome(asks_and_says(a="half of it..."))
    answer = result.answers_written.answers[1]
    assert (answer.text, answer.finish_reason, answer.failed) == ("half of it...", "length", "")


async def test_an_overlong_answer_is_cut_at_a_character_and_marked() -> None:
    result, _ = await outcome(asks_and_says(a="量" * 100_000))
    answer = result.answers_written.answers[1]
    assert answer.truncated
    assert set(answer.text) == {"量"}
    assert len(answer.text.encode()) <= 256 * 1024


async def test_fewer_than_two_answers_are_no_harvest() -> None:
    result, _ = await outcome(asks_and_says(a="", b="", c=""))
    assert (result.harvest_failed.stage, result.harvest_failed.question) == ("answers", "Why is it blue?")


def away(who: str, error: Exception, asking: bool = False) -> Says:
    def says(model: str, prompt: str) -> str:
        if model == who and prompt.startswith("Ask:") == asking:
            raise error
        return "Why?" if prompt.startswith("Ask:") else model

    return says


@pytest.mark.parametrize("error", [ModelUnavailable("away"), ModelRefused("too long")])
async def test_a_source_that_is_away_or_refuses_takes_no_part(error: Exception) -> None:
    result, _ = await outcome(away("c", error))
    assert [answer.failed for answer in result.answers_written.answers] == ["", "", "", str(error)]


async def test_without_the_target_there_is_nothing_to_learn_now() -> None:
    with pytest.raises(ModelUnavailable):
        await outcome(away("target", ModelUnavailable("away")))


async def test_a_target_that_refuses_the_question_has_no_answer() -> None:
    result, _ = await outcome(away("target", ModelRefused("too long")))
    assert result.answers_written.answers[0].failed == "too long"


async def test_without_the_leader_the_question_is_to_be_tried_again() -> None:
    with pytest.raises(ModelUnavailable):
        await outcome(away("b", ModelUnavailable("away"), asking=True))


async def test_in_a_rehearsal_the_target_alone_answers_and_greedily() -> None:
    result, models = await outcome(asks_and_says(target="Because."), rehearsal=True)
    body = result.rehearsal_answered
    assert (body.question, body.answer.text, body.answer.version, list(body.path)) == (
        "Why is it blue?", "Because.", "r2", PATH,
    )  # fmt: skip
    assert [call[0].name for call in models.calls] == ["b", "target"]
    assert models.calls[1][2].temperature == 0.0


async def test_a_rehearsal_without_an_answer_is_rejected() -> None:
    result, _ = await outcome(asks_and_says(target=" "), rehearsal=True)
    assert (result.harvest_failed.stage, result.harvest_failed.failure) == ("answers", Failure.REJECTED)
