"""Where a training runs: in this process, in others on this machine, or on a cluster. The job is the same folder."""

from __future__ import annotations

from collections.abc import Callable

from bohdi_common.events import events_pb2 as pb
from services.training import torchrun
from services.training.job import FineTuned, LaunchFailed
from services.training.job_files import FineTune, JobFolder


def processes_of(settings: pb.TrainingSettings) -> int:
    """How many processes train together, on all nodes."""
    return max(1, settings.processes) * max(1, settings.nodes)


def launcher_of(settings: pb.TrainingSettings) -> int:
    """The launcher; a run of an earlier version named none."""
    return settings.launcher or pb.LAUNCHER_INPROCESS


def run(
    folder: JobFolder,
    settings: pb.TrainingSettings,
    fine_tune: FineTune,
    stop: Callable[[], bool],
    on_step: Callable[[int, float], None],
) -> FineTuned:
    """Has the job in `folder` done as the settings say, unless its result stands there; `fine_tune` does it in this
    process. Raises what the training raised, TrainingStopped, LaunchFailed, and ModelUnavailable: a cluster is away."""
    if not folder.is_done():
        match launcher_of(settings):
            case pb.LAUNCHER_INPROCESS:
                folder.perform(fine_tune, stop, on_step)
            case pb.LAUNCHER_TORCHRUN:
                torchrun.run(folder, max(1, settings.processes), settings.timeout_s, stop, on_step)
            case pb.LAUNCHER_TRAINJOB:
                try:
                    from services.training import trainjob
                except ModuleNotFoundError as error:
                    raise LaunchFailed(f"launcher trainjob: {error}: install bohdi with its extra kubernetes") from None
                trainjob.run(folder, settings, stop, on_step)
            case other:
                raise LaunchFailed(f"training.launcher: {other} is none that this version has: upgrade the service")
    return folder.result()
