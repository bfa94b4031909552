"""A fine-tune as a folder of files, so that another process, or another machine that sees the folder, can do it.

    job.json        what is to be done, and until when
    out/            the version as it comes to be
    progress.jsonl  a line for every step done, of this attempt
    result.json     how it went: figures, or what was wrong
    crash.txt       what a process said that ended by an error that nobody foresaw
    checkpoints/    where it can go on

Every file is written whole or not at all. Paths beside the folder are written as seen from it: the store may be mounted
elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bohdi_common.models.versions import make_durable
from services.training.job import (
    Checkpointing,
    Example,
    FineTuned,
    FineTuning,
    LaunchFailed,
    Masked,
    Preference,
    TrainingDiverged,
    TrainingRegressed,
    TrainingStopped,
)

_HOOKS = ("stop", "on_step")
_FORESEEN = (TrainingDiverged, TrainingRegressed, TrainingStopped, ValueError, OSError)
_HELD_FOR_S = 120.0  # whoever was told to stop does so after the step at hand
_LOOK_S = 0.2
_CRASH_CHARS = 2_000

FineTune = Callable[[FineTuning], FineTuned]


@dataclass(frozen=True)
class JobFolder:
    """One training's files under `path`."""

    path: Path

    @property
    def out(self) -> Path:
        return self.path / "out"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def _job(self) -> Path:
        return self.path / "job.json"

    @property
    def _progress(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def _result(self) -> Path:
        return self.path / "result.json"

    @property
    def _crash(self) -> Path:
        return self.path / "crash.txt"

    def write(self, job: FineTuning, timeout_s: float = 0.0) -> None:
        """What is to be done, within `timeout_s` from when it begins (0: without a bound)."""
        self.path.mkdir(parents=True, exist_ok=True)
        beside = lambda path: _seen_from(self.path, path)  # noqa: E731
        told: dict[str, Any] = {f.name: getattr(job, f.name) for f in fields(job) if f.name not in _HOOKS}
        told |= {name: beside(told[name]) for name in ("base", "root", "out")}
        told["average_with"] = [beside(path) for path in job.average_with]
        told["order"] = list(job.order)
        told |= {name: [asdict(item) for item in told[name]] for name in ("examples", "preferences", "held_back")}
        if job.checkpoints:
            told["checkpoints"] = asdict(job.checkpoints) | {"folder": beside(job.checkpoints.folder)}
        _write(self._job, {"timeout_s": timeout_s, "job": told})

    def read(self) -> tuple[FineTuning, float]:
        """The job and its bound in seconds, as they were written."""
        written = json.loads(self._job.read_bytes())
        told: dict[str, Any] = written["job"]
        told |= {name: self._place(told[name]) for name in ("base", "root", "out")}
        told["average_with"] = [self._place(path) for path in told["average_with"]]
        told["preferences"] = [Preference(**item) for item in told["preferences"]]
        told |= {name: [Example(**item) for item in told[name]] for name in ("examples", "held_back")}
        if kept := told["checkpoints"]:
            told["checkpoints"] = Checkpointing(**kept | {"folder": self._place(kept["folder"])})
        return FineTuning(**told), float(written["timeout_s"])

    def _place(self, seen: str) -> Path:
        return Path(os.path.normpath(self.path / seen))

    def progress(self, from_byte: int) -> tuple[list[tuple[int, float]], int]:
        """The steps and losses that stand in whole lines from `from_byte` on, and where the next line will begin."""
        with suppress(FileNotFoundError), self._progress.open("rb") as file:
            if file.seek(0, os.SEEK_END) < from_byte:  # another attempt has begun
                from_byte = 0
            file.seek(from_byte)
            whole, _, _ = file.read().rpartition(b"\n")
            if whole:
                return [tuple(json.loads(line)) for line in whole.split(b"\n")], from_byte + len(whole) + 1
        return [], from_byte

    def is_there(self) -> bool:
        """Whether it is known how it went."""
        return self._result.exists()

    def is_done(self) -> bool:
        """Whether a result stands that another attempt would not mend."""
        with suppress(FileNotFoundError):
            return json.loads(self._result.read_bytes()).get("failed", {}).get("kind") not in _MENDABLE
        return False

    def result(self) -> FineTuned:
        """How it went. Raises what the training raised, and LaunchFailed when nobody said."""
        try:
            written = json.loads(self._result.read_bytes())
        except FileNotFoundError:
            raise LaunchFailed(self.crash() or "the training ended without a word") from None
        if failed := written.get("failed"):
            raise _KINDS[failed["kind"]](*failed["told"])
        done: dict[str, Any] = written["done"]
        done["masked"] = {author: Masked(**counts) for author, counts in done["masked"].items()}
        return FineTuned(**done)

    def crash(self) -> str:
        """What a process said as it ended by an error that nobody foresaw; its end, or nothing."""
        with suppress(FileNotFoundError):
            return self._crash.read_text(encoding="utf-8", errors="replace")[-_CRASH_CHARS:]
        return ""

    def crashed(self, said: str) -> None:
        self._crash.write_text(said, encoding="utf-8")

    def forget(self) -> None:
        """How an attempt before went. Its checkpoints stay."""
        for file in (self._result, self._crash, self._progress):
            file.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def held(self, stop: Callable[[], bool]) -> Iterator[None]:
        """For one process at a time. Raises TrainingStopped, and OSError when another does not let go."""
        with (self.path / "lock").open("w") as file:
            until_s = time.monotonic() + _HELD_FOR_S
            while not _locked(file.fileno()):
                if stop():
                    raise TrainingStopped("stopped while another process had the training")
                if time.monotonic() > until_s:
                    raise OSError(f"{self.path}: another process has had this training for {_HELD_FOR_S:.0f} s")
                time.sleep(_LOOK_S)
            yield

    def perform(
        self,
        fine_tune: FineTune,
        stop: Callable[[], bool],
        on_step: Callable[[int, float], None],
        *,
        writes: bool = True,
    ) -> None:
        """Does the job here; whatever comes of it stands in the result then. Of several processes that do it together
        one `writes`. A result that stands already is left. Raises TrainingStopped when `stop` says so, and what nobody
        foresaw."""
        job, timeout_s = self.read()
        until_s = time.monotonic() + timeout_s if timeout_s else float("inf")
        told = lambda: stop() or time.monotonic() > until_s  # noqa: E731
        if not writes:
            with suppress(*_FORESEEN):  # the one that writes raises the same
                fine_tune(replace(job, stop=told))
            return
        with self.held(stop):
            if self.is_done():
                return
            self.forget()
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir()
            with self._progress.open("w", buffering=1, encoding="utf-8") as file:

                def note(step: int, loss: float) -> None:
                    file.write(f"{json.dumps([step, loss])}\n")
                    on_step(step, loss)

                self._settled(lambda: fine_tune(replace(job, stop=told, on_step=note)), stop, timeout_s)

    def _settled(self, train: Callable[[], FineTuned], stop: Callable[[], bool], timeout_s: float) -> None:
        try:
            done = train()
            make_durable(self.out)
            _write(self._result, {"done": asdict(done)})
        except TrainingStopped as error:
            if stop():
                raise
            late = LaunchFailed(f"{error}: not done within {timeout_s:.0f} s; raise training.timeout_s")
            _write(self._result, {"failed": _failure(late)})
        except _FORESEEN as error:
            shutil.rmtree(self.out, ignore_errors=True)  # nobody will have it, and it may be what fills the disk
            _write(self._result, {"failed": _failure(error)})


_KINDS: dict[str, Callable[..., Exception]] = {
    kind.__name__: kind for kind in (TrainingDiverged, TrainingRegressed, LaunchFailed, ValueError, OSError)
}
_MENDABLE = ("OSError", "LaunchFailed")  # a full disk, a bound that was too low


def _failure(error: Exception) -> dict[str, Any]:
    """An error by the nearest kind that is known, so that the same can be raised elsewhere."""
    if isinstance(error, TrainingRegressed):
        return {"kind": "TrainingRegressed", "told": [error.samples, error.base, error.new, error.rise]}
    kind = next(name for base in type(error).__mro__ if (name := base.__name__) in _KINDS)
    return {"kind": kind, "told": [str(error)]}


def _seen_from(folder: Path, path: Path) -> str:
    """Relative where both are in one store, which may be mounted elsewhere on another machine."""
    whole = path.absolute()
    return os.path.relpath(whole, folder) if whole.is_relative_to(folder.absolute().parent) else str(whole)


def _write(file: Path, content: Any) -> None:
    """The whole file at once, on the disk."""
    aside = file.with_suffix(".aside")
    with aside.open("w", encoding="utf-8") as written:
        json.dump(content, written)
        written.flush()
        os.fsync(written.fileno())
    aside.replace(file)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
