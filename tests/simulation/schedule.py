"""One schedule: a small run of the whole system in a world that follows from a seed, to its end.

Faults come at random turns of the loop, so at any await of any process, until as many as the plan says have come. Then
all cease, and the runs must finish. What is left is handed to the checks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_common.core.ids import derived_id
from bohdi_common.events import codec, topics
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log import inbox
from bohdi_common.log.port import Record, Stored
from bohdi_common.runtime.shell import record_of
from bohdi_common.runtime.worker import until_durable
from tests.simulation import plan as plans
from tests.simulation.broker import Broker, Client
from tests.simulation.checks import problems_of
from tests.simulation.disk import Disk
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.machines import HOPELESS, WORKERS, BanditMachine, Embedded, Machine, Surroundings, Worker
from tests.simulation.tape import Tape
from tests.simulation.trace import Trace

_TURNS_OF_FAULTS_MAX = 6_000
_TURNS_MAX = 100_000  # of a whole schedule
_CALM_MAX_S = 5_000.0  # in which a run finishes once nothing goes wrong any more
_LOOK_EVERY_S = 1.0
_PERSON_LOOKS_EVERY_S = 5.0
_LAG_MAX_S = 8.0
_AWAY_MAX_S = 15.0
_LINES_SHOWN = 60
_BANDITS_SHOWN = 2
_IN_MEMORY = Path("/dev/shm")
_LETTERS_MAX = 40  # bytes of a corrupt record


@dataclass(frozen=True)
class Result:
    """`findings`: all that was wrong, in words. `trace`: what happened. `tape`: what the log took."""

    seed: int
    number: int
    mode: str
    findings: list[str]
    trace: Trace
    tape: Tape
    turns: int

    def report(self) -> str:
        """The findings, how it came to them, and the command that shows this very schedule again, whole."""
        return "\n".join(
            [
                f"schedule {self.number} of seed {self.seed} ({self.mode}): {len(self.findings)} findings",
                *self.findings,
                "the last that happened:",
                self.trace.text(_LINES_SHOWN),
                f"again: {replay(self.seed, self.number)}",
            ]
        )


def replay(seed: int, number: int) -> str:
    """The command that runs one schedule again and prints all that happens in it."""
    return f"python -m tests.simulation --seed {seed} --first {number} --schedules 1 --trace"


def mode_of(number: int) -> str:
    """Schedules take turns through the modes."""
    return plans.MODES[number % len(plans.MODES)]


def run(seed: int, number: int) -> Result:
    """Runs schedule `number` of `seed`. The same two numbers give the same schedule, everywhere."""
    chance = random.Random(f"{seed}/{number}")
    mode = mode_of(number)
    world = (EmbeddedWorld if mode == plans.EMBEDDED else BrokerWorld)(mode, chance)
    with _quiet(), world.loop.running():
        world.run()
        findings = world.findings()
        world.close()
    return Result(seed, number, mode, findings, world.trace, world.tape, world.loop.turns)


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where the real code writes files; in memory where that can be."""
    return tempfile.TemporaryDirectory(prefix="bohdi-simulation-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """What the services log is no news here: things go wrong on purpose."""
    log = logging.getLogger("bohdi")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@dataclass
class _Run:
    """A run of a schedule. `submitted`: done once its RunStarted is durable; `asked`: what a person asked of it."""

    run_id: str
    started: Event
    submitted: asyncio.Task[None] | None = None
    asked: int = 0


class World:
    """What both kinds of schedule have in common."""

    tape: Tape
    handles_once = False  # whether outputs and done mark are one transaction

    def __init__(self, mode: str, chance: random.Random) -> None:
        self.chance = chance
        self.plan = plans.Plan.of(mode, chance)
        self.loop = SimulatedLoop(chance)
        self.trace = Trace(self.loop)
        self.weather = plans.weather(mode, chance)
        self.around = Surroundings(self.loop, chance, self.weather, self.trace)
        self.runs = [self._run(number) for number in range(len(self.plan.settings))]
        self.machines: list[Machine] = []
        self.corrupt: list[Stored] = []
        self.faults_done = 0
        self.calm_since_s: float | None = None
        self.over = False

    def _run(self, number: int) -> _Run:
        run_id = f"run-{number}"
        body = {"settings": self.plan.settings[number]}
        clock = self.around.clock()
        return _Run(run_id, codec.by_hand(run_id, derived_id(run_id, "run_started"), clock(), "run_started", body))

    def run(self) -> None:
        """To the end of all runs, or to what must not be."""
        self.begin()
        next_fault = self._turns_to_next_fault()
        self.loop.call_later(_LOOK_EVERY_S, self._look)
        while not self.over and not self.around.findings:
            if self.loop.turns >= next_fault:
                self._fault()
                next_fault = self.loop.turns + self._turns_to_next_fault()
            if not self.loop.turn() or self.loop.turns > _TURNS_MAX or self._calm_for_s() > _CALM_MAX_S:
                self.around.findings.append(f"the runs do not finish: {self.standing()}")

    def findings(self) -> list[str]:
        found = self.around.findings + self.loop.errors
        return found or list(problems_of(self))

    def close(self) -> None:
        """Ends what still runs."""
        for machine in self.machines:
            machine.wanted = False
            if machine.up:
                machine.process.kill()

    def _calm_for_s(self) -> float:
        return 0.0 if self.calm_since_s is None else self.loop.time() - self.calm_since_s

    def _turns_to_next_fault(self) -> int:
        return 1 + int(self.chance.expovariate(1 / self.plan.turns_between))

    def _fault(self) -> None:
        if self.calm_since_s is not None:
            return
        if self.faults_done >= self.plan.faults or self.loop.turns > _TURNS_OF_FAULTS_MAX:
            return self._calm_down()
        self.faults_done += 1
        fault: Callable[[], None] = getattr(self, f"_{self.chance.choice(self.plan.kinds)}")
        return fault()

    def _calm_down(self) -> None:
        self.trace.note("world", "from here on nothing goes wrong")
        self.calm_since_s = self.loop.time()
        self.weather.clears()
        self.clear()

    def _look(self) -> None:
        """From time to time: is it over?"""
        self.over = self.calm_since_s is not None and self.is_over()
        self.loop.call_later(_LOOK_EVERY_S, self._look)

    def _ups(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.up]

    def _crash(self) -> None:
        if ups := self._ups():
            self.chance.choice(ups).crash()

    def _id(self, run: _Run, kind: str) -> str:
        run.asked += 1
        return derived_id(run.run_id, "by hand", kind, run.asked)

    def _by_hand(self, run: _Run, kind: str, body: Any) -> Event:
        self.trace.note("person", "asks for", kind, run.run_id)
        return codec.by_hand(run.run_id, self._id(run, kind), self.around.clock()(), kind, body)

    # ---- of each kind ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        raise NotImplementedError

    def clear(self) -> None:
        """What the end of all faults means here."""
        raise NotImplementedError

    def is_over(self) -> bool:
        raise NotImplementedError

    def standing(self) -> str:
        """Where everything stands, in a line."""
        states = [
            f"{bandit.run_id} after {bandit.state.sequence} events in round {bandit.state.round}.{bandit.state.step}, "
            f"{bandit.state.open_slots} slots open, {bandit.state.paused or bandit.state.finished or 'going on'}"
            for bandit in self.around.bandits[-_BANDITS_SHOWN:]
        ]
        return f"turn {self.loop.turns}, {self.loop.time():.0f} s; {'; '.join(states)}"


class BrokerWorld(World):
    def __init__(self, mode: str, chance: random.Random) -> None:
        super().__init__(mode, chance)
        self.broker = Broker(self.loop, chance, self.weather, self.trace, self.plan.partitions)
        self.tape = self.broker.tape
        self.person = Process(self.loop, "person")
        self._folder = _folder()
        self.bandits = [self._bandit("bandit", 0), self._bandit("bandit-2", self.plan.skew_us)]
        self.workers = [self._worker(name, name) for name in WORKERS]
        self.second_workers = [self._worker(f"{name}-2", name) for name in WORKERS]
        self.machines = [*self.bandits, *self.workers, *self.second_workers]

    def _bandit(self, name: str, skew_us: int) -> BanditMachine:
        return BanditMachine(name, self.broker, self.around, skew_us, Path(self._folder.name), self.plan.saved_every)

    def _worker(self, name: str, service: str) -> Worker:
        return Worker(name, service, self.broker, self.around, self.plan.capacity, self.plan.held)

    def begin(self) -> None:
        for machine in (self.bandits[0], *self.workers):
            machine.start()
        if self.plan.mode == plans.TWO_BANDITS:
            self.bandits[1].start()
        for run in self.runs:
            run.submitted = self._submit(run.started)
        self.person.start(self._watch())

    def _submit(self, event: Event) -> asyncio.Task[None]:
        client = Client(self.broker, self.person)
        return self.person.start(until_durable(client.append, [record_of(event)]))

    async def _watch(self) -> None:
        """The person at the screen: a run that stands paused is resumed."""
        while True:
            await asyncio.sleep(_PERSON_LOOKS_EVERY_S * (0.5 + self.chance.random()))
            for run in self.runs:
                why = next((why for bandit in self.bandits if bandit.up and (why := bandit.paused(run.run_id))), "")
                if HOPELESS in why:
                    self._submit(self._by_hand(run, "run_finished", {"reason": "cancelled by hand"}))
                elif why:
                    self._submit(self._by_hand(run, "run_resumed", {}))

    def clear(self) -> None:
        self.broker.comes_back()
        for bandit in self.bandits:
            if bandit.client is not None:
                bandit.client.lag_s = 0.0
        for machine in (self.bandits[0], *self.workers):
            machine.start()
        for worker in (*self.workers, *self.second_workers):
            if worker.member is not None:
                worker.member.reconnect()

    def is_over(self) -> bool:
        run_ids = [run.run_id for run in self.runs]
        seen = all(bandit.has_seen_the_end_of(run_ids) for bandit in self.bandits if bandit.up)
        groups = self.broker.groups.values()
        return seen and not self.broker.under_way and all(group.has_handled_all() for group in groups)

    def standing(self) -> str:
        behind = {group.name: (dict(group.committed), len(group.members)) for group in self.broker.groups.values()}
        return f"{super().standing()}; committed: {behind}; up: {[machine.name for machine in self._ups()]}"

    def close(self) -> None:
        super().close()
        self.person.kill()
        self._folder.cleanup()

    # ---- faults ------------------------------------------------------------------------------------------------

    def _crash_all(self) -> None:
        for machine in self.chance.sample(ups := self._ups(), self.chance.randrange(len(ups) + 1)):
            machine.crash()

    def _second_worker(self) -> None:
        second = self.chance.choice(self.second_workers)
        if not second.wanted:
            second.start()
        elif self.chance.random() < 0.5:
            second.leave()
        else:
            second.stop()

    def _second_bandit(self) -> None:
        if self.bandits[1].wanted:
            self.bandits[1].stop()
        else:
            self.bandits[1].start()

    def _lose_connection(self) -> None:
        members = [worker.member for worker in (*self.workers, *self.second_workers) if worker.up and worker.member]
        if members:
            self.chance.choice(members).lose_connection()

    def _rebalance(self) -> None:
        groups = list(self.broker.groups.values())
        if groups:
            self.chance.choice(groups).rebalance("for no reason")

    def _broker_away(self) -> None:
        self.broker.goes_away(self.chance.uniform(0.1, _AWAY_MAX_S))

    def _lag(self) -> None:
        client = self.chance.choice(self.bandits).client
        if client is not None:
            client.lag_s = 0.0 if client.lag_s else self.chance.uniform(0, _LAG_MAX_S)
            self.trace.note(client.process.name, "reads behind by", client.lag_s)

    def _pause(self) -> None:
        self._ask_of_any("run_paused", "asked for by hand")

    def _cancel(self) -> None:
        self._ask_of_any("run_finished", "cancelled by hand")

    def _ask_of_any(self, kind: str, reason: str) -> None:
        started = [run for run in self.runs if run.submitted and run.submitted.done()]
        if started:
            run = self.chance.choice(started)
            self._submit(self._by_hand(run, kind, {"reason": reason}))

    def _corrupt(self) -> None:
        """Bytes that are no event, or no event of that topic, or a whole one cut short."""
        topic = self.chance.choice([topic for topic in topics.TOPICS if topic is not topics.DEAD])
        partition = self.chance.randrange(self.tape.partitions(topic.name))
        value = self._bad_bytes(topic)
        name = f"{topic.name}/corrupt/{self.tape.moment}"
        self.corrupt += self.broker.write((topic.name, partition), [Record(topic.name, "?", name, value)], "vandal")

    def _bad_bytes(self, topic: topics.Topic) -> bytes:
        there = [stored for partition in range(self.tape.partitions(topic.name))
                 for stored in self.tape.stored(topic.name, partition)]  # fmt: skip
        match self.chance.randrange(4):
            case 0 if there:
                whole = self.chance.choice(there).value
                return whole[: self.chance.randrange(max(1, len(whole)))]  # uncut: an event in another partition
            case 1 if topic is not topics.FEEDBACK:
                return record_of(self._by_hand(self.runs[0], "run_resumed", {})).value
            case 2:
                return b""
        return self.chance.randbytes(self.chance.randrange(1, _LETTERS_MAX))


class EmbeddedWorld(World):
    handles_once = True

    def __init__(self, mode: str, chance: random.Random) -> None:
        super().__init__(mode, chance)
        self.tape = Tape({})
        self._folder = _folder()
        disk = Disk(self.tape)
        disk.tape.add(record_of(self.runs[0].started), 0)
        disk.offset_of[topics.FEEDBACK.name, self.runs[0].started.event_id] = 0
        folder = Path(self._folder.name)
        self.host = Embedded(self.runs[0].run_id, disk, folder / "inbox", self.around, self.plan.capacity)
        self.machines = [self.host]

    def begin(self) -> None:
        self.host.start()

    def clear(self) -> None: ...

    def is_over(self) -> bool:
        return self.host.over

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    # ---- faults ------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.host.interrupt()

    def _pause(self) -> None:
        event = self._by_hand(self.runs[0], "run_paused", {"reason": "asked for by hand"})
        inbox.put(self.host.inbox, record_of(event))

    def _cancel(self) -> None:
        event = self._by_hand(self.runs[0], "run_finished", {"reason": "cancelled by hand"})
        inbox.put(self.host.inbox, record_of(event))
