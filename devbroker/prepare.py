"""`python -m devbroker.prepare`: what every new broker would do again, done once and kept beside Kafka's jars: its data
folder's format, and an archive of the classes that it loads, which a JVM maps at once."""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from devbroker.broker import CLASSES, FORMATTED, LIBS, Broker, BrokerFailed

_KEPT = LIBS.parent


def main() -> None:
    with (_KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not CLASSES.exists() or CLASSES.stat().st_mtime < (_KEPT / "ready").stat().st_mtime:
            try:
                prepare()
            except BrokerFailed as error:
                sys.exit(f"bohdi: {error}")


def prepare() -> None:
    """Raises BrokerFailed. The archive is put in place once it is whole: a JVM dies of half of one."""
    shutil.rmtree(FORMATTED, ignore_errors=True)
    with TemporaryDirectory(dir=_KEPT) as name:
        folder = Path(name)
        archive = folder / CLASSES.name
        broker = Broker(folder / "broker", options=(f"-XX:ArchiveClassesAtExit={archive}",))
        broker.prepared()
        shutil.copytree(broker.folder / "data", folder / "formatted")
        with broker:
            pass  # it has answered, and ends in order
        (folder / "formatted").rename(FORMATTED)
        archive.replace(CLASSES)


if __name__ == "__main__":
    main()
