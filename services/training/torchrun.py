"""A training by torchrun: processes beside this one, on this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from services.training.job import LaunchFailed, TrainingStopped
from services.training.job_files import JobFolder

_log = logging.getLogger("bohdi")
LAUNCHER = "BOHDI_LAUNCHER"  # for services.training.launched: the process with which its own are to end
# Of torchrun whole, from the last checkpoint, when one of its processes is killed. Its own restarts are not used: with
# torch 2.15 and gloo the processes of a second attempt were seen to wait for each other for good.
_RESTARTS = 2
_LOOK_S = 0.2
_END_S = 10.0  # torchrun's own processes are to end in that time
_LATE_S = 120.0  # the processes know the bound too, and say so themselves
_SAID_BYTES = 4_000
_SAID_CHARS = 400


def run(
    folder: JobFolder,
    processes: int,
    timeout_s: float,
    stop: Callable[[], bool],
    on_step: Callable[[int, float], None],
) -> None:
    """Has so many processes do the job in `folder`. Raises TrainingStopped when `stop` says so, and LaunchFailed, with
    the error of one, or the end of what all said, when they leave no result."""
    folder.forget()
    until_s = time.monotonic() + timeout_s + _LATE_S if timeout_s else float("inf")
    why = ""
    for _ in range(1 + _RESTARTS):
        with tempfile.TemporaryFile() as said:
            try:
                code = _attempt(folder, _start(folder, processes, said), until_s, stop, on_step)
            except TimeoutError:
                raise LaunchFailed(f"not done within {timeout_s:.0f} s; raise training.timeout_s") from None
            if folder.is_there():
                return
            why = " ".join(folder.crash().split()) or _end_of(said)
        _log.error("torchrun ended with %d and no result: %s", code, why[-_SAID_CHARS:])
    raise LaunchFailed(f"torchrun ended {1 + _RESTARTS} times without a result: {why[-_SAID_CHARS:]}")


def _attempt(
    folder: JobFolder,
    process: subprocess.Popen[bytes],
    until_s: float,
    stop: Callable[[], bool],
    on_step: Callable[[int, float], None],
) -> int:
    """Looks on until torchrun has ended; its exit code. None of its processes is left then. Raises TimeoutError."""
    read_to = 0
    try:
        while process.poll() is None:
            if stop():
                raise TrainingStopped("stopped while its processes trained")
            if time.monotonic() > until_s:
                raise TimeoutError
            time.sleep(_LOOK_S)
            read_to = _told(folder, read_to, on_step)
    finally:
        _end(process)
    _told(folder, read_to, on_step)
    return process.returncode


def _start(folder: JobFolder, processes: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(processes), "--max-restarts", "0", "--monitor-interval", str(_LOOK_S),
        "-m", "services.training.launched", str(folder.path.absolute()),
    ]  # fmt: skip
    own = (
        {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ | {"BOHDI_LAUNCHER": str(os.getpid())}
    )
    return subprocess.Popen(
        command, env=own, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
    )


def _told(folder: JobFolder, read_to: int, on_step: Callable[[int, float], None]) -> int:
    steps, read_to = folder.progress(read_to)
    for step, loss in steps:
        on_step(step, loss)
    return read_to


def _end(process: subprocess.Popen[bytes]) -> None:
    """torchrun ends its processes when it is told to end; what is left of its group does not stay."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(said: IO[bytes]) -> str:
    """What the processes, and torchrun of them, said last."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES))
    return " ".join(said.read().decode("utf-8", "replace").split()) or "it said nothing"
