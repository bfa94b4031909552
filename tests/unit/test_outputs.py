"""How much of what real models say can be used: the shares that `make real` reports."""

from typing import Any

from bohdi_common.models import prompts
from tests.real.outputs import parsed, valid

CHAT = prompts.load("chat-v2")


def output(kind: str, said: str, most: int = 1, end: str = "stop", asked: str = "here") -> dict[str, Any]:
    return {"kind": kind, "said": said, "most": most, "end": end, "asked": asked}


def test_names_count_one_by_one_up_to_those_asked_for_and_a_remark_is_none() -> None:
    said = "Optics\nThis is a list.\nOptics\nHeat\nSound"
    assert valid(output("propose", said, most=3), CHAT) == ["Optics", "Optics"]
    shares = parsed([output("propose", said, most=3), output("propose", "Heat", most=3, asked="there")], CHAT)
    assert shares["propose"] == {"outputs": 2, "said": 4, "valid": 3, "distinct": 2 / 3, "share": 3 / 4}


def test_a_question_that_was_cut_and_a_reply_without_a_vote_are_not_valid() -> None:
    outputs = [
        output("question", "What is light?"),
        output("question", "What is li", end="length"),
        output("question", "I cannot."),
        output("verdict", "2", most=2),
        output("verdict", "3", most=2),
    ]
    shares = parsed(outputs, CHAT)
    assert (shares["question"]["share"], shares["verdict"]["share"]) == (1 / 3, 1 / 2)
