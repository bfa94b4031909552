"""Reading the feedback log of runs on Kafka, for a service that remembers what was said."""

from __future__ import annotations

from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_records import partition_of
from bohdi_common.log.kafka_settings import KafkaSettings


class FeedbackOfRuns:
    """A reader for every partition of the feedback topic that is asked for."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._partitions = 0
        self._readers: dict[int, KafkaReader] = {}

    def of(self, run_id: str) -> KafkaReader:
        """The reader of the partition in which a run stands."""
        if not self._partitions:
            reader = KafkaReader(self._kafka)
            self._partitions = reader.partitions(FEEDBACK.name)
            reader.close_reading()
        number = partition_of(run_id, self._partitions)
        return self._readers.setdefault(number, KafkaReader(self._kafka, number))
