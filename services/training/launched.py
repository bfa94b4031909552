"""One process of a training that torchrun started: `python -m torch.distributed.run ... -m services.training.launched
FOLDER`, on every machine that takes part. The folder is a job's; the first process writes the result into it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path

import psutil

from bohdi_common.models.adapters import prepare_torch
from services.training.job_files import JobFolder
from services.training.torchrun import LAUNCHER

_LOOK_S = 0.5
_WAIT_S = 3600.0  # for each other: the first may be saving a large model


def main(folder: JobFolder) -> None:
    """Takes part in the job."""
    _end_with(os.getppid(), int(os.environ.get(LAUNCHER, "0")))
    prepare_torch()
    import torch
    from accelerate import PartialState

    from services.training import ranks

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    together = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=_WAIT_S))
    try:
        if not ranks.anybody(ranks.own() == 0 and folder.is_done()):
            from services.training.finetune import fine_tune

            folder.perform(fine_tune, lambda: False, lambda step, loss: None, writes=ranks.own() == 0)
    except Exception:
        folder.crashed(traceback.format_exc())
        raise
    together.destroy_process_group()


def _end_with(agent: int, launcher: int) -> None:
    """Ends this process, and torchrun with it, once torchrun or who started it is gone: a kill of theirs leaves nobody
    behind to train beside the next attempt."""

    def watch() -> None:
        while os.getppid() == agent and (not launcher or _parent_of(agent) == launcher):
            time.sleep(_LOOK_S)
        if os.getppid() == agent:
            os.kill(agent, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _parent_of(process: int) -> int:
    try:
        return psutil.Process(process).ppid()
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main(JobFolder(Path(sys.argv[1])))
