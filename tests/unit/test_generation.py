"""Generation: a question that passes the gates, and everybody's answer to it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bohdi_common.core.state import Failure
from bohdi_common.events.events_pb2 import Event
from bohdi_common.models.port import ModelBlocked, ModelRef, ModelRefused, ModelUnavailable
from services.generation import styles
from services.generation.handler import Generation
from services.generation.near_duplicates import EarlierQuestions
from tests.unit.feedback import Log
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
    assert {call[0].asked_by for call in models.calls} == {"run"}  # whose turns they take
    assert models.calls[0][1][-1]["content"] == "Ask: Science > Physics > Optics"


async def test_answers_carry_what_they_cost_and_the_settings_go_on_to_the_judges() -> None:
    result, _ = await outcome(asks_and_says())
    answer = result.answers_written.answers[0]
    assert (answer.finish_reason, answer.prompt_tokens, answer.completion_tokens, answer.seconds) == ("stop", 3, 2, 0.5)
    assert answer.mean_logprob == -0.25
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
    failed = result.harvest_failed
    assert (failed.stage, failed.failure) == ("gate", Failure.REJECTED)
    assert [(r.what, r.model, r.gate, r.text) for r in failed.refused] == [
        ("question", "b", "benchmark", "Why is it blue?")
    ] * 2


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


async def test_a_source_that_a_person_must_mend_is_not_left_out() -> None:
    with pytest.raises(ModelBlocked, match="the key is wrong"):
        await outcome(away("c", ModelBlocked("the key is wrong")))


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


# ---- gates -----------------------------------------------------------------------------------------------------

OTHER_QUESTION = "Which gas makes the lamps of a lighthouse glow?"
ON = {"near_duplicate": 0.8, "question_samples": 1}


class Harvests:
    """Requests of one run to one service, whose feedback log holds what it wrote."""

    def __init__(self, says: Says, log: Log | None = None, **sections: Any) -> None:
        self.log = log or Log()
        self.generation = Generation(Script(says), EarlierQuestions(lambda _: self.log), clock=lambda: 7)
        self.sections = sections

    async def ask(self, request_hash: str, step: int = 2, **body: Any) -> Event:
        event = request("harvest_requested", HARVEST | body, **self.sections)
        event.step = step
        event.harvest_requested.request_hash = request_hash
        (result,) = await self.generation.handle(event)
        return result


async def test_a_question_like_an_earlier_one_of_the_run_is_refused_and_names_it() -> None:
    run = Harvests(asks_and_says(), harvest=ON)
    assert (await run.ask("first")).HasField("answers_written")
    failed = (await run.ask("second")).harvest_failed
    assert (failed.stage, failed.reason) == ("gate", "every question was refused: near_duplicate")
    assert [(r.gate, r.like, r.text) for r in failed.refused] == [("near_duplicate", "first", "Why is it blue?")]


async def test_what_another_process_asked_counts_once_its_result_is_in_the_log() -> None:
    log = Log()
    here = Harvests(asks_and_says(), log, harvest=ON)
    log.add("harvest_judged", "run", "Why is it blue?", "elsewhere")
    assert (await here.ask("here")).harvest_failed.refused[0].like == "elsewhere"


async def test_two_that_are_asked_at_once_by_one_process_do_not_both_pass() -> None:
    run = Harvests(asks_and_says(), harvest=ON)
    results = await asyncio.gather(*(run.ask(f"request {n}") for n in range(5)))
    assert [result.HasField("answers_written") for result in results] == [True, False, False, False, False]


async def test_in_lockstep_only_the_steps_before_count_so_that_the_order_of_results_does_not() -> None:
    run = Harvests(asks_and_says(), harvest=ON, bandit={"lockstep": True})
    results = await asyncio.gather(*(run.ask(f"request {n}") for n in range(3)))
    assert all(result.HasField("answers_written") for result in results)
    assert (await run.ask("later", step=3)).harvest_failed.refused[0].gate == "near_duplicate"


async def test_a_request_that_comes_again_asks_its_own_question_again() -> None:
    run = Harvests(asks_and_says(), harvest=ON)
    first, again = [(await run.ask("request")).answers_written for _ in range(2)]
    assert first.question == again.question == "Why is it blue?"
    run.log.add("harvest_judged", "run", first.question, "request")
    assert (await run.ask("request")).answers_written.question == first.question


async def test_a_question_that_was_never_answered_is_in_nobodys_way() -> None:
    there = {"target": False}

    def says(model: str, prompt: str) -> str:
        if model == "target" and not there["target"]:
            raise ModelUnavailable("away")
        return "Why is it blue?" if prompt.startswith("Ask:") else model

    run = Harvests(says, harvest=ON)
    with pytest.raises(ModelUnavailable):
        await run.ask("first")
    there["target"] = True
    assert (await run.ask("second")).HasField("answers_written")


async def test_a_refused_sample_is_told_of_beside_the_one_that_passed() -> None:
    questions = iter([["Why is it blue?"] * 2, ["Why, is it blue?", OTHER_QUESTION]])
    says = lambda model, prompt: next(questions) if prompt.startswith("Ask:") else model  # noqa: E731
    run = Harvests(says, harvest=ON | {"question_samples": 2})
    await run.ask("first")
    written = (await run.ask("second")).answers_written
    assert written.question == OTHER_QUESTION
    assert [(r.what, r.gate, r.text) for r in written.refused] == [("question", "near_duplicate", "Why, is it blue?")]


async def test_near_duplicates_pass_where_the_gate_is_off() -> None:
    result, _ = await outcome(asks_and_says())  # and its log is never read
    assert result.HasField("answers_written")


DECLINED = "I'm sorry, but I can't help with that."


async def test_an_answer_that_two_gates_refuse_is_refused_by_the_first() -> None:
    declined = "Es tut mir leid, aber ich kann dabei nicht helfen."
    result, _ = await outcome(asks_and_says(a=declined), {"drop_refusals": True, "languages": ["en"]})
    assert [(r.model, r.gate) for r in result.answers_written.refused] == [("a", "refusal")]


async def test_an_answer_that_declines_takes_no_part_where_the_gate_is_on() -> None:
    result, _ = await outcome(asks_and_says(a=DECLINED), {"drop_refusals": True})
    written = result.answers_written
    assert [answer.failed for answer in written.answers] == ["", "refusal: declines to answer (en)", "", ""]
    assert written.answers[1].text == DECLINED
    assert [(r.what, r.model, r.gate, r.reason) for r in written.refused] == [
        ("answer", "a", "refusal", "declines to answer (en)")
    ]
    result, _ = await outcome(asks_and_says(a=DECLINED))
    assert not result.answers_written.answers[1].failed and not result.answers_written.refused


async def test_an_answer_that_the_token_limit_cut_takes_no_part_where_the_gate_is_on() -> None:
    result, _ = await outcome(asks_and_says(target="half of it..."), {"drop_cut": True})
    assert [answer.failed for answer in result.answers_written.answers] == ["cut: cut by the token limit", "", "", ""]


async def test_questions_and_answers_in_another_language_are_refused() -> None:
    french = "Quelle est la capitale de la France, et pourquoi ?"
    result, _ = await outcome(asks_and_says(french), {"languages": ["en"]})
    assert {(r.gate, r.reason) for r in result.harvest_failed.refused} == {("language", "in fr")}
    result, _ = await outcome(asks_and_says(c=french), {"languages": ["en", "es"]})
    assert [answer.failed for answer in result.answers_written.answers] == ["", "", "", "language: in fr"]


async def test_where_gates_leave_fewer_than_two_answers_the_failure_says_which() -> None:
    result, _ = await outcome(
        asks_and_says(a=DECLINED, b=DECLINED, c="cut..."), {"drop_refusals": True, "drop_cut": True}
    )
    failed = result.harvest_failed
    assert (failed.stage, failed.question) == ("answers", "Why is it blue?")
    assert [(r.model, r.gate) for r in failed.refused] == [("a", "refusal"), ("b", "refusal"), ("c", "cut")]


async def test_a_rehearsals_answer_passes_the_same_gates() -> None:
    result, _ = await outcome(asks_and_says(target=DECLINED), {"drop_refusals": True}, rehearsal=True)
    assert (result.harvest_failed.stage, result.harvest_failed.refused[0].gate) == ("answers", "refusal")


async def test_a_refused_text_with_half_a_character_in_it_breaks_no_event() -> None:
    run = Harvests(asks_and_says("Why is it blue?\ud800"), harvest=ON)
    await run.ask("first")
    assert (await run.ask("second")).harvest_failed.refused[0].text == "Why is it blue??"


STYLES = ["It must rhyme.", "It must need a program."]


async def styled(slot: int, seed: int = 1, **body: Any) -> tuple[Event, Script]:
    models = Script(lambda model, prompt: "Why is it blue?" if "exam question" in prompt else model)
    event = request("harvest_requested", HARVEST | body, harvest={"question_styles": STYLES}, prompts="chat-v3")
    event.slot, event.harvest_requested.settings.seed = slot, seed
    (result,) = await Generation(models, EarlierQuestions(no_log), clock=lambda: 7).handle(event)
    return result, models


async def test_a_question_is_asked_for_in_the_style_that_its_request_draws_and_the_event_says_in_which() -> None:
    for slot in range(8):
        result, models = await styled(slot)
        style = result.answers_written.question_style
        assert style in STYLES and models.calls[0][1][-1]["content"].endswith(style)
        assert (await styled(slot))[0].answers_written.question_style == style
        rehearsed, _ = await styled(slot, rehearsal=True)
        assert rehearsed.rehearsal_answered.question_style == style


async def test_without_styles_nothing_is_said_of_one() -> None:
    result, _ = await outcome(asks_and_says())
    assert result.answers_written.question_style == ""


def test_styles_are_drawn_with_equal_chance_by_seed_and_place() -> None:
    drawn = [styles.drawn(STYLES, 1, 1, 1, slot, PATH) for slot in range(2000)]
    assert abs(drawn.count(STYLES[0]) - 1000) < 100  # four standard deviations and a half
    places = [(2, 1, 1, 7, PATH), (1, 2, 1, 7, PATH), (1, 1, 2, 7, PATH), (1, 1, 1, 8, PATH), (1, 1, 1, 7, ["other"])]
    many = [str(number) for number in range(1000)]
    assert len({styles.drawn(many, 1, 1, 1, 7, PATH), *(styles.drawn(many, *place) for place in places)}) == 6
