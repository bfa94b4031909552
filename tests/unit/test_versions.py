"""A version of the target is whole or absent, and never changes."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bohdi_common.models.versions import MANIFEST, VersionExists, VersionStore

ABOUT = {"base": "v0", "steps": 3}


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions")


def written(store: VersionStore, version: str, weights: bytes = b"weights") -> Path:
    folder = store.aside(version)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "model.safetensors").chmod(0o600)
    (folder / "deeper").mkdir()
    (folder / "deeper" / "words.txt").write_text("words")
    return folder


def publish(store: VersionStore, version: str = "v1", weights: bytes = b"weights") -> str:
    return store.publish(version, written(store, version, weights), ABOUT)


def test_a_published_version_has_its_files_and_nothing_is_left_aside(store: VersionStore) -> None:
    publish(store)
    assert (store.path("v1") / "model.safetensors").read_bytes() == b"weights"
    assert store.check("v1") == []
    assert [p.name for p in store.path("v1").parent.iterdir()] == ["v1"]


def test_the_manifest_names_every_file_by_its_digest_and_the_result_is_its_own(store: VersionStore) -> None:
    digest = publish(store)
    manifest = (store.path("v1") / MANIFEST).read_bytes()
    assert digest == hashlib.sha256(manifest).hexdigest()
    content = json.loads(manifest)
    assert content["about"] == ABOUT
    assert list(content["files"]) == ["config.json", "deeper/words.txt", "model.safetensors"]
    assert content["files"]["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()


def test_the_same_content_has_the_same_digest_in_any_store(store: VersionStore, tmp_path: Path) -> None:
    assert publish(store) == publish(VersionStore(tmp_path / "elsewhere"))
    assert publish(store, "v2", b"other") != publish(store, "v3")


def test_everybody_may_read_a_version(store: VersionStore) -> None:
    publish(store)
    for path in store.path("v1").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert stat.S_IMODE(store.path("v1").stat().st_mode) == 0o755


def test_publishing_the_same_again_is_a_no_op_with_the_same_digest(store: VersionStore) -> None:
    first = publish(store)
    before = (store.path("v1") / MANIFEST).stat().st_ino
    assert publish(store) == first
    assert (store.path("v1") / MANIFEST).stat().st_ino == before
    assert store.sweep() == []


def test_publishing_the_same_again_mends_a_version_that_was_damaged(store: VersionStore) -> None:
    first = publish(store)
    (store.path("v1") / "model.safetensors").write_bytes(b"damaged")
    (store.path("v1") / "deeper" / "words.txt").unlink()
    assert publish(store) == first
    assert store.check("v1") == store.sweep() == []


def test_the_making_of_a_version_outlasts_a_sweep_and_ends_with_its_run(store: VersionStore) -> None:
    publish(store)
    job = store.job("v2", "0123")
    job.mkdir()
    assert store.sweep() == [] and job.is_dir()
    assert store.sweep_jobs() == [job] and not job.exists()
    assert store.check("v1") == []


def test_other_content_never_replaces_a_version(store: VersionStore) -> None:
    publish(store)
    with pytest.raises(VersionExists, match="v1: other content"):
        publish(store, weights=b"better weights")
    assert (store.path("v1") / "model.safetensors").read_bytes() == b"weights"
    assert store.check("v1") == []


def test_a_half_written_folder_under_the_name_is_not_taken_for_the_version(store: VersionStore) -> None:
    store.path("v1").mkdir()
    (store.path("v1") / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(VersionExists):
        publish(store)


def test_check_tells_absent_from_differing(store: VersionStore) -> None:
    assert store.check("v1") == ["v1: absent"]
    publish(store)
    (store.path("v1") / "config.json").write_text("{ }")
    (store.path("v1") / "deeper" / "words.txt").unlink()
    (store.path("v1") / "stray").write_text("")
    assert store.check("v1") == [
        "v1/config.json: differs from what was written",
        "v1/deeper/words.txt: absent",
        "v1/stray: not in the manifest",
    ]
    (store.path("v1") / MANIFEST).write_text("{")
    assert store.check("v1") == ["v1/manifest.json: cannot be read"]
    (store.path("v1") / MANIFEST).unlink()
    assert store.check("v1") == ["v1/manifest.json: absent"]


@pytest.mark.parametrize("name", ["", "../v1", "a/b", ".aside-v1", "v 1", "v1\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(store: VersionStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a version's name"):
        store.path(name)


def test_nothing_and_links_are_no_version(store: VersionStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no files"):
        store.publish("v1", store.aside("v1"), ABOUT)
    folder = written(store, "v1")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="a link"):
        store.publish("v1", folder, ABOUT)
    assert store.check("v1") == ["v1: absent"]


KILLED = """
import os, signal, sys
from pathlib import Path
from bohdi_common.models.versions import VersionStore

class Killed(VersionStore):
    def _rename(self, written, final):
        os.kill(os.getpid(), signal.SIGKILL)

store = Killed(Path(sys.argv[1]))
folder = store.aside("v1")
(folder / "model.safetensors").write_bytes(b"weights")
store.publish("v1", folder, {})
"""


def test_a_writer_killed_before_the_rename_leaves_no_version_and_its_rest_is_swept(store: VersionStore) -> None:
    root = store.path("v1").parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(root)], env=environment, check=False)
    assert done.returncode == -9
    assert store.check("v1") == ["v1: absent"]
    assert [p.name.startswith(".aside-v1-") for p in store.sweep()] == [True]
    assert list(root.iterdir()) == []
    publish(store)
    assert store.check("v1") == []


def test_files_are_on_the_disk_before_the_name_is(store: VersionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, Path.rename

    def syncing(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def renaming(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "rename", renaming)
    publish(store)
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") + 1 :]
    assert {"config.json", "words.txt", "model.safetensors", MANIFEST, "deeper"} <= set(before)
    assert after == ["versions"]
