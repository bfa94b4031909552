"""The service shell: what every host does around a handler, for one input.

Decode; handle; give back the outputs, which the host appends together with the input's done mark. What cannot be
decoded or fails for good goes to `bohdi.dead`, and a slot that it named is settled as failed, so that no run waits for
it. A model that is away is asked again with growing pauses, within a bound.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, Topic
from bohdi_common.log.port import LogError, Record, Stored
from bohdi_common.models.metering import Meter, metered
from bohdi_common.models.port import ModelBlocked, ModelRefused, ModelUnavailable
from bohdi_common.runtime import metrics

_log = logging.getLogger("bohdi")
_REASON_CHARS = 500
_QUIET_S = 10.0  # all inputs in flight wait for the same model: one line for it in so long, the metric counts them all
_KEY_CHARS = 1000  # of a record's key, and of a dead letter's header: what other programs wrote may have longer ones
_KEY_BYTES = 4 * _KEY_CHARS  # at most, in UTF-8

CUT_FROM = "cut-from-bytes"  # header of a dead letter whose original was longer than the topic takes

Clock = Callable[[], int]


def wall_clock_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


class Service(Protocol):
    """A handler of one topic's events. `handle` may be called again for the same event and for several at once."""

    name: str
    topic: Topic

    async def handle(self, event: Event) -> Sequence[Event]:
        """The events that come of `event`. Raises ModelUnavailable when a model that it cannot do without is away."""
        ...


@dataclass(frozen=True)
class Retries:
    """How often a model that is away is asked again, and how long between: first_s, doubled, up to longest_s."""

    times: int = 4
    first_s: float = 0.5
    longest_s: float = 10.0

    def pauses_s(self) -> list[float]:
        return [min(self.first_s * 2**n, self.longest_s) for n in range(self.times)]


@dataclass
class Shell:
    """One service in its shell. `process` is all that a host calls."""

    service: Service
    clock: Clock = wall_clock_us
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        self._inputs = metrics.inputs_of(self.service.name)
        self._said_s: dict[str, float] = {}  # what was said of models that are away, and when

    async def process(self, stored: Stored) -> list[Record]:
        """The records that come of one input. Raises only LogError: what cannot be handled is among the dead."""
        began_s = time.perf_counter()
        try:
            event = codec.decode(stored.value)
        except (codec.Undecodable, codec.NewerSchema) as error:
            self._inputs.handled("unknown", "dead", began_s)
            return [dead_record(stored, str(error))]
        kind = codec.kind_of(event)
        if codec.topic_of(event) is not self.service.topic:
            self._inputs.handled(kind, "dead", began_s)
            return [dead_record(stored, f"{kind} does not belong on {stored.topic}")]
        with metered() as meter:
            outcome, records = await self._processed(stored, event, meter)
        self._inputs.handled(kind, outcome, began_s)
        return records

    async def _processed(self, stored: Stored, event: Event, meter: Meter) -> tuple[str, list[Record]]:
        """What became of the event, by the words of the metric, and the records that come of it."""
        try:
            outputs = await self._handle(event)
            _charge(outputs, event, meter)
            records = [record_of(output) for output in outputs]
            for output in outputs:
                metrics.appended(output)
            return "done", records
        except ModelBlocked as error:
            return "blocked", self._given_up(event, Failure.BLOCKED, str(error), meter)
        except ModelUnavailable as error:
            # A training that cannot be served pauses the run either way, and is not to be lost by that.
            trains = codec.kind_of(event) == "training_requested"
            failure = Failure.BLOCKED if trains else Failure.UNAVAILABLE
            return "unavailable", self._given_up(event, failure, str(error), meter)
        except ModelRefused as error:
            return "rejected", self._given_up(event, Failure.REJECTED, str(error), meter)
        except LogError:
            raise
        except Exception as error:  # a handler's own mistake must cost one slot, never the run
            _log.exception("%s failed on event %s", self.service.name, event.event_id)
            reason = f"{type(error).__name__}: {error}"[:_REASON_CHARS]
            letter = dead_record(stored, reason)
            return "dead", [letter, *self._given_up(event, Failure.REJECTED, reason, meter)]

    async def _handle(self, event: Event) -> Sequence[Event]:
        for pause_s in self.retries.pauses_s():
            try:
                return await self.service.handle(event)
            except ModelBlocked:
                raise
            except ModelUnavailable as error:
                self._inputs.retried()
                self._say(f"{self.service.name}: {error}; asking again")
                await asyncio.sleep(pause_s)
        return await self.service.handle(event)

    def _say(self, what: str) -> None:
        now_s = time.monotonic()
        self._said_s = {said: at_s for said, at_s in self._said_s.items() if now_s - at_s < _QUIET_S}
        if what not in self._said_s:
            self._said_s[what] = now_s
            _log.warning("%s", what)

    def _given_up(self, event: Event, failure: Failure, reason: str, meter: Meter) -> list[Record]:
        failed = failure_of(event, self.service.name, self.clock(), failure, _told(reason))
        if failed is None:
            return []
        _charge([failed], event, meter)
        metrics.appended(failed)
        try:
            return [record_of(failed)]
        except ValueError:  # a request of another program, whose names are too long for any record: nobody waits for it
            return []


def _charge(outputs: Sequence[Event], request: Event, meter: Meter) -> None:
    """What was spent on a request, the request's own too, goes onto the first event that came of it."""
    for output in outputs[:1]:
        output.usage.extend(request.usage)
        for model, used in meter.items():
            output.usage.add(
                model=model, prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens,
                calls=used.calls,
            )  # fmt: skip


def record_of(event: Event) -> Record:
    """The log record of an event, on the topic of its kind. Raises ValueError for one that its topic does not take."""
    topic, value = codec.topic_of(event), codec.encode(event)
    if len(value) > topic.max_record_bytes:
        raise ValueError(f"{codec.kind_of(event)} of {len(value)} bytes is over the limit of {topic.max_record_bytes}")
    key = codec.key_of(event)
    if max(len(key.encode()), len(event.event_id.encode())) > _KEY_BYTES:
        raise ValueError(f"{codec.kind_of(event)} has a key or an id of over {_KEY_BYTES} bytes")
    return Record(topic.name, key, event.event_id, value)


def dead_id(stored: Stored) -> str:
    """The id of the dead letter for a record: it follows from where that stands, so that two hosts write one letter."""
    return derived_id("dead", stored.topic, stored.partition, stored.offset)


def dead_record(stored: Stored, reason: str) -> Record:
    """A record for `bohdi.dead`: key and bytes of the original; headers say where it stood and why it is here, and how
    many bytes it had if they are not all here."""
    headers = [
        ("topic", stored.topic),
        ("partition", str(stored.partition)),
        ("offset", str(stored.offset)),
        ("original-event-id", stored.event_id[:_KEY_CHARS]),
        ("reason", _told(reason)),
    ]
    value = stored.value[: DEAD.max_record_bytes]
    if len(value) < len(stored.value):
        headers.append((CUT_FROM, str(len(stored.value))))
    return Record(DEAD.name, stored.key[:_KEY_CHARS], dead_id(stored), value, tuple(headers))


def _told(reason: str) -> str:
    """A reason as one bounded line that every record takes: a model's text may hold half a character."""
    return " ".join(reason.split())[:_REASON_CHARS].encode("utf-8", "replace").decode()


_FAILED_AS: dict[str, tuple[str, dict[str, Any]]] = {
    "sprout_requested": ("sprout_failed", {}),
    "harvest_requested": ("harvest_failed", {"stage": "generation"}),
    "answers_written": ("harvest_failed", {"stage": "verdict"}),
    "training_requested": ("training_failed", {}),
}


def failure_of(request: Event, producer: str, time_us: int, failure: Failure, reason: str) -> Event | None:
    """The event that settles what `request` asked as failed; None when it names nothing to settle."""
    kind = codec.kind_of(request)
    if kind not in _FAILED_AS:
        return None
    failed_kind, body = _FAILED_AS[kind]
    if kind == "sprout_requested":
        body = {"parent": request.sprout_requested.parent}
    elif kind == "training_requested":
        body = {"version": request.training_requested.version}
    return codec.result(request, producer, time_us, failed_kind, {**body, "failure": failure.value, "reason": reason})
