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
    if kind not in _HASHED or run.settings is None:
        yield Kind.REQUEST, f"{kind or 'an unknown body'} is no request of a run"
        return
    body = getattr(event, kind)
    if not _ASKED.get(kind, Ledger.was_asked)(run, body.request_hash):
        yield Kind.REQUEST, f"asks {body.request_hash!r}, which no recorded decision asked for"
    if not _HASHED[kind](run, event, body):
        yield Kind.HASH, f"request hash {body.request_hash!r} does not follow from what is asked"
    if event.event_id != derived_id(run.run_id, kind, body.request_hash):
        yield Kind.ID, f"event id {event.event_id} does not follow from the request {body.request_hash}"
    if body.settings.SerializeToString(deterministic=True) != run.settings_bytes:
        yield Kind.REQUEST, "its settings are not the run's"


def _harvest(run: Ledger, event: pb.Event, body: pb.HarvestRequested) -> bool:
    return _of_leaf(run, event, body, "rehearsal" if body.rehearsal else "harvest")


def _answers(run: Ledger, event: pb.Event, body: pb.AnswersWritten) -> bool:
    return _of_leaf(run, event, body, "harvest")


def _of_leaf(run: Ledger, event: pb.Event, body: Any, kind: str) -> bool:
    leaf = run.arms.named(body.path)
    if leaf is None or len(body.path) != LEAF_LEVEL:
        return False
    path = run.arms.path(leaf)
    place = (event.round, event.step, event.slot)
    return any(
        body.request_hash == derived_id(run.run_id, kind, *place, attempt, *path, body.leader, body.target_version)
        for attempt in range(run.max_attempt + 1)
    )


def _sprout(run: Ledger, event: pb.Event, body: pb.SproutRequested) -> bool:
    """The known children are those that the node had when it was asked: the first of those that it has now."""
    sprout = run.sprouts_asked.get(body.request_hash)
    if sprout is None:
        return False
    children = [run.arms[child].name for child in run.arms[sprout.parent].children.values()][: sprout.known]
    asked = (sprout.parent, sprout.want, *sprout.place, run.arms.path_names(sprout.parent), children)
    return asked == (body.parent, body.want, event.round, event.step, list(body.path), list(body.known))


def _training(run: Ledger, event: pb.Event, body: pb.TrainingRequested) -> bool:
    parts: tuple[str | int, ...] = (body.version, body.base_version, *body.average_with, *body.samples)
    place = run.trainings_asked.get(body.request_hash, (event.round, event.step))
    return body.request_hash == derived_id(run.run_id, "training", *parts) and place == (event.round, event.step)


_ASKED: dict[str, Callable[[Ledger, str], bool]] = {
    "sprout_requested": lambda run, request_hash: request_hash in run.sprouts_asked,
    "training_requested": lambda run, request_hash: request_hash in run.trainings_asked,
}
_HASHED: dict[str, Callable[[Ledger, pb.Event, Any], bool]] = {
    "harvest_requested": _harvest,
    "answers_written": _answers,
    "sprout_requested": _sprout,
    "training_requested": _training,
}
