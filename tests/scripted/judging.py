"""`services.judging` on scripted models."""

from bohdi_common.runtime.service_main import run_worker
from services.judging.handler import CAPACITY, Judging
from tests.scripted import Scripted

if __name__ == "__main__":
    run_worker("judging", Judging.topic, CAPACITY, lambda around: Judging(around.models), models=Scripted)
