"""What is read out of a chat model's reply, and what is not."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.core.names import why_refused
from bohdi_common.models import prompts
from bohdi_common.models.prompts import readers

CANDIDATES = ["Paris is the capital.", "It is London.", "Choose answer 1."]


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ("Optics\nMechanics", ["Optics", "Mechanics"]),
        ("Here are two parts of Physics:\n\n1. **Optics**\n2) Mechanics.", ["Optics", "Mechanics"]),
        ("- Optics: the study of light\n• Mechanics – how things move", ["Optics", "Mechanics"]),
        ("Optics, Mechanics, and Heat", ["Optics", "Mechanics", "Heat"]),
        ("1. Optics, Lenses\n2. Heat", ["Optics", "Lenses", "Heat"]),
        (
            "Food, drink and tobacco\nPublic Health, Food and Drugs",
            ["Food, drink and tobacco", "Public Health, Food and Drugs"],
        ),
        ('```json\n{"names": ["Optics", "Mechanics"]}\n```', ["Optics", "Mechanics"]),
        ('["Optics", "Mechanics"]', ["Optics", "Mechanics"]),
        ('{"names": ["Optics", "Mech', ["Optics"]),
        ("Science > Physics > Optics", ["Optics"]),
        ("光学\n力学。", ["光学", "力学"]),
        ("Оптика\n«Механика»", ["Оптика", "Механика"]),
        ("البصريات\nالميكانيكا", ["البصريات", "الميكانيكا"]),
        ("none", []),
        ("None of them.", []),
        ("", []),
    ],
)
def test_names_are_read_from_a_list_of_any_kind(reply: str, names: list[str]) -> None:
    assert readers.names(reply) == names


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ("1. World War II\n2. 2023 Olympics\n3. 2024 F", ["World War II", "2023 Olympics"]),
        ("Optics\nHeat\n", ["Optics", "Heat"]),
        ("Optics, Heat, Mech", ["Optics", "Heat"]),
        ('{"names": ["Optics", "Heat", "Mech', ["Optics", "Heat"]),
        ("Mech", []),
    ],
)
def test_of_a_reply_that_was_cut_what_is_whole_is_read(reply: str, names: list[str]) -> None:
    assert readers.names(reply, cut=True) == names


@pytest.mark.parametrize(
    "remark",
    [
        "There is no question about it",
        "We are not divided",
        "I'm sorry, but I can't help with that",
        "Name four further parts that nobody has thought of",
    ],
)
def test_a_remark_is_no_name(remark: str) -> None:
    assert readers.why_no_name(remark) == "a sentence, not a name"


@pytest.mark.parametrize(
    "name",
    [
        "History of the Roman Empire",
        "World War I",
        "Commission on Trade and the Common Market",
        "May Fourth Movement",
        "Canned food",
    ],
)
def test_a_name_is_no_remark(name: str) -> None:
    assert not readers.why_no_name(name)


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("What is light?", "What is light?"),
        ("**Question:** What is light?", "What is light?"),
        ("Sure! Here is one:\n\nQuestion 1: What is\nlight?\n\nAnswer: A wave.", "What is light?"),
        ('Here is a question on optics: "What is a lens?"', "What is a lens?"),
        ('```json\n{"question": "What is light?"}\n```', "What is light?"),
        ("Explain why the sky is blue.", "Explain why the sky is blue."),
        ("Which colour has the longest wave", "Which colour has the longest wave"),
        ("光とは何ですか？", "光とは何ですか？"),
        ("ما هو الضوء؟", "ما هو الضوء؟"),
        ("Τι είναι το φως;", "Τι είναι το φως;"),
        ("A train leaves at 8. When is it there?", "A train leaves at 8. When is it there?"),
        ("I'm sorry, I cannot write that.", None),
        ("Optics is the study of light.", None),
        ("Why?", None),
        ("???", None),
        ("", None),
    ],
)
def test_a_question_is_what_asks_or_orders_something(reply: str, question: str | None) -> None:
    assert readers.question(reply) == question


def test_a_question_that_says_its_request_again_or_an_example_is_none() -> None:
    chat = prompts.load("chat-v2")
    echo = "Write one exam question about Optics. It must have one answer that an expert can check?"
    assert chat.read_question(echo) is None
    assert chat.read_question(str(chat.examples["question"][0]["reply"])) is None
    assert chat.read_question("Which lens makes things smaller?") == "Which lens makes things smaller?"


@pytest.mark.parametrize(
    ("reply", "position"),
    [
        ("2", 1),
        ("[2]", 1),
        ("**2**.", 1),
        ("Answer 2.", 1),
        ("The best answer is 2.", 1),
        ("The most correct answer is: two.\n\nIt stands between two others", 1),
        ("The best answer is one that names the city.", None),
        ("Answer two, not answer 1.", None),
        ("The most correct answer is: 1) Paris is the capital.", 0),
        ('{"best": 3}', 2),
        ('{"best": "3"}', 2),
        ('```json\n{"best": 2', 1),
        ("2\n\nBecause London is in 1 country.", 1),
        ("none", None),
        ("None of the answers is right.", None),
        ("I cannot tell.", None),
        ("4", None),
        ("0", None),
        ("1 or 2", None),
        ("Both 1 and 3 are good.", None),
        ("12 * 3 is 36, so 2", None),
        ("1.5", None),
        ("- 1", 0),
        ("-1", None),
        ("", None),
    ],
)
def test_a_vote_is_one_number_that_an_answer_has(reply: str, position: int | None) -> None:
    assert readers.verdict(reply, CANDIDATES) == position


def test_every_prompt_set_renders_and_reads_its_own_examples() -> None:
    for name in prompts.available():
        chat = prompts.load(name)
        for example in chat.examples.get("propose", ()):
            assert chat.read_names(example["reply"]) == re.sub(r"(?m)^\d\. ", "", example["reply"]).splitlines()
        for example in chat.examples.get("verdict", ()):
            position = chat.read_verdict(example["reply"], example["candidates"])
            assert position == (None if example["reply"] == "none" else int(example["reply"]) - 1)
        assert chat.ask_names([], [], 3) and chat.ask_verdict("What?", ["a", "b"])


@given(st.text() | st.text(alphabet='12[]{}":,.*`-# \n?nonebesquti'))
def test_whatever_a_reply_is_the_readers_end_and_give_what_they_may(reply: str) -> None:
    for name in readers.names(reply):
        assert name.strip()
        assert name in reply or why_refused(name) or "\\" in reply
    asked = readers.question(reply)
    assert asked is None or (asked.strip() and "\n" not in asked)
    assert readers.verdict(reply, CANDIDATES) in (None, 0, 1, 2)


@pytest.mark.parametrize("piece", ["[", '{"names": [', "1. ", "- " * 3, "a: ", '"', "\n", "Question: ", "2 ", "word "])
def test_a_megabyte_takes_no_longer_than_its_beginning(piece: str) -> None:
    reply = piece * (1_000_000 // len(piece))
    started_s = time.process_time()
    readers.names(reply), readers.question(reply, reply), readers.verdict(reply, CANDIDATES)
    assert time.process_time() - started_s < 2
