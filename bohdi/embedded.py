"""The embedded run: the one place where the parts of a run in this process are chosen and put together."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bohdi import __version__
from bohdi.evaluation import Evaluation
from bohdi.harness import Tasks
from bohdi.run_folder import RunFolder, digest_of
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, RunStarted
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import EventLog
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.models import prompts
from bohdi_common.models.adapters import models, prepare_torch
from bohdi_common.models.metering import Metered
from bohdi_common.models.places import FolderOf, model_folder, place
from bohdi_common.models.port import ChatModels, Message, ModelRef
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime import metrics
from bohdi_common.runtime.config import BadConfig, Config, Model
from bohdi_common.runtime.heap import keep_what_is_there
from bohdi_common.runtime.local_host import LocalHost
from bohdi_common.runtime.metric_collectors import gathered, of_local_host, of_runs
from bohdi_common.runtime.shell import Service, record_of, wall_clock_us
from services.bandit.handler import Bandit
from services.generation import handler as generation
from services.generation.handler import Generation
from services.generation.near_duplicates import EarlierQuestions
from services.judging import handler as judging
from services.judging.handler import Judging
from services.training import handler as training
from services.training.handler import Training
from services.training.job_files import FineTune
from services.training.samples import Samples
from services.tree_expansion import handler as tree_expansion
from services.tree_expansion.handler import TreeExpansion

CAPACITY = {
    "tree_expansion": tree_expansion.CAPACITY,
    "generation": generation.CAPACITY,
    "judging": judging.CAPACITY,
    "training": training.CAPACITY,
}


@dataclass
class Parts:
    """What may be put in the place of the real parts, by tests alone: models, trainer, version store, bandit."""

    models: Callable[[Callable[[ModelRef], Path]], ChatModels]
    fine_tune: FineTune
    # Raises ValueError for a model that it cannot load, or that cannot be asked so much as this.
    check_model: Callable[[Path, Iterable[list[Message]]], None] = field(default=lambda folder, asked: None)
    versions: Callable[[Path], VersionStore] = VersionStore
    bandit: Callable[[str], Bandit] = Bandit
    around: Callable[[Service], Service] = field(default=lambda service: service)
    log: Callable[[Path, bool], SqliteLog] = field(default=lambda path, create: SqliteLog.open(path, create=create))


class Watcher:
    """Is told of what happens while a run is hosted; this one looks away."""

    def on_host(self, host: LocalHost) -> None:
        """Before anything else: the host that is about to run."""

    def on_event(self, event: Event) -> None:
        """Every event of the feedback log once the bandit has folded it, those of the past too."""

    def on_step(self, step: int, loss: float) -> None:
        """Every step of a training, from the thread that trains."""


def real_parts() -> Parts:
    """Models in this process by transformers, fine-tuned by TRL. Imports torch: seconds, so only when needed."""
    prepare_torch()
    from bohdi_common.models import huggingface
    from services.training.finetune import fine_tune

    return Parts(models=models, fine_tune=fine_tune, check_model=huggingface.check)


def new_run(config: Config, folder: RunFolder, seed: int, parts: Parts) -> str:
    """Makes the folder and its log with RunStarted in it; returns the run's id. Raises BadConfig, LogError."""
    prompt = prompts.load(config.prompts)
    for model in _in_folders(config):
        asked = [ModelRef(model.name, system=model.system).told(m) for m in prompt.shortest(model != config.target)]
        try:
            parts.check_model(place(model.path), asked)
        except ValueError as error:
            raise BadConfig(f"{model.name}: {error}: point its path at another model") from None
    _check_keys(config)
    folder.create(config)
    run_id = fresh_run_id(config)
    asyncio.run(_append_first(parts.log(folder.log, True), run_started(config, run_id, seed)))
    return run_id


def _check_keys(config: Config) -> None:
    """Raises BadConfig where the key of a server is not in the environment."""
    for model in (*config.sources, config.target, *config.judging.judges):
        if model.key_env and not os.environ.get(model.key_env):
            raise BadConfig(f"{model.name}: ${model.key_env} is not set: put the key of {model.urls[0]} there")


def fresh_run_id(config: Config) -> str:
    """A name that no other run has."""
    return f"{config.name}-{secrets.token_hex(4)}"


def run_started(config: Config, run_id: str, seed: int) -> Event:
    """The first event of a run."""
    models = {model.name: model.path for model in _in_folders(config)}
    digests = {name: digest_of(place(path)) for name, path in models.items()}
    digests |= {file: digest_of(place(file)) for file in config.harvest.benchmarks}
    started = RunStarted(settings=config.settings(seed, digests), bohdi_version=__version__)
    for path in config.domains:
        started.domains.add(path=path)
    return codec.by_hand(run_id, derived_id(run_id, "run_started"), wall_clock_us(), "run_started", started)


def _in_folders(config: Config) -> list[Model]:
    """The models that are files here."""
    everybody = (*config.sources, config.target, *config.judging.judges)
    return [model for model in everybody if model.path]


async def _append_first(log: SqliteLog, event: Event) -> None:
    try:
        await log.append([record_of(event)])
    finally:
        await log.close()


async def host_run(
    config: Config,
    folder: RunFolder,
    parts: Parts,
    watcher: Watcher,
    *,
    resume: bool,
    caps: Mapping[str, float] = MappingProxyType({}),
) -> RunState:
    """Hosts the run in `folder` until it is finished, paused or a signal (SIGINT, SIGTERM) ends it. `resume`: goes on
    with it, paused or not, with new `caps` of its budget; a run that is over stays over."""
    log = parts.log(folder.log, False)
    versions = parts.versions(folder.versions)
    versions.sweep()

    def folder_of(model: ModelRef) -> Path:
        return model_folder(folder.versions, model)

    models = Metered(parts.models(folder_of), metrics.model_call)

    def on_step(step: int, loss: float) -> None:
        watcher.on_step(step, loss)
        metrics.training_step(step, loss)

    metrics.training_begins()
    try:
        run_id = folder.run_id(log)
        host = LocalHost(
            log=log,
            services=[
                parts.around(service)
                for service in _services(models, log, versions, folder_of, parts.fine_tune, on_step)
            ],
            bandit=parts.bandit(run_id),
            inbox_folder=folder.inbox,
            capacity=CAPACITY,
            companions=[evaluation.follow] if (evaluation := evaluation_of(run_id, config, log, folder_of)) else [],
            on_event=watcher.on_event,
        )
        watcher.on_host(host)
        keep_what_is_there()
        with gathered(of_local_host(lambda: host.in_flight, host.oldest_age_s), of_runs(host.bandit.states)):
            state = await host.run(_stop_on_signals(), _resumed(run_id, log, caps) if resume else None)
    finally:
        await models.close()
        await log.close()
    if state.finished:
        # A training that was told to stop does so after the step at hand, in a thread.
        await asyncio.get_running_loop().shutdown_default_executor()
        versions.sweep_jobs()
    return state


def _services(
    models: ChatModels,
    log: SqliteLog,
    versions: VersionStore,
    folder_of: Callable[[ModelRef], Path],
    fine_tune: FineTune,
    on_step: Callable[[int, float], None],
) -> list[Service]:
    return [
        TreeExpansion(models),
        Generation(models, EarlierQuestions(lambda _: log), benchmark_of=place),
        Judging(models),
        Training(models, Samples(lambda _: log), lambda _: versions, folder_of, fine_tune, on_step),
    ]


def evaluation_of(run_id: str, config: Config, log: EventLog, folder_of: FolderOf) -> Evaluation | None:
    """What evaluates the run's models as the configuration asks, if it does."""
    if config.evaluation is None:
        return None
    from bohdi.microworld.evaluate import accuracy

    asked = config.evaluation
    tasks = Tasks(asked.tasks, Path(asked.tasks_folder) if asked.tasks_folder else None, asked.limit)
    return Evaluation(
        run_id,
        log,
        folder_of,
        asked.benchmark,
        place(asked.benchmark),
        accuracy,
        tasks=tasks if asked.tasks else None,
        every_round=asked.every_round,
    )


def _resumed(run_id: str, log: SqliteLog, caps: Mapping[str, float]) -> Event:
    """RunResumed: the run goes on, whether it was paused, interrupted or killed."""
    event_id = derived_id(run_id, "run_resumed", log.end(FEEDBACK.name))
    return codec.by_hand(run_id, event_id, wall_clock_us(), "run_resumed", {"budget": dict(caps)})


def _stop_on_signals() -> asyncio.Event:
    """Set by the first SIGINT or SIGTERM. A second one ends the process at once: the log allows that at any time."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    return stop
