"""What a model thought is kept apart from what it said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.models.reasoning import split


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("Paris", "", "Paris"),
        ("<think>\nFrance...\n</think>\n\nParis", "France...", "Paris"),
        ("France...</think>Paris", "France...", "Paris"),  # the template opened the tag
        ("<think>France and", "France and", ""),  # cut by the token limit
        ("<think></think>Paris", "", "Paris"),
        ("<think>a</think>Par<think>b</think>is", "a\nb", "Paris"),
        ("a < b and </b>", "", "a < b and </b>"),
    ],
)
def test_a_thought_is_no_part_of_the_answer(text: str, thought: str, said: str) -> None:
    assert split(text) == (thought, said)


@given(st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "<"])).map("".join))
def test_no_tag_of_a_whole_thought_is_left_in_the_answer(text: str) -> None:
    assert "<think>" not in split(text)[1]
