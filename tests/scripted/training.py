"""`services.training` with a fine-tune that learns nothing."""

from bohdi_common.runtime.service_main import Surroundings, run_worker
from services.training.__main__ import FeedbackOfRuns
from services.training.handler import CAPACITY, Training
from services.training.samples import Samples
from tests.scripted import Scripted, copied


def make(around: Surroundings) -> Training:
    samples = Samples(FeedbackOfRuns(around.kafka).of)
    return Training(around.models, samples, around.stores.of, around.stores.folder_of, copied)


if __name__ == "__main__":
    run_worker("training", Training.topic, CAPACITY, make, models=Scripted)
