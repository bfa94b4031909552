"""A real vLLM on this CPU, in an environment and processes of its own: started, waited for, killed, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_READY_S = 600.0  # two minutes where the cores are not shared
_POLL_S = 1.0
_ENDS_S = 60.0
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the cores are shared: whoever is bound to one waits for it
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_SERVER_DEV_MODE": "1",
}
_ARGUMENTS = {
    # Small models fill the room that they have with line breaks where JSON allows them.
    "structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
    "dtype": "float32",
    "max-model-len": "2048",
    "max-num-seqs": "16",
    "gpu-memory-utilization": "0.3",  # of the machine's memory, on a CPU
}
_SWITCHES = ("--enforce-eager", "--enable-prefix-caching", "--enable-log-requests")
LORA = ("--enable-lora", "--max-lora-rank=16", "--max-loras=2")
_ADAPTER = re.compile(r"Received request chatcmpl.*lora_request: (?:None|LoRARequest\(lora_name='([^']*)')")


@dataclass
class VllmServer:
    """Serves the model in `folder` as `name` on 127.0.0.1:`port` by the interpreter `python` of vLLM's environment.
    What it says goes into `logs`, a file for each start."""

    python: Path
    folder: Path
    name: str
    port: int
    logs: Path
    arguments: tuple[str, ...] = ()
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """Of the last start."""
        return self.logs / f"vllm-{self.starts}.log"

    def start(self) -> None:
        """Starts it in a process group of its own; `wait` says when it answers."""
        self.starts += 1
        command = ["nice", "-n", "1", str(self.python), "-m", "vllm.entrypoints.openai.api_server"]
        command += [
            "--model",
            str(self.folder),
            "--served-model-name",
            self.name,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in _ARGUMENTS.items()), *_SWITCHES, *self.arguments],
                env=os.environ | _ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> float:
        """Until it answers; how many seconds that took. Raises RuntimeError when it ended or takes too long."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < _READY_S:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"vLLM ended: see {self.log}")
            if self._answers():
                return time.monotonic() - started_s
            time.sleep(_POLL_S)
        raise RuntimeError(f"vLLM did not answer in {_READY_S:.0f} s: see {self.log}")

    def kill(self) -> None:
        """As when the machine is lost: SIGKILL to all of its processes at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it, if it is there."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGTERM)

    def adapters_asked(self, start: int) -> Counter[str]:
        """How many chat completions each adapter was asked for since that start, by the server's own log; the model
        itself is ""."""
        with (self.logs / f"vllm-{start}.log").open(encoding="utf-8", errors="replace") as lines:
            return Counter(found[1] or "" for found in map(_ADAPTER.search, lines) if found)

    def loads(self, start: int) -> int:
        """How many adapters were loaded since that start, by the server's own log."""
        text = (self.logs / f"vllm-{start}.log").read_text(encoding="utf-8", errors="replace")
        return text.count('"POST /v1/load_lora_adapter HTTP/1.1" 200')

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, how)
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_ENDS_S)
