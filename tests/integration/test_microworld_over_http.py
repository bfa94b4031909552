"""All models behind servers in other processes that fail now and then: the run learns, and nothing is lost."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from tests import scripted
from tests.demo_http import SOURCES, Account, behind, served

RUN_S = 900  # far beyond what it takes, on a machine that others load too


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
    assert ran.returncode == 0, ran.stderr
    report = verify_folder(folder)
    assert report["problems"] == []
    assert report["checked"]["harvests"] > 60
    account = Account.of(folder, sources, target)
    assert list(account.problems()) == []
    assert account.harmful > 10
    assert account.promoted == 2
    last = f"load target-{json.loads(folder.summary.read_text())['run_id']}-r2"
    assert target.changes[-1] == last
