"""Bohdi's front door: the command line, the embedded run, replay and analysis, the micro-world."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("bohdi")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+checkout"
