"""Versions of the target model: folders that are written aside, renamed into place and never changed again.

`manifest.json` in a version's folder holds the SHA-256 of every other file and what is known of its making; the
SHA-256 of the manifest stands for the whole version. A folder under its final name is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_ASIDE = ".aside-"
_JOB = ".job-"
_REQUEST_DIGITS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class VersionExists(Exception):
    """Another content stands under this version's name already."""


class VersionStore:
    """The versions under `folder`, which is made when it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, version: str) -> Path:
        """Where `version` stands, or would. Raises ValueError for a name that cannot be a folder's."""
        if not _NAME.fullmatch(version):
            raise ValueError(f"not a version's name: {version!r} (letters, digits, '.', '_', '-', 128 at most)")
        return self._folder / version

    def aside(self, version: str) -> Path:
        """A fresh empty folder on the same file system, to write `version` in. `sweep` removes it if nobody does."""
        return Path(tempfile.mkdtemp(prefix=f"{_ASIDE}{self.path(version).name}-", dir=self._folder))

    def job(self, version: str, request: str) -> Path:
        """Where the making of `version` for `request` stands, or would, until it is published. No `sweep` removes it,
        for a training goes on there after a crash, but `sweep_jobs` once the run is over."""
        return self._folder / f"{_JOB}{self.path(version).name}-{self.path(request).name[:_REQUEST_DIGITS]}"

    def publish(self, version: str, written: Path, about: Mapping[str, Any]) -> str:
        """Makes the folder `written` (from `aside`, or in its `job`) the version; returns the SHA-256 of its manifest.

        The same content published again is a no-op with the same result. Raises VersionExists, with nothing changed,
        when other content has the name, and ValueError for what cannot be a version: no files, or a link."""
        manifest = _manifest(written, about)
        (written / MANIFEST).write_bytes(manifest)
        make_durable(written)
        try:
            self._rename(written, self.path(version))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._settle(version, written, manifest)
        _sync(self._folder)
        return hashlib.sha256(manifest).hexdigest()

    def check(self, version: str) -> list[str]:
        """What is wrong with the files of `version`, one line each; an empty list when all are as they were written."""
        folder = self.path(version)
        if not folder.is_dir():
            return [f"{version}: absent"]
        try:
            known: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())["files"]
        except FileNotFoundError:
            return [f"{version}/{MANIFEST}: absent"]
        except (ValueError, KeyError, TypeError):
            return [f"{version}/{MANIFEST}: cannot be read"]
        found = {name: path for name, path in _files(folder).items() if name != MANIFEST}
        absent = [f"{version}/{name}: absent" for name in known if name not in found]
        differing = [
            f"{version}/{name}: differs from what was written"
            for name in known
            if name in found and _digest(found[name]) != known[name]
        ]
        unknown = [f"{version}/{name}: not in the manifest" for name in found if name not in known]
        return sorted(absent + differing + unknown)

    def sweep(self) -> list[Path]:
        """Removes what killed writers left aside; returns what it removed. Call it while nobody writes."""
        return self._swept(_ASIDE)

    def sweep_jobs(self) -> list[Path]:
        """Removes the makings of versions; returns what it removed. For a run that is over: nobody goes on there."""
        return self._swept(_JOB)

    def _swept(self, prefix: str) -> list[Path]:
        leftovers = sorted(self._folder.glob(f"{prefix}*"))
        for folder in leftovers:
            shutil.rmtree(folder)
        return leftovers

    def _rename(self, written: Path, final: Path) -> None:
        """The moment in which a version comes to be. Fails when `final` has files: the system never replaces those."""
        written.rename(final)

    def _settle(self, version: str, written: Path, manifest: bytes) -> None:
        """The name is taken: fine when by the same content, of which `written` is then a copy too many, unless that
        content was damaged since."""
        standing = self.path(version) / MANIFEST
        if not standing.is_file() or standing.read_bytes() != manifest:
            raise VersionExists(f"{self.path(version)}: other content has this name; a version is never overwritten")
        if self.check(version):  # its files are not what they were: the copy is
            shutil.rmtree(self.path(version))
            self._rename(written, self.path(version))
        else:
            shutil.rmtree(written)


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds LoRA's matrices alone, as PEFT and vLLM have them."""
    return (folder / "adapter_config.json").is_file()


def _manifest(folder: Path, about: Mapping[str, Any]) -> bytes:
    """The manifest's bytes: the same for the same content, wherever and whenever it is made."""
    digests = {name: _digest(path) for name, path in _files(folder).items() if name != MANIFEST}
    if not digests:
        raise ValueError(f"{folder}: no files; a version needs some")
    text = json.dumps({"about": dict(about), "files": digests}, sort_keys=True, indent=2, ensure_ascii=False)
    return text.encode() + b"\n"


def _files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its relative name with forward slashes, sorted. Raises ValueError for a link."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink():
            raise ValueError(f"{path}: a link; a version holds its own files")
    return {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_durable(folder: Path) -> None:
    """Every file readable by all (safetensors writes 0600, another pod may be another user) and on the disk."""
    for path in _files(folder).values():
        path.chmod(0o644)
        _sync(path)
    for below in [*folder.rglob("*"), folder]:
        if below.is_dir():
            below.chmod(0o755)
            _sync(below)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
