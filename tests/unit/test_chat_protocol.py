"""OpenAI's chat completions as a server reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi.chat_protocol import DEFAULT_TOKENS, Refused, request_in

ASKED = {"model": "auto", "messages": [{"role": "user", "content": "why?"}]}


def read(**fields: Any) -> Any:
    return request_in(json.dumps(ASKED | fields).encode())


def test_what_is_not_said_has_its_default_and_the_temperature_is_the_models_own() -> None:
    sampling = read().sampling(temperature=0.6)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.n) == (DEFAULT_TOKENS, 0.6, 1.0, 1)


def test_what_is_said_counts() -> None:
    asked = read(max_tokens=5, temperature=0, top_p=0.5, n=3, stop=["\n", "."], stream=True)
    sampling = asked.sampling(temperature=0.6)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.n) == (5, 0.0, 0.5, 3)
    assert sampling.stop == ("\n", ".")
    assert read(stop="x").sampling(0).stop == ("x",)
    assert read(max_completion_tokens=7, max_tokens=5).sampling(0).max_tokens == 7


def test_the_last_words_of_the_user_are_the_question_and_all_messages_are_passed_on() -> None:
    parts = [{"type": "text", "text": "second"}, {"type": "text", "text": "part"}]
    asked = read(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": parts},
        ]
    )
    assert asked.question == "second\npart"
    assert [(m["role"], m["content"]) for m in asked.chat] == [
        ("system", "be brief"),
        ("user", "first"),
        ("assistant", "yes?"),
        ("user", "second\npart"),
    ]


def test_fields_that_ask_for_nothing_are_let_pass() -> None:
    more = {"tools": [], "logprobs": False, "response_format": {"type": "text"}, "user": "me", "seed": 1}
    assert read(**more, presence_penalty=0).chat == read().chat


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]}, "messages.0.content"),
        ({"model": ""}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 17}, "n:"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(Refused) as refused:
        read(**fields)
    assert refused.value.status == 400
    assert str(refused.value).startswith(where)


@given(st.one_of(st.binary(max_size=40), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_any_other_body_is_refused_and_nothing_else_happens(body: bytes | str) -> None:
    with pytest.raises(Refused) as refused:
        request_in(body if isinstance(body, bytes) else body.encode())
    assert refused.value.status == 400


def test_json_as_deep_as_it_gets_is_refused() -> None:
    with pytest.raises(Refused):
        request_in(b"[" * 500_000)
