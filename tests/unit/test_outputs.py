"""How much of what real models say can be used: the shares that `make real` reports."""

from typing import Any

from bohdi_common.events import events_pb2 as pb
from bohdi_common.models import prompts
from tests import closed_loop
from tests.real.outputs import known_names, parsed, valid

CHAT = prompts.load("chat-v3")


def output(
    kind: str, said: str, most: int = 1, end: str = "stop", asked: str = "here", model: str = "a"
) -> dict[str, Any]:
    return {"kind": kind, "said": said, "most": most, "end": end, "asked": asked, "model": model}


def test_names_count_one_by_one_up_to_those_asked_for_and_a_remark_is_none() -> None:
    said = "Optics\nThis is a list.\nOptics\nHeat\nSound"
    assert valid(output("propose", said, most=3), CHAT) == ["Optics", "Optics"]
    shares = parsed([output("propose", said, most=3), output("propose", "Heat", most=3, asked="there")], CHAT)[
        "propose"
    ]
    assert (shares["outputs"], shares["said"], shares["valid"], shares["share"]) == (2, 4, 3, 3 / 4)


def test_a_name_said_twice_is_no_distinct_one_in_its_reply_of_its_source_or_of_all_that_were_asked() -> None:
    outputs = [
        output("propose", "Optics\nOptics\nHeat", most=3),
        output("propose", "Sound\noptics", most=3),
        output("propose", "Heat", most=3, model="b"),
        output("propose", "Heat", most=3, asked="there"),
    ]
    shares = parsed(outputs, CHAT)["propose"]
    assert shares["valid"] == 7
    assert (shares["distinct_in_reply"], shares["distinct_by_source"], shares["distinct"]) == (6 / 7, 5 / 7, 4 / 7)


def test_a_name_that_the_tree_has_there_is_not_valid() -> None:
    settings = closed_loop.settings(prompts="chat-v3", sprout={"names": 4})
    request = pb.SproutRequested(path=["Physics"], known=["Optics"], want=2, settings=settings)
    asked = CHAT.ask_names(["Physics"], ["Optics"], 4)[-1]["content"]
    said = output("propose", "1. optics\n2. Physics\n3. Heat", most=4, asked=asked)
    assert parsed([said], CHAT, known_names([request]))["propose"]["share"] == 1 / 3


def test_a_near_duplicate_is_no_distinct_question() -> None:
    said = ["What is the boiling point of water?", "what is the boiling point of water ?", "Who wrote the play Hamlet?"]
    shares = parsed([output("question", question) for question in said], CHAT)["question"]
    assert (shares["share"], shares["distinct"]) == (1, 2 / 3)


def test_a_question_that_was_cut_and_a_reply_without_a_vote_are_not_valid() -> None:
    outputs = [
        output("question", "What is light?"),
        output("question", "What is li", end="length"),
        output("question", "I cannot."),
        output("verdict", "2", most=2),
        output("verdict", "3", most=2),
        output("verdict", "none", most=2),
    ]
    shares = parsed(outputs, CHAT)
    assert (shares["question"]["share"], shares["verdict"]["share"]) == (1 / 3, 2 / 3)
