"""Processes that begin with everything imported: forked from one that has done nothing else.

Each is a process of its own, with its own pid, environment, output and end, as `subprocess` would have started it; only
the seconds that torch and transformers take to import are spent once. What is particular to a start from nothing (the
hash seed, a library that is not there, the installed command) is tested with `subprocess`.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

TIMEOUT_S = 120
_IMPORTED = (
    "bohdi.cli", "bohdi.embedded", "bohdi.kafka_runs", "bohdi.verify_run",
    "bohdi_common.models.http", "bohdi_common.models.local", "services.training.finetune", "services.training.trainer",
)  # fmt: skip

_context = get_context("forkserver")
_context.set_forkserver_preload(list(_IMPORTED))


class Forked:
    """A module at work as `__main__` in a process of its own; of subprocess.Popen, what the tests need."""

    def __init__(self, module: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: beside that of this process, of which no variable of Bohdi's own is taken over."""
        self.args = [module, *map(str, arguments)]
        told = {name: value for name, value in os.environ.items() if not name.startswith("BOHDI")}
        told |= environment or {}
        self._output = tempfile.TemporaryDirectory(prefix="bohdi-forked-")
        files = [str(Path(self._output.name) / name) for name in ("out", "err")]
        # A daemon's end is not waited for by a test session that is over: it is told to end.
        self._process = _context.Process(target=_begin, args=(self.args, told, str(Path.cwd()), files), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of a subprocess: minus the signal that ended it."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = TIMEOUT_S) -> tuple[str, str]:
        """Its standard output and standard error, once it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutExpired(self.args, timeout, *self._written())
        return self._written()

    def completed(self, timeout: float = TIMEOUT_S) -> CompletedProcess[str]:
        """The same, as subprocess.run gives it."""
        out, err = self.communicate(timeout)
        assert self.returncode is not None
        return CompletedProcess(self.args, self.returncode, out, err)

    def _written(self) -> tuple[str, str]:
        out, err = (Path(self._output.name, name).read_text() for name in ("out", "err"))
        return out, err


def bohdi(*arguments: str | Path, timeout: float = TIMEOUT_S, **environment: str) -> CompletedProcess[str]:
    """A command, once it has ended."""
    return Forked("bohdi", *arguments, environment=environment).completed(timeout)


def _begin(command: list[str], environment: dict[str, str], folder: str, output: list[str]) -> None:
    """In the new process: what tells it apart from the one that it was forked from, then the module."""
    for descriptor, file in enumerate(output, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
