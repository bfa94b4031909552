"""What is wrong with a server, a key or a disk ends a run in one clear line; once it is mended the run goes on."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bohdi.cli import Exit
from bohdi.microworld import WEIGHTS
from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import ROOT
from bohdi_common.models.port import ModelRef
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import events_of
from services.bandit.handler import folded
from tests import forked
from tests.integration.killable import answer
from tests.integration.test_http_models import gone
from tests.stub_server import Stub

DEMO = Path("configs/demo.yaml")
KEY, WRONG = "sk-the-right-one", "sk-the-wrong-one"
SOURCES = ("qwen", "mistral", "phi")
RUN_S = 900  # far beyond what it takes, on a machine that others load too
TOO_LONG = "This model's maximum context length is 16 tokens. However, your request has 40 input tokens."
NO_TEMPLATE = "default chat template is no longer allowed, so you must provide a chat template"


async def say(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
    """As perfect sources, and a target that learns nothing."""
    name = model.partition("-")[0]
    return [answer(ModelRef(name), messages[-1]["content"]) for _ in range(body["n"])]


def stub(**told: Any) -> Stub:
    return Stub(say, models=(*SOURCES, "target"), **told)


def config(tmp_path: Path, url: str, target: dict[str, Any] | None = None, harvests: int = 0, **training: Any) -> Path:
    """One round of one step, the sources behind `url`, and so the target if it is told anything; `harvests` caps it."""
    small: dict[str, Any] = {
        "bandit": {"rounds": 1, "steps": 1, "slots": 12, "rehearsal_questions": 0},
        "training": {"passes": 1.0} | training,
        "budget": {"harvests": harvests},
        "evaluation": None,
    }
    whole = configs.load(DEMO, small).model_dump(mode="json")
    server = {"adapter": "http", "urls": [url], "key_env": "THE_KEY"}
    whole["sources"] = [source | server | {"path": ""} for source in whole["sources"]]
    whole["target"] |= server | target if target else {}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(whole))
    return file


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str
    folder: Path

    def complaint(self, code: Exit) -> str:
        """The one line that says what is wrong, after checking that it is one, and that no key is anywhere."""
        assert self.code == code, self.out + self.err
        assert "Traceback" not in self.out + self.err
        lines = [line for line in self.err.splitlines() if line.startswith("bohdi: ")]
        assert len(lines) == 1, self.err
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        for key in (KEY, WRONG):
            assert key not in self.out + self.err
            assert not [file for file in files if key.encode() in file.read_bytes()]
        return lines[0]


async def bohdi(*arguments: str | Path, folder: Path, key: str = KEY) -> Ended:
    ended = await asyncio.to_thread(forked.bohdi, *arguments, timeout=RUN_S, THE_KEY=key)
    return Ended(ended.returncode, ended.stdout, ended.stderr, folder)


@asynccontextmanager
async def stopped(tmp_path: Path, server: Stub, **told: Any) -> AsyncIterator[tuple[str, Path]]:
    """(the complaint, the folder) of a run that its server stopped; the server is there while it is looked at."""
    folder = tmp_path / "r"
    key = told.pop("key", KEY)
    async with server.serving() as url:
        file = config(tmp_path, url, **told)
        ended = await bohdi("run", file, "--dir", folder, "--seed", "1", folder=folder, key=key)
        yield ended.complaint(Exit.PAUSED), folder


async def goes_on(folder: Path) -> RunState:
    """The state of the run after a resume, which ends it, clean."""
    ended = await bohdi("resume", folder, folder=folder)
    assert ended.code == Exit.DONE, ended.err
    assert verify_folder(RunFolder(folder))["problems"] == []
    state = state_of(folder)
    assert not state.failed_trainings, ended.err
    return state


async def asks_on(folder: Path) -> None:
    """A resume asks the models until the run's cap of one harvest. (Two other tests train after theirs.)"""
    ended = await bohdi("resume", folder, folder=folder)
    assert "the budget of 1 harvests is spent" in ended.complaint(Exit.PAUSED)
    assert verify_folder(RunFolder(folder))["problems"] == []
    assert state_of(folder).counts["harvests"] > 0


def state_of(folder: Path) -> RunState:
    log = RunFolder(folder).read()
    run_id = RunFolder(folder).run_id(log)
    return folded(events_of(log, run_id), run_id)


def nothing_half(folder: Path, *whole: str) -> None:
    """No version stands there but those that are `whole`, and none was promoted but the base."""
    versions = RunFolder(folder).versions
    assert sorted(path.name for path in versions.iterdir()) == sorted(whole)
    assert [problem for name in whole for problem in VersionStore(versions).check(name)] == []
    assert state_of(folder).versions == ["base"]


# ---- servers ---------------------------------------------------------------------------------------------------


async def test_a_wrong_key_pauses_the_run_at_once_and_the_right_one_lets_it_go_on(tmp_path: Path) -> None:
    server = stub(key=KEY)
    async with stopped(tmp_path, server, key=WRONG, harvests=1) as (line, folder):
        assert "at http://127.0.0.1:" in line and "refused the key: check THE_KEY" in line
        assert f"go on with `bohdi resume {folder}`" in line
        assert max(server.calls.values()) == 1, "it was asked again with the same key"
        nothing_half(folder)
        await asks_on(folder)


async def test_one_source_of_three_under_a_name_that_its_server_does_not_know_pauses_the_run(tmp_path: Path) -> None:
    server = Stub(say, models=("qwen", "mistral", "target"))
    async with stopped(tmp_path, server) as (line, folder):
        assert "phi at http://127.0.0.1:" in line and "no model 'phi' there: check served_name" in line
        assert server.calls["phi"] == 1, "it was asked again under the same name"
        nothing_half(folder)


async def test_with_nobody_at_the_url_the_run_pauses_and_goes_on_once_a_server_is_there(tmp_path: Path) -> None:
    folder, url = tmp_path / "r", gone()
    file = config(tmp_path, url, harvests=1)
    ended = await bohdi("run", file, "--dir", folder, "--seed", "1", folder=folder)
    line = ended.complaint(Exit.PAUSED)
    assert "the models were unavailable" in line and f" at {url}: cannot be reached" in line
    nothing_half(folder)
    async with stub().serving(int(url.split(":")[2].removesuffix("/v1"))):
        await asks_on(folder)


async def test_a_server_that_speaks_html_pauses_the_run_and_is_told_from_one_that_is_away(tmp_path: Path) -> None:
    async with stopped(tmp_path, stub(share=1.0, befall=("html",))) as (line, folder):
        assert "the answer is no chat completion: check that the URL ends in /v1" in line
        nothing_half(folder)


@pytest.mark.parametrize("refuses", [TOO_LONG, NO_TEMPLATE])
async def test_a_server_that_refuses_whatever_it_is_asked_pauses_the_run_in_its_own_words(
    tmp_path: Path, refuses: str
) -> None:
    server = stub(refuses=refuses)
    async with stopped(tmp_path, server) as (line, folder):
        assert f"Error code: 400 - {refuses}" in line
        nothing_half(folder)
        assert state_of(folder).tree.open[ROOT], "what was refused counted towards closing an arm"


async def test_a_rank_that_a_server_does_not_take_pauses_the_run_and_a_wider_server_is_given_the_next_version(
    tmp_path: Path,
) -> None:
    server = stub(max_lora_rank=8)
    lora = {"lora_rank": 16, "muon_learning_rate": 0.0}
    async with stopped(tmp_path, server, target={"path": "microworld:target"}, **lora) as (line, folder):
        assert "LoRA rank 16 is greater than max_lora_rank 8" in line and "start it with a higher one" in line
        assert server.changes == []
        nothing_half(folder, "r1")
        server.max_lora_rank = 16
        state = await goes_on(folder)
    assert state.versions == ["base", "r1.1"]
    assert server.changes == [f"load target-{state.run_id}-r1.1"]


# ---- what is refused before anything starts --------------------------------------------------------------------


async def test_a_key_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    file = config(tmp_path, "http://127.0.0.1:9/v1")
    ended = await bohdi("run", file, "--dir", tmp_path / "r", folder=tmp_path / "r", key="")
    assert "qwen: $THE_KEY is not set: put the key of http://127.0.0.1:9/v1 there" in ended.complaint(Exit.MISTAKE)
    assert not (tmp_path / "r").exists()


async def test_a_context_that_no_prompt_fits_is_refused_before_anything_starts(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "target", tmp_path / "model")
    raw = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(raw | {"max_position_embeddings": 4}))
    whole = yaml.safe_load(DEMO.read_text())
    whole["target"]["path"] = str(tmp_path / "model")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(whole))
    ended = await bohdi("run", tmp_path / "run.yaml", "--dir", tmp_path / "r", folder=tmp_path / "r")
    line = ended.complaint(Exit.MISTAKE)
    assert line.startswith("bohdi: target: ") and "its context is too small: 4 tokens" in line
    assert not (tmp_path / "r").exists()


# ---- disks -----------------------------------------------------------------------------------------------------


@contextmanager
def disk_of(kilobytes: int, folder: Path) -> Iterator[None]:
    """A small file system of its own at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_disk_that_is_full_in_the_midst_of_a_save_pauses_the_run_and_leaves_nothing_half(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "r"
    async with stub().serving() as url:
        file = config(tmp_path, url, harvests=1)
        ended = await bohdi("run", file, "--dir", folder, "--seed", "1", folder=folder)
        assert "the budget of 1 harvests is spent" in ended.complaint(Exit.PAUSED)
        with disk_of(300, folder / "versions"):
            ended = await bohdi("resume", folder, "--harvests", "1000", folder=folder)
            line = ended.complaint(Exit.PAUSED)
            assert "the training of r1 failed" in line
            assert "No space left on device" in line and "make room" in line
            nothing_half(folder)
        assert (await goes_on(folder)).versions == ["base", "r1.1"]
