"""The rows that one event gives to the tables in `columns`: pure, and without a memory of other events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bohdi.exports import columns as tables
from bohdi.exports.columns import Table
from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.events_pb2 import Event

Row = tuple[Any, ...]
Rows = Iterator[tuple[Table, Row]]

_LAUNCHERS = {pb.LAUNCHER_INPROCESS: "inprocess", pb.LAUNCHER_TORCHRUN: "torchrun", pb.LAUNCHER_TRAINJOB: "trainjob"}
_CLASSES = {failure.value: failure.name.lower() for failure in Failure}


def rows_of(sequence: int, event: Event, took_effect: bool) -> Rows:
    """Each row with its table. `took_effect`: whether the fold has taken in the harvest or rehearsal."""
    kind = codec.kind_of(event)
    body = getattr(event, kind)
    request_hash = getattr(body, "request_hash", "")
    place = (event.round, event.step, event.slot)
    yield (
        tables.EVENTS,
        (sequence, event.event_id, event.cause_id, kind, *place, event.time_us, event.producer, request_hash),
    )
    for used in event.usage:
        yield tables.USAGE, (sequence, used.model, used.prompt_tokens, used.completion_tokens, used.calls)
    if made := _OF_KIND.get(kind):
        yield from made(sequence, event, body, took_effect)


def _paths_drawn(sequence: int, event: Event, body: pb.PathsDrawn, took_effect: bool) -> Rows:
    for drawn in body.slots:
        yield (
            tables.DRAWS,
            (
                sequence, event.round, event.step, drawn.slot, 0, body.based_on, body.rehearsal,
                list(drawn.path), drawn.leader, drawn.request_hash, False,
            ),
        )  # fmt: skip


def _slot_continued(sequence: int, event: Event, body: pb.SlotContinued, took_effect: bool) -> Rows:
    drawn = body.drawn
    yield (
        tables.DRAWS,
        (
            sequence, event.round, event.step, drawn.slot, body.attempt + 1, body.based_on, False,
            list(drawn.path), drawn.leader, drawn.request_hash, body.given_up,
        ),
    )  # fmt: skip


def _harvest_judged(sequence: int, event: Event, body: pb.HarvestJudged, took_effect: bool) -> Rows:
    yield tables.HARVESTS, harvest(sequence, event, took_effect)
    for position, answer in enumerate(body.answers):
        yield tables.ANSWERS, (sequence, position, *_answer(answer), body.counted and position == body.best)
    for number, verdict in enumerate(body.verdicts):
        yield tables.VERDICTS, (sequence, number, *_verdict(body, verdict))
    yield from _refused(sequence, body.refused)


def harvest(sequence: int, event: Event, took_effect: bool) -> Row:
    """The row of a HarvestJudged in `harvests`."""
    body = event.harvest_judged
    best = body.answers[body.best] if 0 <= body.best < len(body.answers) else None
    return (
        sequence, event.round, event.step, event.slot, *_question(body), body.target_version, len(body.answers),
        None if best is None else body.best, "" if best is None else best.model, "" if best is None else best.text,
        body.counted, body.none_right, (1 if body.reward else 0) if body.counted else None, took_effect,
    )  # fmt: skip


def _question(body: pb.HarvestJudged | pb.RehearsalAnswered) -> Row:
    tokens = (body.question_prompt_tokens, body.question_completion_tokens)
    return (list(body.path), body.question, body.leader, body.question_style, body.prompts, *tokens)


def _answer(answer: pb.Answer) -> Row:
    return (
        answer.model, answer.version, answer.text, answer.finish_reason, answer.prompt_tokens,
        answer.completion_tokens, answer.seconds, answer.failed, answer.truncated,
        answer.mean_logprob if answer.HasField("mean_logprob") else None,
    )  # fmt: skip


def _verdict(judged: pb.HarvestJudged, verdict: pb.Verdict) -> Row:
    shown, choice = list(verdict.order), verdict.choice
    chosen = judged.answers[choice].model if 0 <= choice < len(judged.answers) else None
    return (
        verdict.judge, shown, choice if choice >= 0 else None, chosen,
        shown.index(choice) if choice in shown else None, verdict.reply, verdict.counted, verdict.none_right,
        verdict.prompt_tokens, verdict.completion_tokens,
    )  # fmt: skip


def _refused(sequence: int, refused: Sequence[pb.Refusal]) -> Rows:
    for refusal in refused:
        told = (refusal.what, refusal.model, refusal.gate, refusal.reason, refusal.text, refusal.like)
        yield tables.REFUSALS, (sequence, *told)


def _rehearsal_answered(sequence: int, event: Event, body: pb.RehearsalAnswered, took_effect: bool) -> Rows:
    place = (event.round, event.step, event.slot)
    yield tables.REHEARSALS, (sequence, *place, *_question(body), *_answer(body.answer), took_effect)


def _failed(sequence: int, event: Event, body: Any, took_effect: bool) -> Rows:
    failure = _CLASSES.get(body.failure, "")
    place = (event.round, event.step, event.slot)
    stage, question = getattr(body, "stage", ""), getattr(body, "question", "")
    yield tables.FAILURES, (sequence, *place, codec.kind_of(event), failure, body.reason, stage, question)


def _harvest_failed(sequence: int, event: Event, body: pb.HarvestFailed, took_effect: bool) -> Rows:
    yield from _failed(sequence, event, body, took_effect)
    yield from _refused(sequence, body.refused)


def _sprout_failed(sequence: int, event: Event, body: pb.SproutFailed, took_effect: bool) -> Rows:
    yield from _failed(sequence, event, body, took_effect)
    yield from _proposals(sequence, body)


def _slot_expired(sequence: int, event: Event, body: pb.SlotExpired, took_effect: bool) -> Rows:
    place = (event.round, event.step, event.slot)
    yield tables.FAILURES, (sequence, *place, "slot_expired", "", "no result in time", "", "")


def _domains_sprouted(sequence: int, event: Event, body: pb.DomainsSprouted, took_effect: bool) -> Rows:
    for name in body.names:
        yield tables.SPROUTS, (sequence, body.parent, name.name, name.votes, body.prompts)
    yield from _proposals(sequence, body)


def _proposals(sequence: int, body: pb.DomainsSprouted | pb.SproutFailed) -> Rows:
    for said in body.proposals:
        yield tables.PROPOSALS, (sequence, body.parent, said.model, said.text, said.votes, said.refused)


def _nodes_reborn(sequence: int, event: Event, body: pb.NodesReborn, took_effect: bool) -> Rows:
    for found in body.rebirths:
        window = (found.window_sum, found.window_length)
        yield tables.REBIRTHS, (sequence, event.round, found.node, *window, found.statistic, found.p_value)


def _training_drawn(sequence: int, event: Event, body: pb.TrainingDrawn, took_effect: bool) -> Rows:
    samples = body.samples[:]
    yield (
        tables.TRAININGS,
        (
            sequence, event.round, body.version, body.base_version, list(body.average_with), len(samples),
            len(set(samples)), body.from_rehearsal, body.from_replay, body.request_hash,
        ),
    )  # fmt: skip
    for position, sample in enumerate(samples):
        yield tables.TRAINING_SAMPLES, (sequence, position, sample)


def _target_promoted(sequence: int, event: Event, body: pb.TargetPromoted, took_effect: bool) -> Rows:
    yield (
        tables.TRAINING_RESULTS,
        (
            sequence, body.request_hash, body.version, True, "", "", body.manifest_digest, body.examples, body.steps,
            body.loss_first, body.loss_last, body.seconds, body.tokens, body.trial_answer, body.masked_share,
            body.preferences, body.preference_loss_first, body.preference_loss_last, *_held_back(body),
            *_launched(body), body.resumed_step,
        ),
    )  # fmt: skip


def _training_failed(sequence: int, event: Event, body: pb.TrainingFailed, took_effect: bool) -> Rows:
    yield from _failed(sequence, event, body, took_effect)
    failure = _CLASSES.get(body.failure, "")
    nothing = (None,) * 11
    yield (
        tables.TRAINING_RESULTS,
        (
            sequence, body.request_hash, body.version, False, failure, body.reason, *nothing, *_held_back(body),
            *_launched(body), None,
        ),
    )  # fmt: skip


def _held_back(body: pb.TargetPromoted | pb.TrainingFailed) -> Row:
    return body.held_back, body.held_back_loss_base, body.held_back_loss


def _launched(body: pb.TargetPromoted | pb.TrainingFailed) -> Row:
    return _LAUNCHERS.get(body.launcher, ""), body.processes


def _target_evaluated(sequence: int, event: Event, body: pb.TargetEvaluated, took_effect: bool) -> Rows:
    whole = (sequence, body.model, body.version, body.benchmark, body.harness)
    for score in body.scores:
        of = (score.metric, score.value) if score.metric else ("accuracy", score.accuracy)
        yield tables.EVALUATIONS, (*whole, score.domain, *of, score.stderr or None, score.questions or None)


_OF_KIND: dict[str, Callable[[int, Event, Any, bool], Rows]] = {
    "paths_drawn": _paths_drawn,
    "slot_continued": _slot_continued,
    "slot_expired": _slot_expired,
    "harvest_judged": _harvest_judged,
    "harvest_failed": _harvest_failed,
    "rehearsal_answered": _rehearsal_answered,
    "domains_sprouted": _domains_sprouted,
    "sprout_failed": _sprout_failed,
    "nodes_reborn": _nodes_reborn,
    "training_drawn": _training_drawn,
    "target_promoted": _target_promoted,
    "training_failed": _training_failed,
    "target_evaluated": _target_evaluated,
}
