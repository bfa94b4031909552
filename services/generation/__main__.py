"""Generation as a process on Kafka."""

from bohdi_common.models.places import place
from bohdi_common.runtime.kafka_feedback import FeedbackOfRuns
from bohdi_common.runtime.service_main import Surroundings, run_worker
from services.generation.handler import CAPACITY, Generation
from services.generation.near_duplicates import EarlierQuestions


def make(around: Surroundings) -> Generation:
    """The generation service."""
    return Generation(around.models, EarlierQuestions(FeedbackOfRuns(around.kafka).of), benchmark_of=place)


if __name__ == "__main__":
    run_worker("generation", Generation.topic, CAPACITY, make)
