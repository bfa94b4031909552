"""A target that is trained whole, behind servers: its versions take the place of their weights, one at a time."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bohdi_common.models import vllm_weights
from bohdi_common.models.port import Endpoint, ModelRef, ModelUnavailable
from tests.integration.test_http_models import ask, gone, opened
from tests.stub_server import Stub


def server(takes_s: float = 0.0, **told: Any) -> Stub:
    """One whose answers name the weights that they came of."""

    async def say(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        began_with = made.weights
        await asyncio.sleep(takes_s)
        return [f"{model} by {began_with.name if began_with else 'its start'}"] * body["n"]

    made = Stub(say, dev=True, **told)
    return made


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Whole models: base, r1 and r2."""
    for version in ("base", "r1", "r2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.json").write_text("{}")
    return tmp_path


def target(version: str, *urls: str, run: str = "run") -> ModelRef:
    return ModelRef("target", version, run, endpoint=Endpoint(urls, "stub", reloads=True))


async def test_a_version_is_read_by_every_server_from_its_whole_path_before_it_counts_as_served(
    versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = server(), server()
    monkeypatch.chdir(versions)
    async with one.serving() as first, other.serving() as second, opened(Path()) as models:
        at = (first, second)
        assert (await ask(models, target("base", *at))).completions[0].text == "stub by its start"
        await models.serve(target("r1", *at), target("base", *at))
        assert [one.weights, other.weights] == [versions / "r1"] * 2
        assert (await ask(models, target("r1", *at))).completions[0].text == "stub by r1"
    assert one.changes == other.changes == ["pause wait", "reload r1", "resume"]
    assert one.weight_version.startswith("run/r1#")


async def test_a_server_that_was_started_again_is_noticed_and_given_the_weights_once(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as models:
        await models.serve(target("r1", url), target("base", url))
        behind.restart()
        replies = await asyncio.gather(*(ask(models, target("r1", url)) for _ in range(5)))
    assert {reply.completions[0].text for reply in replies} == {"stub by r1"}
    assert behind.changes.count("reload r1") == 2


async def test_services_that_find_the_old_weights_together_change_them_once(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as one, opened(versions) as other:
        replies = await asyncio.gather(*(ask(models, target("r1", url)) for models in (one, other, one, other)))
    assert {reply.completions[0].text for reply in replies} == {"stub by r1"}
    assert behind.changes == ["pause wait", "reload r1", "resume"]


async def test_what_is_under_way_is_not_cut_off_and_what_comes_in_the_middle_of_a_change_waits(versions: Path) -> None:
    behind = server(takes_s=0.2)
    async with behind.serving() as url, opened(versions) as models:
        old = [asyncio.create_task(ask(models, target("base", url), f"question {n}")) for n in range(4)]
        await asyncio.sleep(0.1)
        change = asyncio.create_task(models.serve(target("r1", url), target("base", url)))
        await asyncio.sleep(0.05)
        new = await asyncio.gather(*(ask(models, target("r1", url), f"question {n}") for n in range(4)))
        await change
        outcomes = await asyncio.gather(*old, return_exceptions=True)
    assert {reply.completions[0].text for reply in new} == {"stub by r1"}
    assert all(isinstance(outcome, ModelUnavailable) and "has r1 by now" in str(outcome) for outcome in outcomes)
    assert behind.calls["stub"] == 8, "an answer that was cut off is asked for again"


async def test_what_the_old_weights_said_is_not_said_again_by_the_cache(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as models:
        await ask(models, target("base", url), "hello")
        assert behind.cache
        await models.serve(target("r1", url), target("base", url))
        assert (await ask(models, target("r1", url), "hello")).completions[0].text == "stub by r1"


async def test_only_who_publishes_versions_takes_a_server_back_to_an_earlier_one(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as models:
        await models.serve(target("r2", url), target("r1", url))
        with pytest.raises(ModelUnavailable, match="has r2 by now: it is not asked for r1 any more"):
            await ask(models, target("r1", url))
        await models.serve(target("r1", url), target("r1", url))
        assert (await ask(models, target("r1", url))).completions[0].text == "stub by r1"
    assert behind.changes.count("reload r1") == 1


async def test_a_change_whose_maker_was_killed_is_made_again_by_who_asks_next(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as models:
        await models.serve(target("r1", url), target("base", url))
        behind.weight_version, behind.weights = "run/r2!0", versions / "r2"
        behind.unpaused.clear()
        assert (await ask(models, target("r2", url))).completions[0].text == "stub by r2"
    assert behind.changes[-3:] == ["pause wait", "reload r2", "resume"]


@pytest.mark.parametrize(("changes", "asked"), [(0, 1), (1, 2), (9, 3)])
async def test_an_answer_counts_only_if_the_weights_were_the_same_before_and_after_it(
    versions: Path, changes: int, asked: int
) -> None:
    async def say(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        if behind.calls["stub"] <= changes:
            behind.weight_version = f"run/r1#{behind.calls['stub']}"
        return ["answer"] * body["n"]

    class Forgetful(dict[str, list[str]]):
        def __setitem__(self, key: str, value: list[str]) -> None: ...

    behind = Stub(say, dev=True, cache=Forgetful())
    async with behind.serving() as url, opened(versions) as models:
        if changes < 3:
            await ask(models, target("r1", url))
        else:
            with pytest.raises(ModelUnavailable, match="its weights changed again and again"):
                await ask(models, target("r1", url))
    assert behind.calls["stub"] == asked


async def test_a_server_that_cannot_change_its_weights_is_one_line_with_the_mend(versions: Path) -> None:
    plain, dev = Stub(server().say), server()
    async with plain.serving() as url, opened(versions) as models:
        for asked in (models.serve(target("r1", url), target("base", url)), ask(models, target("base", url))):
            with pytest.raises(ModelUnavailable, match=r"vLLM 0.32 or newer, started with VLLM_SERVER_DEV_MODE=1"):
                await asked
    async with dev.serving() as url, opened(versions) as models:
        with pytest.raises(ModelUnavailable, match=r"could not read the weights in .*absent: it must see that folder"):
            await models.serve(target("absent", url), target("base", url))
        assert (await ask(models, target("base", url))).completions[0].text == "stub by base"


async def test_a_server_of_another_kind_that_says_200_to_anything_is_told_of(versions: Path) -> None:
    class Welcoming(Stub):
        async def _weight_info(self, request: web.Request) -> web.Response:
            return web.Response(text="<html>Welcome!</html>", content_type="text/html")

    async with Welcoming(server().say, dev=True).serving() as url, opened(versions) as models:
        with pytest.raises(ModelUnavailable, match="does not say which weights it has"):
            await ask(models, target("base", url))


async def test_the_weights_of_another_run_are_left_alone(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as models:
        await models.serve(target("r1", url), target("base", url))
        with pytest.raises(ModelUnavailable, match="has weights of the run run: start it again"):
            await ask(models, target("base", url, run="other"))
        assert behind.weights == versions / "r1"


async def test_a_server_that_is_away_does_not_hold_weights_up_unless_it_is_the_only_one(versions: Path) -> None:
    behind = server()
    async with behind.serving() as url, opened(versions) as models:
        await models.serve(target("r1", url, gone()), target("base", url, gone()))
        assert behind.weights == versions / "r1"
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            await models.serve(target("r1", gone()), target("base", gone()))


def test_only_the_name_of_the_very_version_of_the_very_run_fits_it() -> None:
    r1 = target("r1", "http://x/v1")
    assert vllm_weights.fits("run/r1#0a", r1)
    assert not any(vllm_weights.fits(name, r1) for name in ("default", "run/r10#0a", "other/r1#0a", "run/r1!0a"))
    base = replace(r1, version="base")
    assert vllm_weights.fits("default", base) and vllm_weights.fits("run/base#0a", base)
    assert not vllm_weights.fits("run/r1#0a", base)
