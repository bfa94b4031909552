"""Runs over Kafka: to their end, beside each other, under two bandits, and out of the cluster again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bohdi.kafka_places import KafkaPlace
from bohdi.kafka_runs import copy_to_folder, copy_to_kafka
from bohdi.run_folder import RunFolder
from bohdi.run_places import events
from bohdi.verify_run import verify_folder, verify_on_kafka
from bohdi_common.core.state import ALL_ROUNDS_DONE, state_sha256
from devbroker.broker import Broker
from tests.kafka_runs.cluster import cluster

RUN_S = 150
# A run whose generation remembers, from the feedback topic, what was asked, and whose judges are asked more often.
CAREFUL = {
    "harvest": {"near_duplicate": 0.9, "question_samples": 2},
    "judging": {"mode": "panel_without_author", "verdicts": 3, "both_orders": True},
}


async def test_two_runs_at_once_each_end_clean_and_their_copies_have_their_hashes(
    own_broker: Broker, tmp_path: Path
) -> None:
    async with cluster(own_broker, tmp_path) as services:
        places = [await services.submit("one", 0), await services.submit("other", 1, **CAREFUL)]
        states = await asyncio.gather(*(services.ended(place, RUN_S) for place in places))
    for place, state in zip(places, states, strict=True):
        assert state.finished == ALL_ROUNDS_DONE, state.paused
        report = verify_on_kafka(place)
        assert report["problems"] == []
        assert report["checked"]["harvests"] > 60
        folder = RunFolder(tmp_path / f"copy-{place.run_id}")
        assert await asyncio.to_thread(copy_to_folder, place, folder) == state.sequence
        assert verify_folder(folder)["problems"] == []
        again, copied = await asyncio.to_thread(copy_to_kafka, folder, services.place)
        assert (again.run_id, copied) == (place.run_id, state.sequence)
        assert state_sha256(services.state(again)) == state_sha256(state)
    refused = {place.run_id: refusals_of(place) for place in places}
    assert not refused["one"] & {"near_duplicate"} and "near_duplicate" in refused["other"]


def refusals_of(place: KafkaPlace) -> set[str]:
    """The gates that refused something in the run."""
    bodies = [getattr(event, event.WhichOneof("body") or "") for event in events(place)]
    return {refusal.gate for body in bodies for refusal in getattr(body, "refused", ())}
