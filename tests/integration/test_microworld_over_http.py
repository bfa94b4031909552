<<<<<<< HEAD
"""All models behind servers in other processes that fail now and then: the run learns, and nothing is lost."""

import json
import subprocess
import sys
=======
"""Models of a run behind a server in another process that fails now and then, or is started again: nothing is lost."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
>>>>>>> vllm
from pathlib import Path

import yaml

from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
<<<<<<< HEAD
=======
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.log.port import LogError
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import events_of, feedback_events
from services.bandit.handler import folded
>>>>>>> vllm
from tests import scripted
from tests.demo_http import SOURCES, Account, behind, served

RUN_S = 300


<<<<<<< HEAD
def test_a_run_whose_models_are_behind_faulty_servers_ends_clean_and_every_request_is_accounted_for(
    tmp_path: Path,
) -> None:
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    with served(*SOURCES, seed=1) as sources, served("target", seed=2) as target:
        small = behind(sources.url, target.url, scripted.small())
        config.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        command = [sys.executable, "-W", "ignore", "-c", "from bohdi.cli import main; main()", "run", str(config)]
        command += ["--dir", str(folder.path), "--seed", "1"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
=======
@contextmanager
def served(*models: str, options: Sequence[str] = ()) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.stub_server", *options]
    command += [f"{name}=microworld:{name}" for name in models]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def run(config: Path, folder: RunFolder) -> list[str]:
    """The command that runs a configuration."""
    bohdi = [sys.executable, "-W", "ignore", "-c", "from bohdi.cli import main; main()"]
    return [*bohdi, "run", str(config), "--dir", str(folder.path), "--seed", "1"]


def kinds(folder: RunFolder) -> set[str | None]:
    """Of the events that are in the log by now."""
    try:
        return {event.WhichOneof("body") for _, event in feedback_events(folder.read())}
    except LogError:  # it is being made
        return set()


def test_a_run_whose_sources_are_behind_a_faulty_server_ends_clean(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    with served(*SOURCES, options=["--share", FAULTY]) as (url, process):
        behind = [
            {"name": name, "adapter": "http", "urls": [url], "temperature_answer": 0.2, "temperature_question": 1.0}
            for name in SOURCES
        ]
        small = configs.load(DEMO, scripted.small() | {"sources": behind})
        config.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        ran = subprocess.run(run(config, folder), capture_output=True, text=True, timeout=RUN_S, check=False)
        process.terminate()
        befallen = process.communicate(timeout=30)[0]
>>>>>>> vllm
    assert ran.returncode == 0, ran.stderr
    report = verify_folder(folder)
    assert report["problems"] == []
    assert report["checked"]["harvests"] > 60
<<<<<<< HEAD
    account = Account.of(folder, sources, target)
    assert list(account.problems()) == []
    assert account.harmful > 10
    assert account.promoted == 2
    last = f"load target-{json.loads(folder.summary.read_text())['run_id']}-r2"
    assert target.changes[-1] == last
=======
    log = folder.read()
    run_id = folder.run_id(log)
    state = folded(events_of(log, run_id), run_id)
    assert state.finished == ALL_ROUNDS_DONE
    assert state.counts.get("unavailable", 0) == 0
    assert "'500'" in befallen and "'cut'" in befallen


def test_a_target_that_is_trained_whole_is_read_by_its_server_every_round_and_again_after_a_start(
    tmp_path: Path,
) -> None:
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    with served("target", options=["--dev"]) as (url, process):
        behind = {"name": "target", "adapter": "http", "path": "microworld:target", "urls": [url]}
        small = configs.load(DEMO, scripted.small() | {"target": behind})
        config.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        with subprocess.Popen(run(config, folder), stderr=subprocess.PIPE, text=True) as ran:
            until_s = time.monotonic() + RUN_S
            while "target_promoted" not in kinds(folder):
                assert ran.poll() is None and time.monotonic() < until_s
                time.sleep(0.5)
            process.send_signal(signal.SIGHUP)
            assert ran.wait(RUN_S) == 0, ran.stderr and ran.stderr.read()
        process.terminate()
        changes = process.communicate(timeout=30)[0]
    assert verify_folder(folder)["problems"] == []
    assert changes.count("'reload r1'") == 2
    assert changes.count("'reload r2'") == 1
>>>>>>> vllm
