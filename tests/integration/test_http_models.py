"""Models behind a server: real HTTP, the real client, and everything that can go wrong with them."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bohdi_common.models import prompts
from bohdi_common.models.http import HttpModels
from bohdi_common.models.port import (
    Endpoint,
    Message,
    ModelBlocked,
    ModelRef,
    ModelRefused,
    ModelUnavailable,
    Reply,
    Sampling,
)
from tests.stub_server import Stub

KEY = "sk-of-the-tests"
THREE = Sampling(max_tokens=5, temperature=0.7, top_p=0.9, n=3, stop=("\n",))


async def echo(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
    return [f"{model} says {messages[-1]['content']}"] * body.get("n", 1)


def stub(**told: Any) -> Stub:
    return Stub(echo, **told)


@asynccontextmanager
async def opened(versions: Path = Path("/versions"), **environment: str) -> AsyncIterator[HttpModels]:
    models = HttpModels(lambda model: versions / model.version, environment)
    try:
        yield models
    finally:
        await models.close()


def no_versions(model: ModelRef) -> Path:
    raise AssertionError(f"no version was to be loaded: {model}")


def gone() -> str:
    """A URL where nobody listens."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{door.getsockname()[1]}/v1"


def ref(*urls: str, **told: Any) -> ModelRef:
    return ModelRef("model", endpoint=Endpoint(urls, "stub", **told))


async def ask(models: HttpModels, model: ModelRef, question: str = "hello", sampling: Sampling = THREE) -> Reply:
    return await models.complete(model, [{"role": "user", "content": question}], sampling)


async def test_a_request_says_all_that_was_asked_and_the_reply_all_that_was_given() -> None:
    server = stub(key=KEY)
    async with server.serving() as url, opened(THE_KEY=KEY) as models:
        model = replace(ref(url, key_env="THE_KEY"), system="Be brief.")
        reply = await ask(models, model, "one two three four")
    assert [c.text for c in reply.completions] == ["stub says one two three"] * 3
    assert [c.finish_reason for c in reply.completions] == ["length"] * 3
    assert (reply.prompt_tokens, [c.completion_tokens for c in reply.completions]) == (6, [5, 5, 5])
    asked = server.requests[-1]
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: asked[name] for name in ("n", "temperature", "top_p", "max_tokens", "stop")} == {
        "n": 3, "temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "stop": ["\n"],
    }  # fmt: skip


async def test_a_form_is_asked_for_where_the_servers_see_to_it() -> None:
    server = stub()
    form = prompts.load("chat-v2").form("verdict", most=3)
    async with server.serving() as url, opened() as models:
        for structured in (False, True):
            await ask(models, ref(url, structured=structured), sampling=replace(THREE, form=form))
    assert ["response_format" in request for request in server.requests] == [False, True]
    told = server.requests[-1]["response_format"]
    assert told["type"] == "json_schema"
    assert told["json_schema"]["schema"]["properties"] == {"best": {"type": "integer", "minimum": 0, "maximum": 3}}


async def test_the_mean_log_probability_comes_where_it_is_wanted_and_the_servers_say() -> None:
    server, wanted = stub(), replace(THREE, n=1, logprobs=True)
    async with server.serving() as url, opened() as models:
        given = [
            (await ask(models, ref(url, logprobs=says), "ok", sampling)).completions[0].mean_logprob
            for says, sampling in ((True, wanted), (False, wanted), (True, THREE))
        ]
    assert given == [-(len("stub") + len("says") + len("ok")) / 3 / 4, None, None]


async def test_a_model_s_own_system_prompt_stands_before_that_of_the_prompts() -> None:
    server = stub()
    async with server.serving() as url, opened() as models:
        asked: list[Message] = [{"role": "system", "content": "Mark."}, {"role": "user", "content": "hello"}]
        await models.complete(replace(ref(url), system="Be brief."), asked, THREE)
    assert server.requests[-1]["messages"] == [
        {"role": "system", "content": "Be brief.\n\nMark."},
        {"role": "user", "content": "hello"},
    ]


# ---- versions of the target ------------------------------------------------------------------------------------


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Adapters of rank 4, r1 to r3, and one of rank 32."""
    for version, rank in {"r1": 4, "r2": 4, "r3": 4, "broad": 32}.items():
        (tmp_path / version).mkdir()
        (tmp_path / version / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return tmp_path


def target(version: str, *urls: str, run: str = "run") -> ModelRef:
    return ModelRef("target", version, run, endpoint=Endpoint(urls, "stub"))


async def test_a_version_is_loaded_on_every_server_and_those_before_the_last_are_unloaded(versions: Path) -> None:
    one, other = stub(), stub()
    async with one.serving() as first, other.serving() as second, opened(versions) as models:
        at = (first, second)
        await models.serve(target("r1", *at, run="other"), target("base", *at, run="other"))
        for before, version in (("base", "r1"), ("r1", "r2"), ("r2", "r3")):
            await models.serve(target(version, *at), target(before, *at))
        said = await ask(models, target("r3", *at))
    for server in (one, other):
        assert server.adapters == {
            "stub-other-r1": versions / "r1",
            "stub-run-r2": versions / "r2",
            "stub-run-r3": versions / "r3",
        }
    assert said.completions[0].text == "stub-run-r3 says hello"


async def test_a_server_that_stands_elsewhere_is_told_the_whole_path(
    versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = stub()
    monkeypatch.chdir(versions.parent)
    async with server.serving() as url, opened(versions.relative_to(versions.parent)) as models:
        await models.serve(target("r1", url), target("base", url))
    assert server.adapters == {"stub-run-r1": versions / "r1"}


async def test_a_server_that_was_started_again_is_given_its_version_by_whoever_asks(versions: Path) -> None:
    server = stub()
    async with server.serving() as url, opened(versions) as models:
        await models.serve(target("r1", url), target("base", url))
        server.adapters.clear()
        replies = await asyncio.gather(*(ask(models, target("r1", url)) for _ in range(5)))
    assert {reply.completions[0].text for reply in replies} == {"stub-run-r1 says hello"}
    assert server.changes == ["load stub-run-r1"] * 2


async def test_a_server_that_is_away_does_not_hold_a_version_up_unless_it_is_the_only_one(versions: Path) -> None:
    server = stub()
    async with server.serving() as url, opened(versions) as models:
        await models.serve(target("r1", url, gone()), target("base", url, gone()))
        assert list(server.adapters) == ["stub-run-r1"]
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            await models.serve(target("r1", gone()), target("base", gone()))


async def test_an_adapter_that_a_server_cannot_take_is_refused_with_the_mend(versions: Path) -> None:
    one, narrow = stub(max_lora_rank=64), stub()
    async with one.serving() as first, narrow.serving() as second, opened(versions) as models:
        with pytest.raises(ModelBlocked, match=r"LoRA rank 32 .* max_lora_rank 16.*lower training.lora_rank"):
            await models.serve(target("broad", first, second), target("base", first, second))
        with pytest.raises(ModelBlocked, match="must see that folder, and be started with --enable-lora"):
            await models.serve(target("absent", first), target("base", first))
        with pytest.raises(ModelBlocked, match="must see that folder"):
            await ask(models, target("absent", first))


# ---- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "429", "cut", "half", "none", "html"])
async def test_what_passes_is_asked_again(fault: str) -> None:
    server = stub(faults=deque([fault]))
    async with server.serving() as url, opened() as models:
        assert len((await ask(models, ref(url))).completions) == 3
    assert server.calls["stub"] == 2


async def test_fewer_completions_than_asked_for_are_made_up() -> None:
    server = stub(faults=deque(["fewer"]))
    async with server.serving() as url, opened() as models:
        reply = await ask(models, ref(url))
    assert (len(reply.completions), reply.prompt_tokens) == (3, 2)  # of both requests
    assert [request["n"] for request in server.requests] == [3, 2]


async def test_more_completions_than_asked_for_are_left() -> None:
    async with stub(faults=deque(["more"])).serving() as url, opened() as models:
        assert len((await ask(models, ref(url))).completions) == 3


async def test_tokens_that_are_told_together_are_shared_out_to_the_last() -> None:
    async def say(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        return ["one two three four", "one two", "one two"]

    async with Stub(say).serving() as url, opened() as models:
        reply = await ask(models, ref(url))
    assert [completion.completion_tokens for completion in reply.completions] == [3, 3, 2]


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        ("400", ModelBlocked, "Error code: 400 - a fault of 400 on demand"),
        ("422", ModelBlocked, "Error code: 422 - a fault of 422 on demand"),
        ("401", ModelBlocked, "refused the key: check THE_KEY"),
        ("403", ModelBlocked, "refused the key: check THE_KEY"),
        ("404", ModelBlocked, "no model 'stub' there: check served_name"),
        ("html", ModelBlocked, "no chat completion: check that the URL"),
        ("half", ModelUnavailable, "."),
        ("none", ModelUnavailable, "no chat completion"),
        ("abort", ModelUnavailable, r"broken off by the server \(abort\)"),
        ("error", ModelUnavailable, r"broken off by the server \(error\)"),
        ("slow", ModelUnavailable, "no answer in time"),
    ],
)
async def test_what_does_not_pass_is_one_line_without_the_key(fault: str, error: type[Exception], told: str) -> None:
    server = stub(faults=deque([fault] * 9))
    async with server.serving() as url, opened(THE_KEY=KEY) as models:
        with pytest.raises(error, match=told) as raised:
            await ask(models, ref(url, key_env="THE_KEY", timeout_s=0.3))
    line = str(raised.value)
    assert line.startswith(f"model at {url}: ")
    assert "\n" not in line
    assert KEY not in line


async def test_what_a_server_refuses_that_answered_before_is_a_matter_of_the_request() -> None:
    server = stub()
    async with server.serving() as url, opened() as models:
        await ask(models, ref(url))
        server.faults.append("400")
        with pytest.raises(ModelRefused, match="a fault of 400 on demand"):
            await ask(models, ref(url))


async def test_a_page_from_a_server_that_spoke_before_is_a_matter_of_time() -> None:
    server = stub()
    async with server.serving() as url, opened() as models:
        await ask(models, ref(url))
        server.faults.extend(["html"] * 4)
        with pytest.raises(ModelUnavailable) as raised:
            await ask(models, ref(url))
        assert not isinstance(raised.value, ModelBlocked)
        assert len((await ask(models, ref(url))).completions) == 3


async def test_a_key_that_is_not_set_is_named() -> None:
    async with opened() as models:
        with pytest.raises(ModelBlocked, match=r"model: \$THE_KEY is not set: put the key of http://x/v1 there"):
            await ask(models, ref("http://x/v1", key_env="THE_KEY"))


async def test_a_server_that_keeps_failing_is_left_alone_for_a_while_and_then_asked_by_one() -> None:
    now_s = 0.0
    server = stub(faults=deque(["half"] * 24))
    models = HttpModels(no_versions, {}, clock_s=lambda: now_s)
    async with server.serving() as url:
        for _ in range(5):
            with pytest.raises(ModelUnavailable):
                await ask(models, ref(url))
        with pytest.raises(ModelUnavailable, match="left alone for a while after 5 failures"):
            await ask(models, ref(url))
        assert server.calls["stub"] == 5 * 4  # each was made four times
        now_s = 6.0
        outcomes = await asyncio.gather(*(ask(models, ref(url)) for _ in range(10)), return_exceptions=True)
        assert server.calls["stub"] == 6 * 4
        assert all(isinstance(outcome, ModelUnavailable) for outcome in outcomes)
        now_s = 60.0
        assert len((await ask(models, ref(url))).completions) == 3
    await models.close()


async def fails(models: HttpModels, url: str, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ModelUnavailable):
            await ask(models, ref(url))


async def test_the_pause_doubles_up_to_two_minutes_and_begins_anew_after_an_answer() -> None:
    now_s = 0.0
    server = stub(share=1.0, befall=("none",))
    models = HttpModels(no_versions, {}, clock_s=lambda: now_s)
    async with server.serving() as url:
        await fails(models, url, 5)
        for pause_s in (5, 10, 20, 40, 80, 120, 120):
            asked = server.calls["stub"]
            now_s += pause_s - 0.1
            await fails(models, url)
            assert server.calls["stub"] == asked
            now_s += 0.1
            await fails(models, url)
            assert server.calls["stub"] > asked
        now_s, server.share = now_s + 120, 0.0
        await ask(models, ref(url))
        server.share = 1.0
        await fails(models, url, 5)
        now_s, server.share = now_s + 5, 0.0
        await ask(models, ref(url))
    await models.close()


@pytest.mark.parametrize(("fault", "told"), [("429", "429"), ("400", "400"), ("404", "no model"), ("401", "key")])
async def test_a_server_that_refuses_is_there_and_not_left_alone(fault: str, told: str) -> None:
    server = stub(share=1.0, befall=(fault,), retry_after="0.001")
    async with server.serving() as url, opened() as models:
        for _ in range(7):
            with pytest.raises(ModelUnavailable, match=told):
                await ask(models, ref(url))
        server.share = 0.0
        await ask(models, ref(url))


async def test_only_failures_in_a_row_count() -> None:
    server = stub(faults=deque([*["none"] * 16, "", *["none"] * 16]))  # four requests fail, each asked four times
    async with server.serving() as url, opened() as models:
        await fails(models, url, 4)
        await ask(models, ref(url))
        await fails(models, url, 4)
        await ask(models, ref(url))


async def test_one_server_is_asked_with_the_key_of_each_model() -> None:
    async with stub(key=KEY).serving() as url, opened(WRONG="sk-wrong", RIGHT=KEY) as models:
        with pytest.raises(ModelBlocked, match="refused the key: check WRONG"):
            await ask(models, ref(url, key_env="WRONG"))
        assert (await ask(models, ref(url, key_env="RIGHT"))).completions


async def test_a_long_complaint_is_cut() -> None:
    async with stub(refuses="x" * 10_000).serving() as url, opened() as models:
        with pytest.raises(ModelBlocked) as raised:
            await ask(models, ref(url))
    assert len(str(raised.value)) < 400


async def test_of_two_servers_the_one_that_works_answers_all() -> None:
    broken, whole = stub(share=1.0, befall=("half",)), stub()
    async with broken.serving() as first, whole.serving() as second, opened() as models:
        outcomes = [await _outcome(models, ref(first, second)) for _ in range(30)]
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) <= 5
    assert whole.calls["stub"] >= 25


async def _outcome(models: HttpModels, model: ModelRef) -> Reply | Exception:
    try:
        return await ask(models, model)
    except ModelUnavailable as error:
        return error


async def test_never_more_requests_are_in_flight_than_the_endpoint_takes() -> None:
    async def slowly(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        await asyncio.sleep(0.01)
        return await echo(model, messages, body)

    first, second = Stub(slowly), Stub(slowly)
    async with first.serving() as one, second.serving() as other, opened() as models:
        await asyncio.gather(*(ask(models, ref(one, other, concurrency=4)) for _ in range(60)))
    assert first.most_at_once == second.most_at_once == 4
    assert abs(first.calls["stub"] - second.calls["stub"]) <= 12


async def test_what_waits_for_its_turn_at_the_end_is_not_asked_any_more() -> None:
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def wait(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        began.set()
        await goes_on.wait()
        return await echo(model, messages, body)

    server = Stub(wait)
    async with server.serving() as url:
        models = HttpModels(no_versions, {})
        first, second = (asyncio.create_task(ask(models, ref(url, concurrency=1))) for _ in range(2))
        await began.wait()
        await models.close()
        goes_on.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert "the models behind HTTP are closed" in str(outcomes[1])
    assert server.calls["stub"] == 1


async def test_after_the_end_nothing_is_asked() -> None:
    server = stub()
    async with server.serving() as url:
        models = HttpModels(no_versions, {})
        await models.close()
        with pytest.raises(ModelUnavailable, match="closed"):
            await ask(models, ref(url))
    assert not server.calls
