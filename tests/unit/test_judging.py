"""Judging: a panel's verdicts, in both orders, become one reward or none."""

from typing import Any

import pytest

from bohdi_common.events.events_pb2 import Event
from bohdi_common.models.port import ModelUnavailable
from services.judging.handler import Judging
from tests.unit.script import Says, Script, request

ANSWERS = {"target": "four", "a": "five", "b": "six", "c": "seven"}


def shown(prompt: str) -> list[str]:
    """The candidates in the order in which a judge sees them."""
    return prompt.split(" | ")[1:]


async def outcome(
    says: Says, answers: dict[str, str | None] | None = None, judging: dict[str, Any] | None = None
) -> tuple[Event, Script]:
    given = ANSWERS if answers is None else answers
    body: dict[str, Any] = {
        "path": ["Science", "Physics", "Optics"], "question": "2 + 2?", "leader": "b", "target_version": "r2",
        "prompts": "micro-v1", "question_prompt_tokens": 9,
        "answers": [
            {"model": model, "failed": "empty"} if text is None else {"model": model, "text": text}
            for model, text in given.items()
        ],
    }  # fmt: skip
    models = Script(says)
    (result,) = await Judging(models, clock=lambda: 7).handle(request("answers_written", body, judging=judging or {}))
    return result, models


async def test_the_answer_that_more_than_half_choose_is_best_and_the_target_lost() -> None:
    result, _ = await outcome(lambda judge, prompt: {"a": "six", "b": "six", "c": "four"}[judge])
    body = result.harvest_judged
    assert (body.counted, body.best, body.reward, body.request_hash) == (True, 2, 1, "hash")


async def test_where_the_targets_answer_is_best_it_did_not_lose() -> None:
    result, _ = await outcome(lambda judge, prompt: "four")
    assert (result.harvest_judged.counted, result.harvest_judged.best, result.harvest_judged.reward) == (True, 0, 0)


async def test_the_event_says_all_that_training_and_provenance_need() -> None:
    result, _ = await outcome(lambda judge, prompt: "six")
    body = result.harvest_judged
    assert (body.question, body.leader, body.target_version, body.prompts) == ("2 + 2?", "b", "r2", "micro-v1")
    assert [(answer.model, answer.text) for answer in body.answers] == list(ANSWERS.items())
    assert body.question_prompt_tokens == 9
    assert len(body.verdicts) == 6
    assert all(
        verdict.reply == "six" and verdict.choice == 2 and verdict.prompt_tokens == 3 for verdict in body.verdicts
    )


async def test_every_judge_sees_an_order_and_its_reverse_and_casts_one_vote() -> None:
    result, models = await outcome(lambda judge, prompt: "six")
    for judge in "abc":
        there, back = [v for v in result.harvest_judged.verdicts if v.judge == judge]
        assert list(there.order) == list(back.order)[::-1]
        assert sorted(there.order) == [0, 1, 2, 3]
        assert (there.counted, back.counted) == (True, False)
    assert len({tuple(shown(call[1][-1]["content"])) for call in models.calls}) > 2  # not all judges see one order


@pytest.mark.parametrize("position", [0, -1])
async def test_judges_that_go_by_position_give_no_verdict(position: int) -> None:
    result, _ = await outcome(lambda judge, prompt: shown(prompt)[position])
    body = result.harvest_judged
    assert (body.counted, body.best, body.reward) == (False, -1, 0)
    assert not any(verdict.counted for verdict in body.verdicts)


async def test_an_abstention_is_no_vote() -> None:
    result, _ = await outcome(lambda judge, prompt: "six" if judge == "a" else "none")
    assert (result.harvest_judged.counted, result.harvest_judged.best) == (True, 2)
    result, _ = await outcome(lambda judge, prompt: "none")
    assert not result.harvest_judged.counted


async def test_a_reply_that_names_no_answer_is_an_abstention() -> None:
    result, _ = await outcome(lambda judge, prompt: "I think the second one, six, is best")
    assert [verdict.choice for verdict in result.harvest_judged.verdicts] == [-1] * 6
    assert not result.harvest_judged.counted


async def test_identical_answers_are_shown_once_and_a_choice_of_them_is_the_targets() -> None:
    answers: dict[str, str | None] = {"target": "four", "a": " four", "b": "five", "c": "four"}
    result, models = await outcome(lambda judge, prompt: "four", answers)
    assert {tuple(sorted(shown(call[1][-1]["content"]))) for call in models.calls} == {("five", "four")}
    assert (result.harvest_judged.counted, result.harvest_judged.reward) == (True, 0)


async def test_where_all_say_the_same_nobody_is_asked_and_the_target_did_not_lose() -> None:
    result, models = await outcome(lambda judge, prompt: "x", dict.fromkeys(ANSWERS, "four"))
    assert (result.harvest_judged.counted, result.harvest_judged.reward, models.calls) == (True, 0, [])


async def test_a_target_without_an_answer_loses_to_the_best_of_the_others() -> None:
    result, _ = await outcome(lambda judge, prompt: "six", ANSWERS | {"target": None})
    assert (result.harvest_judged.counted, result.harvest_judged.best, result.harvest_judged.reward) == (True, 2, 1)


async def test_a_target_without_an_answer_and_others_that_agree_give_no_verdict() -> None:
    result, models = await outcome(lambda judge, prompt: "x", {"target": None, "a": "5", "b": "5", "c": "5"})
    assert (result.harvest_judged.counted, models.calls) == (False, [])


async def test_in_the_papers_way_the_leader_alone_judges_target_first() -> None:
    result, models = await outcome(lambda judge, prompt: "six", judging={"mode": "leader", "both_orders": False})
    assert [call[0].name for call in models.calls] == ["b"]
    assert [list(verdict.order) for verdict in result.harvest_judged.verdicts] == [[0, 1, 2, 3]]
    assert result.harvest_judged.reward == 1


async def test_a_judge_that_is_away_takes_no_part() -> None:
    def says(judge: str, prompt: str) -> str:
        if judge == "a":
            raise ModelUnavailable("away")
        return "six"

    result, _ = await outcome(says)
    assert {verdict.judge for verdict in result.harvest_judged.verdicts} == {"b", "c"}
    assert result.harvest_judged.counted


async def test_with_every_judge_away_the_request_is_to_be_tried_again() -> None:
    def says(judge: str, prompt: str) -> str:
        raise ModelUnavailable("away")

    with pytest.raises(ModelUnavailable):
        await outcome(says)
