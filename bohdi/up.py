"""`bohdi up`: the services of one machine, and, if it is asked for, a run until its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from bohdi.supervisor import SERVICES, Supervisor
from bohdi_common.core.state import RunState
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.runtime.kafka_topics import Cluster


def make_topics(kafka: str | None) -> None:
    """Those that are missing, before anything is asked of the log. Raises LogError."""
    Cluster(KafkaSettings.from_environment(kafka)).create()


async def up(
    kafka: str | None,
    watched: Callable[[], Awaitable[RunState]] | None = None,
    health_from: tuple[str, int] | None = None,
) -> RunState:
    """Until a signal, or until what is `watched` ends; gives the state that it ended with. The services are told by the
    environment, which they inherit, and `kafka`; with `health_from` their health and metrics are on that port and the
    four after it, in the order of SERVICES. Raises ServiceMistaken."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor({"BOHDI_KAFKA": kafka} if kafka else {}, show=print)
    if health_from is not None:
        host, first = health_from
        supervisor.own = {name: {"BOHDI_HEALTH": f"{host}:{first + n}"} for n, name in enumerate(SERVICES)}
    supervising = asyncio.create_task(supervisor.run(stop))
    if watched is None:
        await supervising
        return RunState()
    watching = asyncio.ensure_future(watched())
    await asyncio.wait([watching, supervising], return_when=asyncio.FIRST_COMPLETED)
    state = watching.result() if watching.done() else RunState()
    watching.cancel()
    stop.set()
    await supervising
    return state
