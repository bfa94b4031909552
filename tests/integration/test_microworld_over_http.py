"""The sources behind a server in another process that fails now and then: the run learns, and nothing is lost."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bohdi.embedded import Watcher, host_run, new_run, real_parts
from bohdi.run_folder import RunFolder, resolved
from bohdi.verify_run import verify_folder
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.runtime import config as configs
from tests import scripted

DEMO = Path("configs/demo.yaml")
SOURCES = ("qwen", "mistral", "phi")
FAULTY = "0.05"


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
    folder, parts = RunFolder(tmp_path / "run"), real_parts()
    with served() as (url, process):
        behind = [
            {"name": name, "adapter": "http", "urls": [url], "temperature_answer": 0.2, "temperature_question": 1.0}
            for name in SOURCES
        ]
        config = resolved(configs.load(DEMO, scripted.small() | {"sources": behind}), DEMO.parent)
        new_run(config, folder, 1, parts)
        state = asyncio.run(host_run(config, folder, parts, Watcher(), resume=False))
        process.terminate()
        befallen = process.communicate(timeout=30)[0]
    assert state.finished == ALL_ROUNDS_DONE
    report = verify_folder(folder)
    assert report["problems"] == []
    assert report["checked"]["harvests"] > 60
    assert state.counts.get("unavailable", 0) == 0
    assert "'500'" in befallen and "'cut'" in befallen
