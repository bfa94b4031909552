"""Everything that a log ever took, in the order in which it became durable, for those who look at it afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from bohdi_common.log.port import Record, Stored


class Tape:
    """Moments number appends and acknowledgements in one order over all partitions. `partitions`: how many a topic has,
    1 where nothing is said."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.moment = 0
        self.acknowledged: dict[tuple[str, str, int], dict[int, int]] = {}  # moments by consumer and place, by offset
        self._counts = partitions
        self._stored: dict[tuple[str, int], list[Stored]] = defaultdict(list)
        self._moments: dict[tuple[str, int], list[int]] = defaultdict(list)

    def add(self, record: Record, partition: int) -> Stored:
        """Puts a record at the end of its partition."""
        place = self._stored[record.topic, partition]
        key, event_id, value, headers = record.key, record.event_id, record.value, record.headers
        stored = Stored(record.topic, len(place), key, event_id, value, headers, partition)
        place.append(stored)
        self._moments[record.topic, partition].append(self._next())
        return stored

    def acknowledge(self, consumer: str, topic: str, partition: int, offsets: Iterable[int]) -> None:
        """Notes that a consumer said of these inputs that they need no more handling."""
        marks = self.acknowledged.setdefault((consumer, topic, partition), {})
        moment = self._next()
        for offset in offsets:
            marks.setdefault(offset, moment)

    def _next(self) -> int:
        self.moment += 1
        return self.moment

    def partitions(self, topic: str) -> int:
        return self._counts.get(topic, 1)

    def stored(self, topic: str, partition: int) -> list[Stored]:
        """The partition itself, to be looked at only."""
        return self._stored[topic, partition]

    def of(self, topic: str) -> list[tuple[int, Stored]]:
        """(moment, record) of the whole topic, partition by partition."""
        return [
            pair
            for partition in range(self.partitions(topic))
            for pair in zip(self._moments[topic, partition], self._stored[topic, partition], strict=True)
        ]
