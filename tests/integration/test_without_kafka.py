"""Who has a run in a folder needs no Kafka client: not to be installed, and not to be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bohdi.cli import Exit
from tests.integration.test_verify_folder import folder

__all__ = ["folder"]

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kafka", "aiokafka", "faust"):
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Absent())
"""
MAIN = "from bohdi.cli import main; main()"


def without_kafka(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "command", ["status", "tree", "log", "replay", "verify", "profile", "what-if", "why version r1"]
)
def test_a_command_on_a_folder_works_without_the_clients(folder: Path, command: str) -> None:
    ended = without_kafka(MAIN, *command.split(), folder)
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")


def test_a_report_of_a_folder_is_made_without_the_clients(folder: Path, tmp_path: Path) -> None:
    ended = without_kafka(MAIN, "report", folder, "--out", tmp_path / "report.html")
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")


def test_an_embedded_run_is_put_together_without_the_clients() -> None:
    ended = without_kafka("import bohdi.embedded, bohdi_common.runtime.local_host")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_clients_are_indeed_absent_there() -> None:
    ended = without_kafka("import bohdi.kafka_places")
    assert ended.returncode == 1 and "was imported" in ended.stderr
