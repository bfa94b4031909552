"""`bohdi eval --tasks`: the harness on a model that a person names, and its scores in the run's log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bohdi import harness
from bohdi.evaluation import evaluated_id, place_of, scored_by_harness
from bohdi.harness import Place, Results, Tasks
from bohdi.run_folder import RunFolder, resolved, why_no_model
from bohdi.run_places import RunPlace, events
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.log import inbox
from bohdi_common.log.port import Record
from bohdi_common.log.sqlite import SqliteLog, has_host
from bohdi_common.models.places import model_folder, place
from bohdi_common.models.port import ModelRef
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.shell import record_of, wall_clock_us
from services.bandit.handler import Bandit

_LAST = "last"


def evaluated(run: RunPlace | None, model: Path | None, name: str, version: str, tasks: Tasks) -> tuple[Results, str]:
    """The harness's scores of `version` of the model `name` (empty: the target) of a run, or of a configuration or a
    model folder at `model`; and where they were recorded. Raises HarnessFailed, BadConfig, NoRun, LogError."""
    if why := harness.why_absent():
        raise BadConfig(why)
    if run is None:
        if model is None:
            raise BadConfig("eval: which model? give a run's folder or --run ID, a configuration, or a model folder")
        return asyncio.run(harness.scored(_outside_a_run(model, name, version), tasks)), "of no run, so not recorded"
    ref = _of_run(run, name, version)
    where = place_of(ref, lambda model: model_folder(run.versions, model))
    results = asyncio.run(harness.scored(_checked(where, name or ref.name), tasks))
    body = scored_by_harness(ref, tasks, results)
    event = codec.by_hand(run.run_id, evaluated_id(run.run_id, body), wall_clock_us(), "target_evaluated", body)
    return results, record(run, record_of(event))


def _outside_a_run(model: Path, name: str, version: str) -> Place:
    """A model folder (or `microworld:NAME`), or a model of a configuration."""
    if model.suffix not in (".yaml", ".yml"):
        return _checked(place(str(model)), str(model))
    config = resolved(configs.load(model), model.parent)
    settings = config.settings(
        0, {m.name: "" for m in (config.target, *config.sources)} | dict.fromkeys(config.harvest.benchmarks, "")
    )
    chosen = _named(settings, name, str(model))
    if version not in (_LAST, BASE_VERSION) and not (chosen.urls and chosen.name == settings.target.name):
        raise BadConfig(f"--version {version}: versions are a run's: give its folder in the place of {model}")
    ref = ModelRef.of(chosen, "" if version == _LAST else version)
    return _checked(place_of(ref, lambda ref: place(ref.path)), chosen.name)


def _of_run(run: RunPlace, name: str, version: str) -> ModelRef:
    """A model of the run, its version among those that were promoted and, in a folder, as it was written."""
    bandit, settings = Bandit(run.run_id), pb.Settings()
    for event in events(run):
        bandit.fold(event)
        if event.HasField("run_started"):
            settings = event.run_started.settings
    chosen = _named(settings, name, run.how_to)
    if chosen.name != settings.target.name:
        return ModelRef.of(chosen)
    state = bandit.state
    wanted = state.target_version if version == _LAST else version
    if wanted not in state.versions:
        raise BadConfig(f"--version {version}: not a version of this run (there are: {', '.join(state.versions)})")
    if wanted != BASE_VERSION and not chosen.urls and (wrong := VersionStore(run.versions).check(wanted)):
        raise BadConfig(f"{run.versions}: {wrong[0]}: restore it from a copy of the run")
    return ModelRef.of(chosen, wanted, run.run_id)


def _named(settings: pb.Settings, name: str, where: str) -> pb.ModelSettings:
    models = {model.name: model for model in (settings.target, *settings.sources)}
    if name and name not in models:
        raise BadConfig(f"--model {name}: no model of {where} (there are: {', '.join(models)})")
    return models[name or settings.target.name]


def _checked(model: Place, name: str) -> Place:
    if isinstance(model, Path) and (why := why_no_model(model)):
        raise BadConfig(f"{name}: {why}")
    return model


def record(run: RunPlace, written: Record) -> str:
    """Appends to the run's log what a person has had made; through the inbox while a host has the log. Says where it
    is. Raises LogError."""
    if run.folder is None:
        from bohdi.kafka_places import KafkaPlace  # who has a folder needs no Kafka

        assert isinstance(run, KafkaPlace)
        run.append([written])
        return f"recorded in {run.run_id}"
    if has_host(run.folder.log):
        inbox.put(run.folder.inbox, written)
        return f"left for the host that is at work on {run.how_to}, which records it"
    asyncio.run(_append(run.folder, written))
    return f"recorded in {run.how_to}"


async def _append(folder: RunFolder, written: Record) -> None:
    log = SqliteLog.open(folder.log, create=False)
    try:
        await log.append([written])
    finally:
        await log.close()
