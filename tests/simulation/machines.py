"""The machines of a schedule: every process that may die, begun as its host begins it, and begun again by a supervisor.

What runs in them is the real thing: shell, handlers, window, manager host, local host, bandit.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bohdi_common.core.ids import derived_id
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK
from bohdi_common.log import inbox
from bohdi_common.log.port import LogFull, LogUnavailable
from bohdi_common.runtime import worker
from bohdi_common.runtime.kafka_manager import KafkaManagerHost
from bohdi_common.runtime.local_host import LocalHost
from bohdi_common.runtime.ordered_window import DeliveryGap, OrderedWindow
from bohdi_common.runtime.shell import Clock, Service, Shell, record_of
from services.bandit.handler import Bandit
from services.bandit.runs import Runs
from services.bandit.snapshots import Snapshots
from services.generation.handler import Generation
from services.generation.near_duplicates import EarlierQuestions
from services.judging.handler import Judging
from services.tree_expansion.handler import TreeExpansion
from tests.simulation.broker import Broker, Client, Member, PartitionReader, acknowledging
from tests.simulation.disk import Disk, DiskLog
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.models import Models, ScriptedTraining
from tests.simulation.tape import Tape
from tests.simulation.trace import Trace
from tests.simulation.weather import Weather
from tests.unit.script import no_log

HOPELESS = "no arm under Root is open"  # why a run pauses that can never go on
EPOCH_US = 1_700_000_000_000_000
WORKERS = ("tree_expansion", "generation", "judging", "training")
_RESTART_S = 3.0
_DRAIN_S = 5.0
_BROKER_ASKED_EVERY_S = 1.0


@dataclass
class Surroundings:
    """What all machines of one schedule share. `handled`: what was begun to be handled, as (moment of the log,
    service, event); `bandits`: every bandit there ever was; `findings`: what must not have happened."""

    loop: SimulatedLoop
    chance: random.Random
    weather: Weather
    trace: Trace
    handled: list[tuple[int, str, Event]] = field(default_factory=list)
    bandits: list[Bandit] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def clock(self, skew_us: int = 0) -> Clock:
        return lambda: EPOCH_US + round(self.loop.time() * 1e6) + skew_us

    def bandit(self, clock: Clock, run_id: str) -> Bandit:
        self.bandits.append(Bandit(run_id, clock))
        return self.bandits[-1]

    def service(self, name: str, clock: Clock) -> Service:
        models = Models(self.weather)
        match name:
            case "tree_expansion":
                return TreeExpansion(models, clock)
            case "generation":
                return Generation(models, EarlierQuestions(no_log), clock=clock)
            case "judging":
                return Judging(models, clock)
        return ScriptedTraining(self.weather, clock)


class Machine:
    """One process and its supervisor, who begins it again whenever it ends."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.around = around
        self.wanted = False
        self.process = Process(around.loop, name)
        self.process.alive = False

    @property
    def up(self) -> bool:
        return self.process.alive

    def start(self) -> None:
        """Begins the process; from now on it is begun again when it ends."""
        self.wanted = True
        if self.up:
            return
        self.around.trace.note(self.name, "starts")
        process = self.process = Process(self.around.loop, self.name)
        main = process.start(self.main(process))
        main.add_done_callback(partial(self._ended, process))

    def crash(self) -> None:
        """Kills the process wherever it is; all its memory is lost."""
        if self.up:
            self.around.trace.note(self.name, "crashes")
            self.process.kill()
            self.left_behind()
            self._start_later()

    def stop(self) -> None:
        """Kills the process for good."""
        self.wanted = False
        self.crash()

    def _start_later(self) -> None:
        if self.wanted:
            delay_s = self.around.chance.uniform(0, _RESTART_S)
            self.around.loop.call_later(delay_s, lambda: self.wanted and self.start())

    def _ended(self, process: Process, main: asyncio.Task[Any]) -> None:
        if not process.alive:
            return
        error = None if main.cancelled() else main.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.around.trace.note(self.name, "ends", repr(error))
        if error is not None and not self.may_end_with(error):
            self.around.findings.append(f"{self.name} died: {error!r}")
        process.kill()
        self.left_behind()
        self._start_later()

    # ---- of each kind of machine -------------------------------------------------------------------------------

    def main(self, process: Process) -> Coroutine[Any, Any, None]:
        """What the process does."""
        raise NotImplementedError

    def may_end_with(self, error: BaseException) -> bool:
        """Whether a process may end so when the world is bad."""
        return isinstance(error, LogUnavailable)

    def left_behind(self) -> None:
        """What others do about the death of the process."""


class Worker(Machine):
    """One of the four services behind its ordered window, as the host on faust has it."""

    def __init__(self, name: str, service: str, broker: Broker, around: Surroundings, capacity: int, held: int) -> None:
        super().__init__(name, around)
        self.service = service
        self.member: Member | None = None
        self._broker = broker
        self._capacity = capacity
        self._held_max = capacity * held
        self._intake: asyncio.Task[None] | None = None

    async def main(self, process: Process) -> None:
        client = Client(self._broker, process)
        service = Watched(self.around.service(self.service, self.around.clock()), self.around, self._broker.tape)
        handle = worker.handling(Shell(service, self.around.clock()), client.append)
        window = OrderedWindow(handle, capacity=self._capacity, held_max=self._held_max, clock_s=self.around.loop.time)
        group = self._broker.group(f"bohdi.{self.service}", service.topic.name)
        self.member = Member(group, client, window)
        group.join(self.member)
        self._intake = asyncio.create_task(self._take_in(self.member))
        await asyncio.wait([self._intake, window.failed], return_when=asyncio.FIRST_COMPLETED)
        for ended in (self._intake, window.failed):
            if ended.done() and not ended.cancelled():
                ended.result()

    async def _take_in(self, member: Member) -> None:
        while True:
            delivery = await member.next()
            ours = partial(member.still_ours, delivery)
            await member.window.take(delivery.stored, acknowledging(member, delivery), ours)

    def leave(self) -> None:
        """As after a SIGTERM: no more intake, what is in hand finishes within a bound, the group is left."""
        self.wanted = False
        if self.up and self.member is not None:
            self.around.trace.note(self.name, "is asked to end")
            self.process.start(self._wind_down(self.member))

    async def _wind_down(self, member: Member) -> None:
        assert self._intake is not None
        self._intake.cancel()
        await member.window.drain(_DRAIN_S)
        member.say_goodbye()
        self.around.loop.call_later(0, self.crash)

    def may_end_with(self, error: BaseException) -> bool:
        skipped = self.member is not None and self.member.skipped
        return super().may_end_with(error) or (isinstance(error, DeliveryGap) and skipped)

    def left_behind(self) -> None:
        if self.member is not None:
            self.member.group.dies(self.member)
            self.member = None


class BanditMachine(Machine):
    """The bandit on every partition of the feedback topic, with snapshots on a disk that outlives it."""

    def __init__(
        self, name: str, broker: Broker, around: Surroundings, skew_us: int, snapshots: Path, every: int
    ) -> None:
        super().__init__(name, around)
        self.runs: list[Runs] = []
        self.readers: list[PartitionReader] = []
        self.client: Client | None = None
        self._broker = broker
        self._clock = around.clock(skew_us)
        self._snapshots = snapshots
        self._every = every

    async def main(self, process: Process) -> None:
        self.runs, self.readers = [], []
        client = self.client = Client(self._broker, process)
        while self._broker.away:
            await asyncio.sleep(_BROKER_ASKED_EVERY_S)
        host = _ManagersHost(self._broker.tape, self._keeper, self._every)
        async with asyncio.TaskGroup() as group:
            for partition in range(self._broker.tape.partitions(FEEDBACK.name)):
                reader = PartitionReader(client, partition)
                manager = await asyncio.to_thread(host.host, reader, client)
                self.runs.append(manager.manager)
                self.readers.append(reader)
                group.create_task(manager.run())

    def _keeper(self, partition: int) -> Snapshots:
        return Snapshots(self._snapshots / f"{self.name}-{partition}", partial(self.around.bandit, self._clock))

    def paused(self, run_id: str) -> str:
        """Why the run is paused, as far as this bandit has read; empty when it is not."""
        return "".join(runs.going[run_id].state.paused for runs in self.runs if run_id in runs.going)

    def has_seen_the_end_of(self, run_ids: Sequence[str]) -> bool:
        """True when all these runs are over and everything is read."""
        over = {run_id for runs in self.runs for run_id in runs.over}
        ends = [len(self._broker.tape.stored(FEEDBACK.name, reader.partition)) for reader in self.readers]
        return over.issuperset(run_ids) and [reader.position for reader in self.readers] == ends


class _ManagersHost(KafkaManagerHost):
    """The real one, but for how it looks into topics."""

    def __init__(self, tape: Tape, keeper_of: Callable[[int], Snapshots], saved_every: int) -> None:
        super().__init__("bandit", None, None, keeper_of, saved_every)  # type: ignore[arg-type]
        self._tape = tape

    def host(self, reader: PartitionReader, client: Client) -> Any:
        """The `ManagerHost` of one partition."""
        return self._host(reader, client)  # type: ignore[arg-type]

    def _already_asked(self, requests: Sequence[Event]) -> set[str]:
        topics = {codec.topic_of(request).name for request in requests}
        there = {stored.event_id for topic in sorted(topics) for _, stored in self._tape.of(topic)}
        return there.intersection(request.event_id for request in requests)

    def _already_dead(self, ids: AbstractSet[str]) -> set[str]:
        return {stored.event_id for _, stored in self._tape.of(DEAD.name)} & ids


class Embedded(Machine):
    """Everything in one process on one log. A host that ended is begun again with a RunResumed till the run is over."""

    def __init__(self, run_id: str, disk: Disk, inbox_folder: Path, around: Surroundings, capacity: int) -> None:
        super().__init__("host", around)
        self.run_id = run_id
        self.over = False
        self.inbox = inbox_folder
        self._capacity = dict.fromkeys(WORKERS, capacity)
        self._disk = disk
        self._log: DiskLog | None = None
        self._starts = 0
        self._stop: asyncio.Event | None = None

    async def main(self, process: Process) -> None:
        around, clock = self.around, self.around.clock()
        log = self._log = DiskLog(self._disk, process, around.weather, around.trace)
        services = [Watched(around.service(name, clock), around, self._disk.tape) for name in WORKERS]
        bandit = around.bandit(clock, self.run_id)
        host = LocalHost(log, services, bandit, self.inbox, capacity=self._capacity, clock=clock)
        self._starts += 1
        resumed_id = derived_id(self.run_id, "run_resumed", log.end(FEEDBACK.name))
        resumed = codec.by_hand(self.run_id, resumed_id, clock(), "run_resumed", {})
        self._stop = asyncio.Event()
        state = await host.run(self._stop, resumed if self._starts > 1 else None)
        self.over = bool(state.finished)
        self.wanted = not self.over
        if HOPELESS in state.paused:
            self.cancel()

    def cancel(self) -> None:
        """As a person does who sees no way on."""
        event_id = derived_id(self.run_id, "by hand", self._disk.tape.moment)
        by_hand = codec.by_hand(self.run_id, event_id, self.around.clock()(), "run_finished", {"reason": "cancelled"})
        inbox.put(self.inbox, record_of(by_hand))

    def interrupt(self) -> None:
        """As after a SIGTERM."""
        if self.up and self._stop is not None:
            self.around.trace.note(self.name, "is asked to end")
            self._stop.set()

    def may_end_with(self, error: BaseException) -> bool:
        return isinstance(error, LogFull)

    def left_behind(self) -> None:
        if self._log is not None:
            self._log.process_died(self.around.chance)
        self._stop = self._log = None


class Watched:
    """A service, and a note of every input when its handling begins."""

    def __init__(self, service: Service, around: Surroundings, tape: Any) -> None:
        self.name = service.name
        self.topic = service.topic
        self._service = service
        self._around = around
        self._tape = tape

    async def handle(self, event: Event) -> Sequence[Event]:
        self._around.handled.append((self._tape.moment, self.name, event))
        self._around.trace.note(self.name, "handles", event.event_id)
        return await self._service.handle(event)
