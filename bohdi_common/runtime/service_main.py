"""How a service process starts: `python -m services.NAME`, told by its environment and by nothing else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from bohdi_common.events import codec
from bohdi_common.events.topics import Topic
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import LogError
from bohdi_common.models.adapters import local_models
from bohdi_common.models.places import FolderOf, RunStores
from bohdi_common.models.port import ChatModels
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.manager_host import Manager
from bohdi_common.runtime.service_settings import BadSetting, ServiceSettings
from bohdi_common.runtime.shell import Service

_MISTAKE = 2


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
    models: Callable[[FolderOf], ChatModels] = local_models,
) -> None:
    """Hosts a worker service until a signal ends it; `capacity`: its inputs in flight by default."""
    kafka, settings = _told(capacity)
    from bohdi_common.runtime.faust_host import FaustHost

    stores = RunStores(settings.store)
    opened: list[ChatModels] = []

    def service() -> Service:
        opened.append(models(stores.folder_of))
        return make(Surroundings(kafka, stores, opened[0]))

    async def close() -> None:
        for there in opened:
            await there.close()

    _hosted(FaustHost(name, topic, kafka, settings, service, close).run)


def run_manager(name: str, make: Callable[[], Manager]) -> None:
    """Hosts the bandit until a signal ends it. `make`: the manager of the runs of one partition."""
    kafka, settings = _told(capacity=1)
    from bohdi_common.runtime.kafka_manager import KafkaManagerHost

    _hosted(KafkaManagerHost(name, kafka, settings, make).run)


def _told(capacity: int) -> tuple[KafkaSettings, ServiceSettings]:
    level = os.environ.get("BOHDI_LOG", "INFO").upper()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("bohdi").setLevel(level if level in logging.getLevelNamesMapping() else "INFO")
    try:
        return KafkaSettings.from_environment(), ServiceSettings.from_environment(capacity)
    except (BadConfig, BadSetting) as error:
        _fail(error)


def _hosted(run: Callable[[], None]) -> None:
    try:
        run()
    except (LogError, codec.NewerSchema, OSError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    print(f"bohdi: {error}", file=sys.stderr)
    sys.exit(_MISTAKE)
