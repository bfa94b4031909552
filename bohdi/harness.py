"""Benchmarks of lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness), in a process of their own.

A command rather than a library: it brings its own torch settings, and a task that fails takes no run with it. A model
in a folder is loaded by its `hf` model, one behind a server asked by its `local-chat-completions`; both through the
chat template, as the sources ask it too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import yaml

from bohdi_common.events.events_pb2 import Score
from bohdi_common.models.port import Endpoint

_LONGEST_S = 6 * 3600.0
_SCORES_MAX = 2_000  # in one event
_SAID_CHARS = 300
_SAID_BYTES = 8_192
_BATCH = 16


class HarnessFailed(ValueError):
    """The harness gave no scores. The message is one line and says why."""


@dataclass(frozen=True)
class Tasks:
    """What is to be scored: names of tasks or groups, a folder with YAML files of further ones, and how many questions
    of each at most (0: all)."""

    names: tuple[str, ...]
    folder: Path | None = None
    limit: int = 0

    @property
    def benchmark(self) -> str:
        """As what it stands in the log."""
        return ",".join(self.names)


@dataclass(frozen=True)
class Served:
    """A model behind a server, under the name that it has there."""

    endpoint: Endpoint
    name: str
    system: str = ""


@dataclass(frozen=True)
class Adapted:
    """A model in a folder with an adapter in another."""

    folder: Path
    base: Path


Place = Path | Adapted | Served


@dataclass(frozen=True)
class Results:
    """Scores of every task and group, each metric of them, and what scored them."""

    harness: str
    tasks_digest: str
    scores: tuple[Score, ...]


def why_absent() -> str:
    """Why the harness cannot be used; empty when it can."""
    return "" if util.find_spec("lm_eval") else "lm-evaluation-harness is not installed: pip install 'bohdi[eval]'"


async def scored(model: Place, tasks: Tasks, longest_s: float = _LONGEST_S) -> Results:
    """What the harness makes of a model in a folder, or behind a server. Ends with the caller: cancelled, it takes its
    process with it. Raises HarnessFailed."""
    if why := why_absent():
        raise HarnessFailed(why)
    environment, key = _environment(model)
    with tempfile.TemporaryDirectory(prefix="bohdi-eval-") as aside:
        config = Path(aside) / "harness.yaml"
        config.write_text(yaml.safe_dump(_config(model, tasks, Path(aside) / "results")), encoding="utf-8")
        said = await _run([sys.executable, "-m", "lm_eval", "run", "--config", str(config)], environment, longest_s)
        files = sorted((Path(aside) / "results").rglob("results_*.json"))
        if not files:
            raise HarnessFailed(f"lm_eval on {tasks.benchmark}: {_last_line(said, key)}")
        return results(json.loads(files[-1].read_text(encoding="utf-8")))


def _config(model: Place, tasks: Tasks, out: Path) -> dict[str, Any]:
    """The harness's settings. As a file, for what stands on a command line is split at commas and equal signs."""
    config: dict[str, Any] = {
        "tasks": list(tasks.names),
        "apply_chat_template": True,
        "output_path": str(out),
        "limit": tasks.limit or None,
        "include_path": str(tasks.folder.resolve()) if tasks.folder else None,
    }
    if isinstance(model, Path):
        arguments = {"pretrained": str(model.resolve()), "dtype": "auto"}
        return config | {"model": "hf", "model_args": arguments, "batch_size": _BATCH}
    if isinstance(model, Adapted):
        arguments = {"pretrained": str(model.base.resolve()), "peft": str(model.folder.resolve()), "dtype": "auto"}
        return config | {"model": "hf", "model_args": arguments, "batch_size": _BATCH}
    endpoint = model.endpoint
    arguments_of_served = {
        "model": model.name,
        "base_url": f"{endpoint.urls[0].rstrip('/')}/chat/completions",
        "num_concurrent": endpoint.concurrency,
        "timeout": math.ceil(endpoint.timeout_s),
    }
    system = model.system or None
    return config | {"model": "local-chat-completions", "model_args": arguments_of_served, "system_instruction": system}


def _environment(model: Place) -> tuple[dict[str, str], str]:
    """The process's variables, and the key among them, which must be in nothing that is said."""
    own = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ
    own |= {"OPENAI_API_KEY": "none", "LMEVAL_LOG_LEVEL": "WARNING"}
    if not isinstance(model, Served) or not model.endpoint.key_env:
        return own, ""
    key = os.environ.get(model.endpoint.key_env, "")
    if not key:
        raise HarnessFailed(f"${model.endpoint.key_env} is not set: put the key of {model.endpoint.urls[0]} there")
    return own | {"OPENAI_API_KEY": key}, key


async def _run(command: Sequence[str], environment: Mapping[str, str], longest_s: float) -> str:
    """The end of what the process said, once it has ended, however it ended."""
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(longest_s):
                await process.wait()
        except TimeoutError:
            raise HarnessFailed(
                f"lm_eval was not done within {longest_s:.0f} s: set a limit on the questions"
            ) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with those that it may have started
            await process.wait()
        said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES))
        return said.read().decode("utf-8", "replace")


def _last_line(said: str, key: str) -> str:
    """Why it failed: Python's last line, without the key."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it ended without a word"
    return (last.replace(key, "(the key)") if key else last)[:_SAID_CHARS]


def results(written: Mapping[str, Any]) -> Results:
    """What stands in the harness's results file. Raises HarnessFailed for one that holds no score."""
    scores = [score for name, of in written.get("results", {}).items() for score in _scores(name, of, written)]
    if not scores:
        raise HarnessFailed("lm_eval wrote results without a score: use tasks that have a metric")
    if len(scores) > _SCORES_MAX:
        raise HarnessFailed(f"lm_eval gave {len(scores)} scores, an event holds {_SCORES_MAX}: ask for fewer tasks")
    # Without where the model stands, which the harness notes among them: the digest is the tasks' alone.
    configs = {name: {k: v for k, v in of.items() if k != "metadata"} for name, of in written["configs"].items()}
    said = json.dumps([configs, written.get("versions", {})], sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
    return Results(f"lm_eval {metadata.version('lm_eval')}", digest, tuple(scores))


def _scores(task: str, of: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[Score]:
    """Every metric of a task; its standard error stands beside it under `METRIC_stderr,FILTER`."""
    questions = written.get("n-samples", {}).get(task, {}).get("effective", 0)
    for key, value in of.items():
        metric, comma, filtered = key.partition(",")
        if comma and not metric.endswith("_stderr") and _is_number(value):
            error = of.get(f"{metric}_stderr,{filtered}")
            yield Score(
                domain=task, metric=key, value=value, stderr=error if _is_number(error) else 0.0, questions=questions
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
