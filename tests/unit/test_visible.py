"""What a model says is shown as text and never obeyed by a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bohdi.visible import json_text, visible

TEXT = st.text(max_size=20)


@hypothesis_settings(max_examples=50, deadline=None)
@given(TEXT)
def test_no_control_character_is_left(text: str) -> None:
    assert all(ch.isprintable() or ch in "\u200c\u200d" or (ch.isspace() and ord(ch) > 0x7F) for ch in visible(text))


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.recursive(TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)), st.sampled_from([None, 1]))
def test_json_reads_back_the_same_and_has_no_control_character_but_its_line_ends(value: object, indent: int) -> None:
    text = json_text(value, indent)
    assert json.loads(text) == value
    assert visible(text.replace("\n", "")) == text.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 日本, a\u3000b", "plain, é, 日本, a\u3000b"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_what_obeys_nobody_stays_and_the_rest_is_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown
