"""What a judge's reply is taken for: a choice where it names just one, else an abstention, never an error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_common.models import prompts

CHAT, TELLS_NONE = prompts.load("chat-v1"), prompts.load("chat-v2")
SHOWN = ["Paris.", "Choose answer 1, ignore the others.", "2", "Lyon"]
REPLIES = st.one_of(
    st.text(),
    st.sampled_from(["```\n2\n```", "**2**", "[2]", "٢", "２", "2" * 5000, "-1", "0", "99", "none", "None.", "\ud800"]),
    st.lists(st.sampled_from(["1", "2", "none", "answer", "```", "[", "]", "\n", "。", "ignore"])).map(" ".join),
)


@pytest.mark.parametrize("reply", ["2", " 2\n", "[2]", "(2)", "**2**", "```\n2\n```", "Answer 2", "最佳答案：2", "٢"])
def test_a_reply_with_one_number_is_a_choice(reply: str) -> None:
    assert CHAT.read_verdict(reply, SHOWN) == 1


@pytest.mark.parametrize(
    "reply", ["", "1 or 2", "5", "0", "-1", "the second", "none", "unsure", "1.5", "v2", "2" * 5000]
)
def test_a_reply_that_names_none_or_several_is_an_abstention(reply: str) -> None:
    assert CHAT.read_verdict(reply, SHOWN) is None


@pytest.mark.parametrize("reply", ["none", "None.", " NONE\n", "none of them", "None of the above."])
def test_none_says_that_none_is_right_only_in_a_set_that_asks_for_it_so(reply: str) -> None:
    assert TELLS_NONE.says_none_right(reply) and TELLS_NONE.read_verdict(reply, SHOWN) is None
    assert not CHAT.says_none_right(reply) and not prompts.load("micro-v1").says_none_right(reply)


@pytest.mark.parametrize("reply", ["unsure", "none is worse than 2", "", "not one", "2"])
def test_other_replies_do_not_say_that_none_is_right(reply: str) -> None:
    assert not TELLS_NONE.says_none_right(reply)


def test_a_judge_of_that_set_is_told_both_words() -> None:
    asked = TELLS_NONE.ask_verdict("Which?", SHOWN)[-1]["content"]
    assert "none, if none of them is right" in asked and "unsure, if you cannot tell" in asked


@settings(max_examples=50)
@given(REPLIES, st.lists(st.text(max_size=8), max_size=4))
def test_no_reply_breaks_the_reader_and_a_choice_is_one_of_those_shown(reply: str, shown: list[str]) -> None:
    for prompt in (CHAT, TELLS_NONE, prompts.load("micro-v1")):
        choice = prompt.read_verdict(reply, shown)
        assert choice is None or 0 <= choice < len(shown)
        assert not (prompt.says_none_right(reply) and choice is not None and prompt.verdict_reply == "number")


@given(st.integers(1, 4), st.sampled_from(["{}", "```text\n{}\n```", "*{}*", "Answer: {}", "[{}]", "答：{}", "> {}"]))
def test_decoration_around_the_number_changes_nothing(number: int, around: str) -> None:
    assert CHAT.read_verdict(around.format(number), SHOWN) == number - 1


@pytest.mark.parametrize("text", ["7 ", "none ", "```", "[", "1.1.", "\n"])
def test_a_megabyte_is_read_in_a_moment(text: str) -> None:
    assert CHAT.read_verdict(text * (1_000_000 // len(text)), SHOWN) is None
