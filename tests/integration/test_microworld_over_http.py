"""All models behind servers in other processes that fail now and then, or are started again: the run learns, and
nothing is lost."""

import json
import signal
import time
from pathlib import Path

import yaml

from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from bohdi_common.log.port import LogError
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import feedback_events
from tests import scripted
from tests.demo_http import DEMO, LORA, SOURCES, WHOLE, Account, behind, served
from tests.forked import Forked

RUN_S = 900  # far beyond what it takes, on a machine that others load too


def run(config: Path, folder: RunFolder) -> Forked:
    """A configuration's run, under way."""
    return Forked("bohdi", "run", config, "--dir", folder.path, "--seed", "1")


def kinds(folder: RunFolder) -> set[str | None]:
    """Of the events that are in the log by now."""
    try:
        return {event.WhichOneof("body") for _, event in feedback_events(folder.read())}
    except LogError:  # it is being made
        return set()


def test_a_run_whose_models_are_behind_faulty_servers_ends_clean_and_every_request_is_accounted_for(
    tmp_path: Path,
) -> None:
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    with served(*SOURCES, seed=1) as sources, served("target", seed=2) as target:
        small = scripted.small()
        small = behind(sources.url, target.url, small | {"training": small["training"] | LORA})
        config.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        ran = run(config, folder).completed(RUN_S)
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


def test_a_target_that_is_trained_whole_is_read_by_its_server_every_round_and_again_after_a_start(
    tmp_path: Path,
) -> None:
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    with served("target", share=0.0, options=WHOLE) as target:
        one = {"name": "target", "adapter": "http", "path": "microworld:target", "urls": [target.url]}
        small = configs.load(DEMO, scripted.small() | {"target": one})
        config.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        ran = run(config, folder)
        until_s = time.monotonic() + RUN_S
        while "target_promoted" not in kinds(folder):
            assert ran.returncode is None and time.monotonic() < until_s
            time.sleep(0.5)
        target.process.send_signal(signal.SIGHUP)
        ended = ran.completed(RUN_S)
        assert ended.returncode == 0, ended.stderr
    assert verify_folder(folder)["problems"] == []
    assert target.changes.count("reload r1") == 2
    assert target.changes.count("reload r2") == 1
