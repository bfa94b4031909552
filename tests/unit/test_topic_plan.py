"""What is done so that a cluster has the registry's topics, and what is never done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bohdi_common.events.topics import ANSWERS, DEAD, FEEDBACK, TOPICS, Topic
from bohdi_common.runtime.kafka_topics import Found, configs_of, plan


def as_registered(topic: Topic, replication: int = 1) -> Found:
    return Found(topic.partitions, replication, {**configs_of(topic, replication), "segment.bytes": "1"})


def test_a_cluster_as_the_registry_has_it_needs_nothing() -> None:
    found = {topic.name: as_registered(topic, 3) for topic in TOPICS}
    made = plan(TOPICS, found, 3)
    assert (made.missing, made.grow, made.alter, made.refused, made.differences) == ([], {}, {}, [], [])


def test_what_is_missing_is_made() -> None:
    made = plan(TOPICS, {}, 1)
    assert made.missing == list(TOPICS)
    assert made.differences[0] == "bohdi.feedback: missing"


def test_the_feedback_log_is_kept_for_ever_and_never_compacted() -> None:
    configs = configs_of(FEEDBACK, 3)
    assert (configs["retention.ms"], configs["retention.bytes"], configs["cleanup.policy"]) == ("-1", "-1", "delete")
    assert configs["min.insync.replicas"] == "2"


def test_a_topic_with_too_few_partitions_grows_and_one_with_too_many_is_refused() -> None:
    few, many = (replace(as_registered(ANSWERS), partitions=n) for n in (4, 40))
    assert plan([ANSWERS], {ANSWERS.name: few}, 1).grow == {ANSWERS.name: 16}
    made = plan([ANSWERS], {ANSWERS.name: many}, 1)
    assert made.grow == {}
    assert made.refused == ["bohdi.answers: has 40 partitions: Kafka cannot take any away; make the topic anew"]


@pytest.mark.parametrize("partitions", [1, 4, 9, 64])
def test_the_partitions_of_the_feedback_log_are_never_changed(partitions: int) -> None:
    found = {FEEDBACK.name: replace(as_registered(FEEDBACK), partitions=partitions)}
    made = plan([FEEDBACK], found, 1)
    assert made.grow == {}
    assert "would re-key it" in made.refused[0]


def test_a_setting_that_differs_is_named_and_altered() -> None:
    there = as_registered(DEAD)
    found = {DEAD.name: replace(there, configs={**there.configs, "cleanup.policy": "compact"})}
    made = plan([DEAD], found, 1)
    assert made.alter == {DEAD.name: {"cleanup.policy": "delete"}}
    assert made.differences == ["bohdi.dead: cleanup.policy compact, to be delete"]


def test_another_replication_is_told_and_left_to_the_operator() -> None:
    made = plan([DEAD], {DEAD.name: as_registered(DEAD, 1)}, 3)
    assert "bohdi.dead: replication 1, to be 3" in made.differences
    assert "reassigning partitions" in made.refused[0]
