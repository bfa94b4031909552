"""`services.generation` on scripted models."""

from bohdi_common.runtime.service_main import run_worker
from services.generation.__main__ import make
from services.generation.handler import CAPACITY, Generation
from tests.scripted import Scripted

if __name__ == "__main__":
    run_worker("generation", Generation.topic, CAPACITY, make, models=Scripted)
