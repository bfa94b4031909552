"""One folder is the whole run: its log, its configuration, its versions of the target, its inbox."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bohdi import harness
from bohdi_common.log.port import LogReader
from bohdi_common.log.sqlite_file import SqliteReader, open_readonly
from bohdi_common.models.places import SHIPPED, place
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import BadConfig, Config
from bohdi_common.runtime.feedback import feedback_events
from services.generation.gates import BadBenchmark, read_questions

_HEADER_BYTES_MAX = 100_000_000  # as the format has it


class NoRun(Exception):
    """The folder holds no run that this program can read. The message is one line."""


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run stand."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "log.sqlite"

    @property
    def versions(self) -> Path:
        return self.path / "versions"

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def config(self) -> Path:
        return self.path / "run.yaml"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def create(self, config: Config) -> None:
        """Makes the folder, with the configuration in it. Raises BadConfig when something stands there already."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise BadConfig(
                f"{self.path}: exists already: resume it with `bohdi resume {self.path}`, or name a new folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        self.config.write_text(text, encoding="utf-8")

    def load_config(self) -> Config:
        """The configuration that the run was started with. Raises NoRun."""
        try:
            return configs.load(self.config)
        except BadConfig as error:
            raise NoRun(f"{self.path}: no run to go on with: {error}") from None

    def read(self) -> SqliteReader:
        """The log, for reading; a host may be at work on it. Raises LogError."""
        return open_readonly(self.log)

    def run_id(self, reader: LogReader) -> str:
        """The run in this folder. Raises NoRun."""
        for _, event in feedback_events(reader):
            if event.WhichOneof("body") == "run_started":
                return event.run_id
        raise NoRun(f"{self.path}: the log holds no RunStarted: remove the folder and start the run again")


def resolved(config: Config, beside: Path) -> Config:
    """The configuration with every path made absolute (seen from the folder `beside`), all of them checked. Raises
    BadConfig with a line for each that is missing or no model."""
    complaints: list[str] = []

    def model(entry: configs.Model, where: str) -> configs.Model:
        if not entry.path:
            return entry
        path = place(entry.path, beside)
        if why := why_no_model(path):
            complaints.append(f"{where}.path: {why}: {entry.path!r}")
        return entry.model_copy(update={"path": entry.path if entry.path.startswith(SHIPPED) else str(path)})

    def benchmark(name: str, where: str) -> str:
        try:
            read_questions(place(name, beside))
        except BadBenchmark as error:
            complaints.append(f"{where}: {error}")
        return name if name.startswith(SHIPPED) else str(place(name, beside))

    evaluation = config.evaluation
    if evaluation is not None:
        of_tasks = _tasks_of(evaluation, beside, complaints)
        named = evaluation.benchmark and benchmark(evaluation.benchmark, "evaluation.benchmark")
        evaluation = evaluation.model_copy(update={"benchmark": named, "tasks_folder": of_tasks})
    files = [benchmark(name, f"harvest.benchmarks[{i}]") for i, name in enumerate(config.harvest.benchmarks)]
    judges = tuple(model(judge, f"judging.judges[{i}]") for i, judge in enumerate(config.judging.judges))
    whole = config.model_copy(
        update={
            "sources": tuple(model(source, f"sources[{i}]") for i, source in enumerate(config.sources)),
            "target": model(config.target, "target"),
            "harvest": config.harvest.model_copy(update={"benchmarks": tuple(files)}),
            "judging": config.judging.model_copy(update={"judges": judges}),
            "evaluation": evaluation,
        }
    )
    if complaints:
        raise BadConfig("\n".join(complaints))
    return whole


def _tasks_of(evaluation: configs.Evaluation, beside: Path, complaints: list[str]) -> str:
    """The folder of tasks, absolute; and what is wrong with asking for tasks at all."""
    if evaluation.tasks and (why := harness.why_absent()):
        complaints.append(f"evaluation.tasks: {why}")
    if not evaluation.tasks_folder:
        return ""
    folder = (beside / evaluation.tasks_folder).resolve()
    if not folder.is_dir():
        complaints.append(f"evaluation.tasks_folder: no such folder: correct the path: {evaluation.tasks_folder!r}")
    return str(folder)


def why_no_model(folder: Path) -> str:
    """Why transformers cannot load a model from `folder`; empty when all that it needs is there, and whole."""
    if not folder.is_dir():
        return "no such model folder: correct the path"
    if not (folder / "config.json").is_file():
        return "not a model folder (it has no config.json): point it at a folder in the Hugging Face format"
    if not any(folder.glob("*.safetensors")):
        return "not a model folder (it has no *.safetensors): point it at a folder in the Hugging Face format"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return "a model folder without a tokenizer: save the tokenizer into it"
    if "model_type" not in _json_object(folder / "config.json"):
        return "not a model folder (config.json names no model_type): point it at a folder in the Hugging Face format"
    shards = {file for index in folder.glob("*.safetensors.index.json") for file in _shards(index)}
    for weights in sorted({*shards, *folder.glob("*.safetensors")}):
        if not _is_whole(weights):
            return f"{weights.name} is missing, cut off or damaged: copy or download it again"
    return ""


def _json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when it holds none."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _shards(index: Path) -> set[Path]:
    weight_map = _json_object(index).get("weight_map")
    return {index.parent / str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else set()


def _is_whole(weights: Path) -> bool:
    """Whether a safetensors file ends where its header says: 8 bytes with the length of the header, the header as JSON,
    then the tensors at the offsets that it names."""
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _HEADER_BYTES_MAX)))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return weights.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False


def digest_of(path: Path) -> str:
    """SHA-256 over names and contents of a file or of all files in a folder, so that weights which changed are seen."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            whole.update(file.relative_to(path.parent).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()
