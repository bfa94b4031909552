"""The topic registry: every topic's name, key, partitions, retention, record limit, producers and consumers.

Topics are created, manifests checked and the flow table in ARCHITECTURE.md written from here, and from nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from bohdi_common.core.limits import RECORD_BYTES_MAX

_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Topic:
    """`kinds`: the bodies that it carries. `retention_ms` -1: for ever."""

    name: str
    key: str
    partitions: int
    retention_ms: int
    kinds: tuple[str, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    max_record_bytes: int = RECORD_BYTES_MAX


FEEDBACK = Topic(
    "bohdi.feedback",
    key="run id",
    partitions=8,
    retention_ms=-1,
    kinds=(
        "run_started",
        "paths_drawn",
        "slot_continued",
        "domains_sprouted",
        "sprout_failed",
        "harvest_judged",
        "harvest_failed",
        "slot_expired",
        "rehearsal_answered",
        "nodes_reborn",
        "training_drawn",
        "target_promoted",
        "training_failed",
        "target_evaluated",
        "run_paused",
        "run_resumed",
        "run_finished",
    ),
    producers=("bandit", "tree_expansion", "generation", "judging", "training", "evaluation", "cli"),
    consumers=("bandit", "generation", "training", "evaluation"),
)
SPROUT_REQUESTS = Topic(
    "bohdi.sprout.requests", "request id", 8, 7 * _DAY_MS, ("sprout_requested",), ("bandit",), ("tree_expansion",)
)
HARVEST_REQUESTS = Topic(
    "bohdi.harvest.requests", "request id", 16, 7 * _DAY_MS, ("harvest_requested",), ("bandit",), ("generation",)
)
ANSWERS = Topic("bohdi.answers", "request id", 16, 7 * _DAY_MS, ("answers_written",), ("generation",), ("judging",))
TRAINING_REQUESTS = Topic(
    "bohdi.training.requests", "run id", 4, 30 * _DAY_MS, ("training_requested",), ("bandit",), ("training",)
)
DEAD = Topic(
    "bohdi.dead", "as the original", 1, -1, (),
    ("bandit", "tree_expansion", "generation", "judging", "training", "evaluation"), (),
)  # fmt: skip

TOPICS = (FEEDBACK, SPROUT_REQUESTS, HARVEST_REQUESTS, ANSWERS, TRAINING_REQUESTS, DEAD)
TOPIC_OF_KIND = {kind: topic for topic in TOPICS for kind in topic.kinds}


def flow_table() -> str:
    """The table of topics for ARCHITECTURE.md, in Markdown."""
    head = "| topic | key | kept | written by | read by |\n|---|---|---|---|---|\n"
    rows = (
        f"| {t.name} | {t.key} | {_kept(t)} | {', '.join(t.producers)} | {', '.join(t.consumers) or 'a person'} |"
        for t in TOPICS
    )
    return head + "\n".join(rows) + "\n"


def _kept(topic: Topic) -> str:
    return "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // _DAY_MS} days"
