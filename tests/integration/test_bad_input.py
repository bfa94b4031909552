"""A user's mistake or a broken disk ends in one clear line and a non-zero exit code, and never in a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bohdi.cli import Exit
from bohdi.microworld import WEIGHTS
from bohdi.run_folder import RunFolder
from bohdi_common.core.ids import derived_id
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, RunResumed
from bohdi_common.log.port import Record
from bohdi_common.log.sqlite import SqliteLog
from tests.forked import Forked, bohdi

DEMO = Path("configs/demo.yaml")


def complaint(ended: subprocess.CompletedProcess[str], code: Exit) -> str:
    """The one line on standard error, after checking that it is one and that the exit code is right."""
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("bohdi: ")
    return lines[0]


def changed(tmp_path: Path, **sections: object) -> Path:
    """The demo's configuration with something wrong in it."""
    raw = yaml.safe_load(DEMO.read_text())
    for name, value in sections.items():
        raw[name] = raw[name] | value if isinstance(value, dict) else value
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


def test_an_unknown_key_is_named_by_its_path(tmp_path: Path) -> None:
    line = complaint(bohdi("run", changed(tmp_path, bandit={"treshold": 1}), "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "bandit.treshold: unknown key" in line
    assert not (tmp_path / "r").exists()


def test_a_threshold_of_one_and_a_half_is_refused_with_its_value(tmp_path: Path) -> None:
    line = complaint(bohdi("run", changed(tmp_path, bandit={"threshold": 1.5}), "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "bandit.threshold" in line
    assert "1.5" in line


def test_a_missing_model_folder_is_named(tmp_path: Path) -> None:
    file = changed(tmp_path, target={"path": "no/such/model"})
    line = complaint(bohdi("run", file, "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "target.path: no such model folder" in line
    assert "'no/such/model'" in line


def test_a_missing_folder_of_tasks_is_named(tmp_path: Path) -> None:
    file = changed(tmp_path, evaluation={"tasks": ["tiny"], "tasks_folder": "no/such/tasks"})
    line = complaint(bohdi("run", file, "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "evaluation.tasks_folder: no such folder" in line
    assert "'no/such/tasks'" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["eval"], "give a model folder"),
        (["eval", "no/such/model", "--tasks", "tiny"], "no/such/model: no such model folder"),
        (["route", "no/such/profile.json"], "no/such/profile.json"),
        (["route", "x", "--listen", "8080"], "--listen: not HOST:PORT"),
        (["profile"], "which run?"),
    ],
)
def test_a_model_a_profile_or_a_run_that_is_not_there_is_named(arguments: list[str], told: str) -> None:
    ended = bohdi(*arguments)
    assert told in complaint(ended, Exit.LOG if "no/such/profile.json" in arguments else Exit.MISTAKE)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = complaint(bohdi("run", changed(tmp_path, target={"path": "empty"}), "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "target.path: not a model folder" in line
    assert "config.json" in line


def cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def a_shard_missing(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def another_configuration(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (cut_off, "model.safetensors is missing, cut off or damaged"),
        (a_shard_missing, "model-2.safetensors is missing, cut off or damaged"),
        (another_configuration, "not a model folder (config.json names no model_type)"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(tmp_path: Path, spoil: Callable[[Path], None], what: str) -> None:
    shutil.copytree(WEIGHTS / "target", tmp_path / "model")
    spoil(tmp_path / "model")
    line = complaint(bohdi("run", changed(tmp_path, target={"path": "model"}), "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert f"target.path: {what}" in line
    assert not (tmp_path / "r").exists()


def test_a_model_that_transformers_does_not_load_is_refused_by_its_name(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "target", tmp_path / "model")
    raw = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(raw | {"model_type": "no-such-type"}))
    line = complaint(bohdi("run", changed(tmp_path, target={"path": "model"}), "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert line.startswith("bohdi: target: ")
    assert "no-such-type" in line
    assert not (tmp_path / "r").exists()


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "target", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    line = complaint(bohdi("run", changed(tmp_path, target={"path": "model"}), "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "no chat template" in line


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    line = complaint(bohdi("run", tmp_path / "no.yaml", "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "no.yaml: no such file" in line


def test_an_existing_run_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine").write_text("keep")
    line = complaint(bohdi("run", DEMO, "--dir", tmp_path / "r"), Exit.MISTAKE)
    assert "exists already" in line
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "command", ["status", "tree", "log", "replay", "what-if", "verify", "resume", "pause", "cancel"]
)
def test_a_folder_without_a_run_is_named_by_every_command(tmp_path: Path, command: str) -> None:
    ended = bohdi(command, tmp_path / "nothing")
    assert ended.returncode in (Exit.MISTAKE, Exit.LOG, Exit.PROBLEMS)
    assert "nothing" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made by scripted models in a process of its own."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    Forked("tests.integration.killable", folder, "none", "0", "scripted").completed().check_returncode()
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(finished, tmp_path / "copy")
    yield tmp_path / "copy"


def test_a_truncated_log_is_one_clear_line(copy: Path) -> None:
    log = RunFolder(copy).log
    os.truncate(log, log.stat().st_size * 2 // 3 // 4096 * 4096)
    assert str(log) in complaint(bohdi("replay", copy), Exit.LOG)
    verified = bohdi("verify", copy)
    assert verified.returncode == Exit.PROBLEMS
    assert "Traceback" not in verified.stderr


def test_one_flipped_byte_in_a_record_is_named_by_topic_and_offset(copy: Path) -> None:
    reader = RunFolder(copy).read()
    victim = list(reader.read("bohdi.feedback"))[40]
    log = RunFolder(copy).log
    content = bytearray(log.read_bytes())
    at = content.index(victim.value)
    content[at + len(victim.value) // 2] ^= 0x01
    log.write_bytes(content)
    line = complaint(bohdi("replay", copy), Exit.LOG)
    assert "bohdi.feedback" in line
    assert "40" in line
    verified = bohdi("verify", copy)
    assert verified.returncode == Exit.PROBLEMS
    assert "40" in verified.stdout


def test_an_event_of_a_newer_schema_stops_with_the_advice_to_update(copy: Path) -> None:
    async def append() -> None:
        log = SqliteLog.open(RunFolder(copy).log, create=False)
        event = Event(event_id=derived_id("new"), run_id="x", schema_version=codec.SCHEMA_VERSION + 1)
        event.run_resumed.CopyFrom(RunResumed())
        await log.append([Record("bohdi.feedback", "x", event.event_id, codec.encode(event))])
        await log.close()

    asyncio.run(append())
    assert "newer Bohdi" in complaint(bohdi("replay", copy), Exit.LOG)


def test_a_model_that_is_none_cannot_be_evaluated(tmp_path: Path) -> None:
    assert "no such model folder" in complaint(bohdi("eval", tmp_path / "none"), Exit.MISTAKE)


def test_a_version_that_was_never_promoted_cannot_be_exported(copy: Path) -> None:
    assert "r99: not a promoted version" in complaint(bohdi("export-model", "r99", copy), Exit.MISTAKE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_the_run_with_one_line_and_what_was_acknowledged_is_there(small_disk: Path) -> None:
    line = complaint(bohdi("run", DEMO, "--dir", small_disk / "run", "--seed", "1"), Exit.LOG)
    assert "full" in line
    replayed = bohdi("replay", small_disk / "run")
    assert replayed.returncode == Exit.DONE, replayed.stderr
