"""The sources behind a server in another process that fails now and then: the run learns, and nothing is lost."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import events_of
from services.bandit.handler import folded
from tests import scripted

DEMO = Path("configs/demo.yaml")
SOURCES = ("qwen", "mistral", "phi")
FAULTY = "0.05"
RUN_S = 240


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.stub_server", "--share", FAULTY]
    command += [f"{name}=microworld:{name}" for name in SOURCES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def test_a_run_whose_sources_are_behind_a_faulty_server_ends_clean(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    with served() as (url, process):
        behind = [
            {"name": name, "adapter": "http", "urls": [url], "temperature_answer": 0.2, "temperature_question": 1.0}
            for name in SOURCES
        ]
        small = configs.load(DEMO, scripted.small() | {"sources": behind})
        config.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        command = [sys.executable, "-W", "ignore", "-c", "from bohdi.cli import main; main()", "run", str(config)]
        command += ["--dir", str(folder.path), "--seed", "1"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
        process.terminate()
        befallen = process.communicate(timeout=30)[0]
    assert ran.returncode == 0, ran.stderr
    report = verify_folder(folder)
    assert report["problems"] == []
    assert report["checked"]["harvests"] > 60
    log = folder.read()
    run_id = folder.run_id(log)
    state = folded(events_of(log, run_id), run_id)
    assert state.finished == ALL_ROUNDS_DONE
    assert state.counts.get("unavailable", 0) == 0
    assert "'500'" in befallen and "'cut'" in befallen
