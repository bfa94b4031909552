"""The garbage collector's work, kept small while a host is at work."""

from __future__ import annotations

import atexit
import gc


def keep_what_is_there() -> None:
    """What a process has made before its work begins (libraries, a run's past) stays till its end: no later collection
    looks through it again. A full one stopped everything for 50 ms in the embedded run, more with torch."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else nothing of it is taken apart, and libraries report their own objects as leaks
