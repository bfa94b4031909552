"""lm-evaluation-harness itself, without a network: a version in a folder, and a model behind a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bohdi.cli import Exit
from bohdi.embedded import Parts, new_run
from bohdi.harness_runs import record
from bohdi.microworld import BENCHMARK, world
from bohdi.run_folder import RunFolder, resolved
from bohdi.run_places import FolderPlace
from bohdi.verify_run import verify_folder
from bohdi_common.events import codec
from bohdi_common.log import inbox
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.models.scripted import ScriptedModels
from bohdi_common.runtime import config
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.shell import record_of
from tests.scripted import copied
from tests.stub_server import Stub

DEMO = Path("configs/demo.yaml")
KEY = "sk-secret-of-the-stub"
RUN_S = 240
TASK = {
    "task": "tiny",
    "dataset_path": "json",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def task_in(folder: Path) -> Path:
    """A folder with a task of held-out questions: one half of a field that the target knows, one that it has never
    seen."""
    folder.mkdir()
    items = [json.loads(line) for line in BENCHMARK.read_text().splitlines()]
    chosen = [[item for item in items if item["path"][-1] == leaf][:4] for leaf in ("Reversal", "Next Day")]
    data = folder / "items.jsonl"
    data.write_text("\n".join(json.dumps(item) for half in chosen for item in half))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TASK | {"dataset_kwargs": {"data_files": {"test": str(data)}}}))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has only begun."""
    folder = RunFolder(tmp_path / "run")
    parts = Parts(models=lambda folder_of: ScriptedModels(lambda *_: []), fine_tune=copied)
    new_run(resolved(config.load(DEMO), DEMO.parent), folder, 1, parts)
    return folder


async def bohdi(*arguments: str | Path, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bohdi", *map(str, arguments)),
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(RUN_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_version_of_a_run_and_a_model_behind_a_server_are_scored(run: RunFolder, tmp_path: Path) -> None:
    tasks = task_in(tmp_path / "tasks")
    asked = ("--tasks", "tiny", "--tasks-folder", tasks)
    own = {"HF_HOME": str(tmp_path / "huggingface")}

    async def say(model: str, messages: list[dict[str, str]], body: dict[str, Any]) -> list[str]:
        return [(world.solve(messages[-1]["content"]) or ((), "?"))[1]]

    async with Stub(say, key=KEY).serving() as url:
        raw = yaml.safe_load(DEMO.read_text())
        behind = {"name": "knows", "adapter": "http", "urls": [url], "served_name": "stub", "key_env": "STUB_KEY"}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw | {"sources": [behind]}))
        served, local = await asyncio.gather(
            bohdi("eval", tmp_path / "run.yaml", "--model", "knows", *asked, "--json", STUB_KEY=KEY, **own),
            bohdi("eval", run.path, "--version", "base", *asked, **own),
        )
    assert (served[0], local[0]) == (Exit.DONE, Exit.DONE), served[2] + local[2]
    (score,) = json.loads(served[1])["scores"]
    assert (score["domain"], score["metric"], score["value"], score["questions"]) == ("tiny", "exact_match,none", 1, 8)
    assert KEY not in served[1] + served[2]
    _, event = list(feedback_events(run.read()))[-1]
    scored = event.target_evaluated
    assert (event.producer, scored.model, scored.version, scored.benchmark) == ("cli", "target", "base", "tiny")
    assert [(s.domain, s.metric, s.value, s.questions) for s in scored.scores] == [("tiny", "exact_match,none", 0.5, 8)]
    assert verify_folder(run)["problems"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--version", "r7"], "--version r7: not a version of this run (there are: base)"),
        (["--model", "nobody"], "--model nobody: no model of"),
    ],
)
async def test_a_model_or_version_that_is_not_there_is_named(run: RunFolder, arguments: list[str], told: str) -> None:
    code, _, complaint = await bohdi("eval", run.path, "--tasks", "tiny", *arguments)
    assert (code, len(complaint.splitlines())) == (Exit.MISTAKE, 1)
    assert told in complaint


async def test_scores_are_left_in_the_inbox_while_a_host_is_at_work_on_the_run(run: RunFolder) -> None:
    place = FolderPlace(run)
    record_made = record_of(codec.by_hand(place.run_id, "1" * 32, 1, "target_evaluated", {"model": "target"}))
    host = SqliteLog.open(run.log, create=False)
    assert "left for the host" in record(place, record_made)
    assert await inbox.drain(run.inbox, host) == 1
    assert len(list(feedback_events(host))) == 2
    await host.close()
