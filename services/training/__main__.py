"""Training as a process on Kafka."""

from __future__ import annotations

from bohdi_common.models.adapters import prepare_torch
from bohdi_common.runtime import metrics
from bohdi_common.runtime.kafka_feedback import FeedbackOfRuns
from bohdi_common.runtime.service_main import Surroundings, run_worker
from services.training.handler import CAPACITY, Training
from services.training.samples import Samples


def make(around: Surroundings) -> Training:
    """The training service. Imports torch."""
    prepare_torch()
    metrics.training_begins()
    from services.training.finetune import fine_tune

    samples = Samples(FeedbackOfRuns(around.kafka).of)
    return Training(around.models, samples, around.stores.of, around.stores.folder_of, fine_tune, metrics.training_step)


if __name__ == "__main__":
    run_worker("training", Training.topic, CAPACITY, make)
