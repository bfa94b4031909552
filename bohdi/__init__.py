"""Bohdi's front door: the command line, the embedded run, replay and analysis, the micro-world. `open_run` is the
library's."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bohdi.analysis.opened import open_run

__all__ = ["open_run"]

try:
    __version__ = version("bohdi")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+checkout"


def __getattr__(name: str) -> Any:
    """`open_run` is imported when it is asked for: every command imports this module."""
    if name != "open_run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bohdi.analysis.opened import open_run

    return open_run
