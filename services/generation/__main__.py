"""Generation as a process on Kafka."""

from bohdi_common.models.places import place
from bohdi_common.runtime.service_main import run_worker
from services.generation.handler import CAPACITY, Generation

if __name__ == "__main__":
    run_worker("generation", Generation.topic, CAPACITY, lambda around: Generation(around.models, benchmark_of=place))
