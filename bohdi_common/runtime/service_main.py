"""How a service process starts: `python -m services.NAME`, told by its environment and by nothing else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bohdi_common.events import codec
from bohdi_common.events.topics import Topic
from bohdi_common.log.kafka_settings import BadSetting, KafkaSettings
from bohdi_common.log.port import LogError
from bohdi_common.models import adapters
from bohdi_common.models.metering import Metered
from bohdi_common.models.places import FolderOf, RunStores
from bohdi_common.models.port import ChatModels
from bohdi_common.runtime import metrics
from bohdi_common.runtime.heap import keep_what_is_there
from bohdi_common.runtime.service_settings import ServiceSettings
from bohdi_common.runtime.shell import Service

if TYPE_CHECKING:  # who hosts a worker needs it not
    from bohdi_common.runtime.kafka_manager import Keeper

_MISTAKE = 2
SNAPSHOTS = ".snapshots"  # in the store; no run has such a name


@dataclass(frozen=True)
class Surroundings:
    """What a worker service is made with."""

    kafka: KafkaSettings
    stores: RunStores
    models: ChatModels


def run_worker(
    name: str,
    topic: Topic,
    capacity: int,
    make: Callable[[Surroundings], Service],
    models: Callable[[FolderOf], ChatModels] = adapters.models,
) -> None:
    """Hosts a worker service until a signal ends it; `capacity`: its inputs in flight by default."""
    kafka, settings = _told(capacity)
    from bohdi_common.runtime.faust_host import FaustHost

    stores = RunStores(settings.store)
    opened: list[ChatModels] = []

    def service() -> Service:
        opened.append(Metered(models(stores.folder_of), metrics.model_call))
        made = make(Surroundings(kafka, stores, opened[0]))
        keep_what_is_there()
        return made

    async def close() -> None:
        for there in opened:
            await there.close()

    _hosted(FaustHost(name, topic, kafka, settings, service, close).run)


def run_manager(name: str, keeper_at: Callable[[Path], Keeper]) -> None:
    """Hosts the bandit until a signal ends it. `keeper_at` keeps the fold of one partition in a file."""
    kafka, settings = _told(capacity=1)
    from bohdi_common.runtime.kafka_manager import KafkaManagerHost

    def keeper_of(partition: int) -> Keeper:
        return keeper_at(settings.store / SNAPSHOTS / f"{name}-{partition}.snapshot")

    keep_what_is_there()
    _hosted(KafkaManagerHost(name, kafka, settings, keeper_of).run)


def _told(capacity: int) -> tuple[KafkaSettings, ServiceSettings]:
    level = os.environ.get("BOHDI_LOG", "INFO").upper()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("bohdi").setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    try:
        return KafkaSettings.from_environment(), ServiceSettings.from_environment(capacity)
    except BadSetting as error:
        _fail(error)


def _hosted(run: Callable[[], None]) -> None:
    try:
        run()
    except (LogError, codec.NewerSchema, OSError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    print(f"bohdi: {error}", file=sys.stderr)
    sys.exit(_MISTAKE)
