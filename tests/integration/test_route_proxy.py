"""`bohdi route` as a client of OpenAI's meets it: the real client, a socket, models that are scripted or stubs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import yaml

from bohdi import domain_text, profile_file, route_proxy
from bohdi.profiles import Profile
from bohdi.route_proxy import Candidate, Proxy, serve
from bohdi_common.models.port import Message, ModelRef, ModelRefused, ModelUnavailable, Sampling
from bohdi_common.models.scripted import ScriptedModels
from tests.recorded_run import RecordedRun
from tests.stub_server import Stub
from tests.unit.test_route import MODELS, PROFILE

KEY = "sk-secret-of-the-stub"
BRIDGES = "tell me about bridges"


def by_name(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
    return [f"{model.name}: {messages[-1]['content']}"] * sampling.n


@asynccontextmanager
async def proxy(
    reply: Callable[..., list[str]] = by_name, latency_s: float = 0.0, **bounds: Any
) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of a proxy before scripted models."""
    candidates = {name: Candidate(ModelRef(name), 0.5) for name in MODELS}
    told = domain_text.learnt(PROFILE.pairs)
    served = Proxy(PROFILE, candidates, ScriptedModels(reply, latency_s=latency_s), told, **bounds)
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(served, "127.0.0.1", 0, stop, url.set_result))
    async with openai.AsyncOpenAI(base_url=await url, api_key="any", max_retries=0) as client:
        yield client
    stop.set()
    await serving


async def said(client: openai.AsyncOpenAI, model: str = "auto", question: str = BRIDGES, **more: Any) -> Any:
    return await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=50, **more
    )


async def test_a_question_is_answered_by_the_best_model_of_its_domain() -> None:
    async with proxy() as client:
        answer = await said(client)
        assert (answer.model, answer.choices[0].message.content) == ("b", f"b: {BRIDGES}")
        assert answer.bohdi["domain"] == ["y", "y1", "bridges"]
        assert (await said(client, question="tell me about apples")).model == "a"


async def test_a_domain_or_a_model_may_be_named() -> None:
    async with proxy() as client:
        assert (await said(client, "domain:X > x1")).model == "a"
        assert (await said(client, "target")).model == "target"


async def test_models_and_domains_are_listed() -> None:
    async with proxy() as client:
        listed = [model.id async for model in client.models.list()]
    assert listed[:4] == ["auto", *MODELS]
    assert "domain:y > y1 > bridges" in listed


async def test_a_stream_is_the_whole_answer_in_one_chunk_for_each_choice() -> None:
    async with proxy() as client:
        stream = await said(client, n=2, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert texts == [f"b: {BRIDGES}"] * 2
    assert chunks[-1].usage.completion_tokens == 2 * len(f"b: {BRIDGES}".split())


async def test_where_the_best_model_is_away_the_next_one_answers() -> None:
    def away(model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
        if model.name == "b":
            raise ModelUnavailable("b is away")
        return by_name(model, messages, sampling)

    async with proxy(away) as client:
        assert (await said(client)).model in ("target", "a")
        with pytest.raises(openai.InternalServerError, match="b is away") as refused:
            await said(client, "b")
    assert refused.value.status_code == 503


async def test_errors_are_openais_error_objects() -> None:
    def refusing(*_: Any) -> list[str]:
        raise ModelRefused("the prompt has 500 tokens, and the model takes 96")

    async with proxy(refusing) as client:
        with pytest.raises(openai.BadRequestError, match="the prompt has 500 tokens") as refused:
            await said(client)
        assert refused.value.code == "refused_by_model"
        for wrong in ("gpt-4", "domain:never heard of"):
            with pytest.raises(openai.NotFoundError, match="no model or domain"):
                await said(client, wrong)
        with pytest.raises(openai.BadRequestError, match="tools is not supported"):
            await said(client, tools=[{"type": "function", "function": {"name": "f"}}])


async def test_a_proxy_that_breaks_says_nothing_of_its_inside() -> None:
    def broken(*_: Any) -> list[str]:
        raise RuntimeError(KEY)

    async with proxy(broken) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await said(client)
    assert (refused.value.status_code, refused.value.code) == (500, "internal_error")
    assert KEY not in str(refused.value)


async def test_more_requests_than_may_be_in_flight_are_refused_and_a_slow_one_is_given_up() -> None:
    async with proxy(latency_s=0.5, in_flight_max=2) as client:
        outcomes = await asyncio.gather(*(said(client) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(outcome, openai.RateLimitError) for outcome in outcomes) == 3
        assert (await said(client)).model == "b"
    async with proxy(latency_s=5, answer_s=0.1) as client:
        with pytest.raises(openai.InternalServerError, match="no answer within") as late:
            await said(client)
        assert late.value.status_code == 504


async def test_other_bodies_and_paths_are_refused_with_objects_too() -> None:
    async with proxy() as client, aiohttp.ClientSession() as session:
        url = f"{client.base_url}chat/completions"
        plain = {"Content-Type": "text/plain"}
        for answer, status in [
            (await session.post(url, data="{}", headers=plain), 415),
            (await session.post(url, data=b"{", headers={"Content-Type": "application/json"}), 400),
            (await session.post(url, json={"x": "y" * route_proxy.BODY_BYTES_MAX}), 413),
            (await session.get(url), 405),
            (await session.post(f"{client.base_url}embeddings", json={}), 404),
        ]:
            assert answer.status == status
            assert (await answer.json())["error"]["message"]


@pytest.fixture
def recorded() -> Profile:
    """The profile of a recorded run."""
    run = RecordedRun()
    run.run()
    return profile_file.read_run("run", run.feedback)[0]


def written(profile: Profile, folder: Path, url: str) -> tuple[Path, Path]:
    """The profile, and a configuration in which its sources are behind a server, each as a file."""
    (folder / "profile.json").write_text(json.dumps(profile_file.as_json(profile)))
    behind = [{"name": n, "adapter": "http", "urls": [url], "key_env": "STUB_KEY"} for n in profile.sources]
    config = {"name": "routed", "sources": behind, "target": {"name": "target", "path": "microworld:target"}}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder / "profile.json", folder / "run.yaml"


async def test_the_command_serves_a_profile_before_models_behind_http_and_ends_on_a_signal(
    recorded: Profile, tmp_path: Path
) -> None:
    async def say(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        return [f"{model} at {body['temperature']}"]

    async with Stub(say, key=KEY, models=("a", "b", "c")).serving() as url:
        profile, config = written(recorded, tmp_path, url)
        command = ["-m", "bohdi", "route", profile, "--config", config]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *map(str, [*command, "--listen", "127.0.0.1:0"]),
            env=os.environ | {"STUB_KEY": KEY},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            base = (await process.stdout.readline()).decode().split()[-1]
            async with openai.AsyncOpenAI(base_url=base, api_key="any", max_retries=0) as client:
                answer = await said(client)
                told = answer.choices[0].message.content
            process.send_signal(signal.SIGTERM)
            _, complaints = await process.communicate()
    assert told == f"{answer.model} at 0.7"
    assert process.returncode == 0
    assert complaints.decode().startswith("bohdi: target is left out: r2 stands in its run's folder")
    assert KEY not in complaints.decode()
