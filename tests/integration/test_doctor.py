"""`bohdi doctor` before a run: what is wrong with a model, a server or a folder is one clear line, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from bohdi.cli import Exit
from bohdi.doctor.examination import Examination
from bohdi.doctor.finding import Finding
from bohdi.microworld import WEIGHTS
from bohdi_common.models.adapters import prepare_torch
from bohdi_common.runtime.config import Config, parse
from tests.forked import bohdi
from tests.integration.test_http_models import KEY, echo, gone, stub
from tests.stub_server import Stub

TIMEOUT_S = 10.0
CLI_S = 400


def config_of(url: str, **told: Any) -> Config:
    """A run whose source and target are behind the server at `url`."""
    behind = {"adapter": "http", "urls": [url], "served_name": "stub"} | told
    return parse(
        {
            "name": "x",
            "prompts": "micro-v1",
            "sources": [{"name": "source"} | behind],
            "target": {"name": "target", "path": "microworld:target"} | behind,
            "harvest": {"answer_max_tokens": 16, "question_max_tokens": 24},
            "training": {"lora_rank": 4, "max_tokens": 96},
        },
        "x.yaml",
    )


async def examined(tmp_path: Path, url: str, timeout_s: float = TIMEOUT_S, **told: Any) -> list[Finding]:
    prepare_torch()
    findings: list[Finding] = []
    await Examination(config_of(url, **told), tmp_path, tmp_path, timeout_s, findings.append).whole(calls=True)
    return findings


def wrong(findings: list[Finding]) -> list[str]:
    """What fails of the source, and that the target's one line says the same of it."""
    failing = {finding.what: finding.told for finding in findings if finding.level == "fail"}
    of = {name: [told for what, told in failing.items() if what.startswith(name)] for name in ("source", "target")}
    assert len(failing) == 2
    assert of["target"] == [told.replace("source", "target") for told in of["source"]]
    return of["source"]


async def test_servers_that_answer_are_measured_and_nothing_fails(tmp_path: Path) -> None:
    async with Stub(echo, context=4096).serving() as url:
        findings = await examined(tmp_path, url)
    assert {f.level for f in findings} == {"ok"}, findings
    told = {f.what: f.told for f in findings}
    assert told[f"source at {url}"] == "answers as stub, context 4096"
    assert told["context of source"].startswith("tokens with the reply, of 4096: proposal ")
    assert "tokens/s" in told["speed of source"]
    assert {"LoRA", "folder of target", "memory of the training", "disk", "speed of the training"} <= told.keys()


async def test_the_forecast_as_measured_is_below_that_at_most_and_a_burst_is_as_large_as_the_server_takes(
    tmp_path: Path,
) -> None:
    prepare_torch()
    findings: list[Finding] = []
    async with Stub(echo, context=4096).serving() as url:
        looked = Examination(config_of(url, concurrency=2), tmp_path, tmp_path, TIMEOUT_S, findings.append)
        most, about = await looked.whole(calls=True)
    assert about is not None and about.calls < most.calls
    assert 0 < about.spent["hours"] < most.spent["hours"]
    assert ", 8 requests at once; " in next(f.told for f in findings if f.what == "speed of source")


async def test_a_wrong_key_is_named_by_its_variable_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-wrong-key")
    async with stub(key=KEY).serving() as url:
        findings = await examined(tmp_path, url, key_env="THE_KEY")
    assert wrong(findings) == ["refused the key: check THE_KEY"]
    assert "sk-wrong-key" not in str(findings)


async def test_a_key_that_is_not_set_is_named_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    async with stub().serving() as url:
        findings = await examined(tmp_path, url, key_env="THE_KEY")
    assert wrong(findings) == [f"source: $THE_KEY is not set: put the key of {url} there"]


async def test_a_name_that_the_server_does_not_serve_is_named_beside_those_that_it_does(tmp_path: Path) -> None:
    async with stub(models=("this", "that")).serving() as url:
        findings = await examined(tmp_path, url)
    assert wrong(findings) == ["no model 'stub' there, but that, this: check served_name"]


async def test_a_server_that_is_down_is_named(tmp_path: Path) -> None:
    (told,) = wrong(await examined(tmp_path, gone()))
    assert told.startswith("cannot be reached")


@asynccontextmanager
async def speaking_html() -> AsyncIterator[str]:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html><body>Welcome!</body></html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_a_server_that_speaks_html_is_told_apart_from_one_of_models(tmp_path: Path) -> None:
    async with speaking_html() as url:
        findings = await examined(tmp_path, url)
    assert wrong(findings) == ["the answer is no list of models: check that the URL ends in /v1 of such a server"]


async def test_a_server_that_takes_too_long_is_left_after_the_time_given(tmp_path: Path) -> None:
    async with stub(share=1.0, befall=("slow",)).serving() as url:
        findings = await examined(tmp_path, url, timeout_s=1.0)
    assert wrong(findings) == ["no answer within 1 s: see whether it is up, or raise --timeout"]


async def test_a_context_that_is_too_small_for_the_shortest_request_is_named_with_the_mend(tmp_path: Path) -> None:
    async with stub(context=20).serving() as url:
        findings = await examined(tmp_path, url)
    failing = [f for f in findings if f.level == "fail"]
    assert {f.what for f in failing} == {"context of source"}
    assert all("and the model takes 20: lower " in f.told for f in failing)


# ---- folders, and the command -----------------------------------------------------------------------------------


def doctor(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return bohdi("doctor", file, *arguments, timeout=CLI_S)


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def of_no_known_kind(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"model_type": "of-no-kind"}))


def test_every_folder_that_is_no_good_is_a_line_and_the_command_ends_with_1(tmp_path: Path) -> None:
    for name, spoil in (("bare", without_template), ("odd", of_no_known_kind)):
        shutil.copytree(WEIGHTS / "qwen", tmp_path / name)
        spoil(tmp_path / name)
    raw = yaml.safe_load(Path("configs/demo.yaml").read_text())
    raw["sources"] = [{"name": name, "path": name} for name in ("bare", "odd", "nowhere")]
    raw["harvest"]["benchmarks"] = ["nowhere.jsonl"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
    ended = doctor(tmp_path / "run.yaml", "--no-calls", "--json", "--store", str(tmp_path / "runs"))
    assert (ended.returncode, ended.stderr) == (Exit.PROBLEMS, "")
    said = json.loads(ended.stdout)
    failing = {f["what"]: f["told"] for f in said["findings"] if f["level"] == "fail"}
    assert set(failing) == {"files", "folder of bare", "folder of odd", "folder of nowhere"}
    assert "nowhere.jsonl" in failing["files"]
    assert "no chat template; save one with it" in failing["folder of bare"]
    assert "of-no-kind" in failing["folder of odd"]
    assert failing["folder of nowhere"] == "no such model folder: correct the path: 'nowhere'"
    assert said["forecast"]["at_most"]["spent"]["harvests"] == 6 * 3 * 80


def test_a_configuration_that_is_none_ends_with_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: x\nsources: []\ntarget: {name: t, path: t}\n")
    ended = doctor(tmp_path / "run.yaml")
    assert ended.returncode == Exit.MISTAKE
    assert "sources: " in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_models_of_this_process_are_loaded_and_asked_in_another(tmp_path: Path) -> None:
    """The demo's, with one source: nothing fails, every model is measured, and so the hours are known."""
    raw = yaml.safe_load(Path("configs/demo.yaml").read_text())
    raw["sources"] = raw["sources"][:1]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
    ended = doctor(tmp_path / "run.yaml", "--json", "--timeout", "200", "--store", str(tmp_path / "runs"))
    assert ended.returncode == Exit.DONE, ended.stdout + ended.stderr
    said = json.loads(ended.stdout)
    measured = {f["what"] for f in said["findings"] if "tokens/s" in f["told"]}
    assert measured == {"speed of qwen", "speed of target", "speed of the training"}
    assert said["forecast"]["at_most"]["spent"]["hours"] > 0
