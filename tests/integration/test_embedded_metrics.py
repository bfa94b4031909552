"""An embedded run tells Prometheus what it is doing, where `--metrics` says, and is silent when it is over."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from pathlib import Path

from bohdi.cli import Exit
from bohdi.embedded import Watcher, host_run, new_run
from bohdi.run_folder import RunFolder, resolved
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime import config as configs
from bohdi_common.runtime import metrics
from tests import scripted
from tests.forked import bohdi
from tests.integration.test_bad_input import DEMO, complaint
from tests.integration.test_budget import parts


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


class Scraping(Watcher):
    """Scrapes when the target is promoted."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.found = ""

    def on_event(self, event: Event) -> None:
        if event.WhichOneof("body") == "target_promoted":
            self.found = scraped(self.port)


def test_a_scrape_in_the_midst_of_a_run_has_its_state_and_none_after_it(tmp_path: Path) -> None:
    folder, port = RunFolder(tmp_path / "run"), metrics.serve("127.0.0.1", 0)
    config = resolved(configs.load(DEMO, scripted.small()), DEMO.parent)
    run_id = new_run(config, folder, 1, parts())
    watcher = Scraping(port)
    state = asyncio.run(host_run(config, folder, parts(), watcher, resume=False))
    lines = watcher.found.splitlines()
    assert f'bohdi_run_rounds{{run="{run_id}"}} 2.0' in lines
    assert f'bohdi_run_target_info{{run="{run_id}",version="{state.versions[-1]}"}} 1.0' in lines
    for service in ("bandit", "tree_expansion", "generation", "judging", "training"):
        assert any(line.startswith(f'bohdi_build_info{{host="local",service="{service}"') for line in lines)
        assert any("bohdi_events_handled_total" in line and f'service="{service}"' in line for line in lines)
    assert run_id not in scraped(port)


def test_an_address_that_cannot_be_had_is_one_line_and_makes_no_folder(tmp_path: Path) -> None:
    run = ("run", DEMO, "--dir", tmp_path / "run", "--metrics")
    assert "--metrics: not HOST:PORT: '9400'" in complaint(bohdi(*run, "9400"), Exit.MISTAKE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: Address already in use" in complaint(bohdi(*run, f"127.0.0.1:{port}"), Exit.MISTAKE)
    assert not (tmp_path / "run").exists()


def test_a_run_on_kafka_says_where_its_metrics_are(tmp_path: Path) -> None:
    ended = bohdi("run", DEMO, "--run", "r", "--kafka", "127.0.0.1:1", "--metrics", "127.0.0.1:9400")
    assert "bohdi up --metrics" in complaint(ended, Exit.MISTAKE)
