"""A folder that comes to be whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bohdi_common.models.versions import make_durable
from bohdi_common.runtime.config import BadConfig


@contextmanager
def fresh(to: Path) -> Iterator[Path]:
    """An empty folder beside `to`, which takes its name when all went well. Raises BadConfig where one stands."""
    if to.exists():
        raise BadConfig(f"{to}: exists already: name another folder with --to")
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        yield aside
        make_durable(aside)
        aside.rename(to)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
