"""A service that is the first process of its container ends at SIGTERM before its host listens for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devbroker.broker import free_port

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]  # what it runs is the first process of a pid namespace
SOON_S = 120


def can_unshare() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="a pid namespace of its own wants root, and Linux")
def test_a_worker_that_is_told_to_end_while_it_waits_for_a_broker_does(tmp_path: Path) -> None:
    told = {**os.environ, "BOHDI_KAFKA": f"127.0.0.1:{free_port()}", "BOHDI_STORE": str(tmp_path)}
    command = [*UNSHARE, sys.executable, "-W", "ignore", "-m", "services.judging"]
    with subprocess.Popen(command, env=told, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        waiting = any("no broker answers" in line for line in parent.stderr)
        (first,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        try:
            assert waiting and parent.wait(SOON_S) == 128 + signal.SIGTERM
        finally:
            parent.kill()
