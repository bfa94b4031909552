"""The request topics held to the run: every request in them follows from a recorded decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bohdi.verify.ledger import Ledger
from bohdi.verify.report import Kind
from bohdi_common.core.ids import derived_id
from bohdi_common.core.tree import LEAF_LEVEL
from bohdi_common.events import events_pb2 as pb


def wrong_with(run: Ledger, event: pb.Event) -> Iterator[tuple[Kind, str]]:
    """What is wrong with a request, `run` being the whole run's ledger. What a request repeats is held to its hash:
    another path, leader or list of samples would have another."""
    kind = event.WhichOneof("body") or ""
    if kind not in _HASHED or not run.account.started:
        yield Kind.REQUEST, f"{kind or 'an unknown body'} is no request of a run"
        return
    body = getattr(event, kind)
    if not _was_asked(run, kind, body.request_hash):
        yield Kind.REQUEST, f"asks {body.request_hash!r}, which no recorded decision asked for"
    if not _HASHED[kind](run, event, body):
        yield Kind.HASH, f"request hash {body.request_hash!r} does not follow from what is asked"
    if event.event_id != derived_id(run.account.run_id, kind, body.request_hash):
        yield Kind.ID, f"event id {event.event_id} does not follow from the request {body.request_hash}"
    if body.settings.SerializeToString(deterministic=True) != run.lifecycle.settings_bytes:
        yield Kind.REQUEST, "its settings are not the run's"


def _was_asked(run: Ledger, kind: str, request_hash: str) -> bool:
    match kind:
        case "sprout_requested":
            return request_hash in run.asked.sprouts
        case "training_requested":
            return request_hash in run.asked.trainings
    return request_hash in run.asked


def _harvest(run: Ledger, event: pb.Event, body: pb.HarvestRequested) -> bool:
    return _of_leaf(run, event, body, "rehearsal" if body.rehearsal else "harvest")


def _answers(run: Ledger, event: pb.Event, body: pb.AnswersWritten) -> bool:
    return _of_leaf(run, event, body, "harvest")


def _of_leaf(run: Ledger, event: pb.Event, body: Any, kind: str) -> bool:
    arms = run.account.arms
    leaf = arms.named(body.path)
    if leaf is None or len(body.path) != LEAF_LEVEL:
        return False
    path = arms.path(leaf)
    place = (event.round, event.step, event.slot)
    rest = (*path, body.leader, body.target_version)
    return any(
        body.request_hash == derived_id(run.account.run_id, kind, *place, attempt, *rest)
        for attempt in range(run.step.max_attempt + 1)
    )


def _sprout(run: Ledger, event: pb.Event, body: pb.SproutRequested) -> bool:
    """The known children are those that the node had when it was asked: the first of those that it has now."""
    arms, sprout = run.account.arms, run.asked.sprouts.get(body.request_hash)
    if sprout is None:
        return False
    children = [arms[child].name for child in arms[sprout.parent].children.values()][: sprout.known]
    asked = (sprout.parent, sprout.want, *sprout.place, arms.path_names(sprout.parent), children)
    return asked == (body.parent, body.want, event.round, event.step, list(body.path), list(body.known))


def _training(run: Ledger, event: pb.Event, body: pb.TrainingRequested) -> bool:
    parts: tuple[str | int, ...] = (body.version, body.base_version, *body.average_with, *body.samples)
    place = (event.round, event.step)
    in_place = run.asked.trainings.get(body.request_hash, place) == place
    return in_place and body.request_hash == derived_id(run.account.run_id, "training", *parts)


_HASHED: dict[str, Callable[[Ledger, pb.Event, Any], bool]] = {
    "harvest_requested": _harvest,
    "answers_written": _answers,
    "sprout_requested": _sprout,
    "training_requested": _training,
}
