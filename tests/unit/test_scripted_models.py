"""The scripted models say what the script says and fail as it fails."""

from __future__ import annotations

import time

import pytest
from bohdi_common.models.port import Message, ModelRef, ModelRefused, ModelUnavailable, Sampling
from bohdi_common.models.scripted import ScriptedModels

SOURCE = ModelRef("source")
ASKED: list[Message] = [{"role": "user", "content": "two words"}]


def echo(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
    return [f"{model.name} {messages[-1]['content']} {i}" for i in range(sampling.n)]


async def test_the_script_answers_and_words_are_counted() -> None:
    reply = await ScriptedModels(echo).complete(SOURCE, ASKED, Sampling(max_tokens=9, n=2))
    assert [c.text for c in reply.completions] == ["source two words 0", "source two words 1"]
    assert [(c.finish_reason, c.completion_tokens) for c in reply.completions] == [("stop", 4)] * 2
    assert reply.prompt_tokens == 2


async def test_a_text_over_max_tokens_is_cut() -> None:
    reply = await ScriptedModels(echo).complete(SOURCE, ASKED, Sampling(max_tokens=2))
    assert (reply.completions[0].text, reply.completions[0].finish_reason) == ("source two", "length")


async def test_calls_are_counted_by_model_failures_too() -> None:
    def failing(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
        raise ModelRefused("never")

    models = ScriptedModels(failing)
    for ref in (SOURCE, SOURCE, ModelRef("target", "v1")):
        with pytest.raises(ModelRefused):
            await models.complete(ref, ASKED, Sampling(max_tokens=2))
    assert models.calls == {SOURCE: 2, ModelRef("target", "v1"): 1}


async def test_latency_is_waited_for() -> None:
    before_s = time.monotonic()
    reply = await ScriptedModels(echo, latency_s=0.02).complete(SOURCE, ASKED, Sampling(max_tokens=9))
    assert time.monotonic() - before_s >= 0.02
    assert reply.seconds == 0.02


async def test_a_script_of_the_wrong_length_is_a_fault_in_the_test() -> None:
    with pytest.raises(ValueError, match="1 completions for source; 3 were asked for"):
        await ScriptedModels(lambda *_: ["one"]).complete(SOURCE, ASKED, Sampling(max_tokens=9, n=3))


async def test_closed_models_are_unavailable() -> None:
    models = ScriptedModels(echo)
    await models.close()
    with pytest.raises(ModelUnavailable):
        await models.complete(SOURCE, ASKED, Sampling(max_tokens=9))
