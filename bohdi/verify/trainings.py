"""What a training says of itself, held against the settings it was asked under and the samples that were drawn."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bohdi_common.core.held_back import is_held_back
from bohdi_common.core.state import Failure
from bohdi_common.events import events_pb2 as pb


@dataclass(slots=True)
class Training:
    """A training that is asked for. `examples`: draws that may be trained on; `held_back`: the different samples among
    the other draws."""

    request_hash: str
    version: str
    examples: int
    held_back: int
    place: tuple[int, int]


def split(run_id: str, samples: Collection[int], share: float) -> tuple[int, int]:
    """`examples` and `held_back` of the samples drawn, of which `share` is held back."""
    kept_back = {sample for sample in set(samples) if is_held_back(run_id, sample, share)}
    return sum(sample not in kept_back for sample in samples), len(kept_back)


def _launched(rules: pb.TrainingSettings, body: pb.TargetPromoted | pb.TrainingFailed) -> Iterator[str]:
    """A version from before there were launchers says nothing of them, nor does what failed before it was launched."""
    asked = rules.launcher or pb.LAUNCHER_INPROCESS
    processes = max(1, rules.processes) * max(1, rules.nodes)
    if body.launcher and (body.launcher, body.processes) != (asked, processes):
        yield f"launched by {body.launcher} in {body.processes} processes, asked were {asked} and {processes}"


def promoted(rules: pb.TrainingSettings, training: Training, body: pb.TargetPromoted) -> Iterator[str]:
    """What is wrong with a promotion, a line each."""
    if body.examples != training.examples:
        yield f"trained on {body.examples} samples, asked were {training.examples}"
    yield from _launched(rules, body)
    if body.resumed_step and not (rules.checkpoint_steps or rules.checkpoint_s):
        yield f"gone on from step {body.resumed_step}, though no checkpoints were asked for"
    yield from _held_back(training, body)
    if body.held_back and _rose(rules, body):
        yield f"promoted, though the held-back loss rose from {body.held_back_loss_base:g} to {body.held_back_loss:g}"
    yield from _masked(rules, body)
    most_pairs = rules.dpo_max_pairs if rules.dpo_beta > 0 else 0
    if body.preferences > most_pairs:
        yield f"{body.preferences} preference pairs, the settings allow {most_pairs}"


def failed(rules: pb.TrainingSettings, training: Training, body: pb.TrainingFailed) -> Iterator[str]:
    """What is wrong with a failure, a line each."""
    yield from _launched(rules, body)
    yield from _held_back(training, body)
    if body.held_back and (body.failure != Failure.REJECTED or not _rose(rules, body)):
        yield f"refused, though the held-back loss went from {body.held_back_loss_base:g} to {body.held_back_loss:g}"


def _rose(rules: pb.TrainingSettings, body: pb.TargetPromoted | pb.TrainingFailed) -> bool:
    return body.held_back_loss > body.held_back_loss_base * (1 + rules.held_back_loss_rise)


def _held_back(training: Training, body: pb.TargetPromoted | pb.TrainingFailed) -> Iterator[str]:
    losses = (body.held_back_loss_base, body.held_back_loss)
    if body.held_back > training.held_back:
        yield f"{body.held_back} held-back samples measured, drawn were {training.held_back}"
    if not body.held_back and any(losses):
        yield "a held-back loss without held-back samples"
    if not all(math.isfinite(loss) and loss >= 0 for loss in losses):
        yield f"held-back losses {losses[0]:g} and {losses[1]:g} cannot be"


def _masked(rules: pb.TrainingSettings, body: pb.TargetPromoted) -> Iterator[str]:
    if not rules.stm_perplexity > 0 and (body.masked or body.fully_masked or body.masked_share):
        yield "masked tokens, though stm_perplexity is 0"
    tokens, masked = (sum(getattr(part, name) for part in body.masked) for name in ("tokens", "masked"))
    if any(part.masked > part.tokens for part in body.masked):
        yield "more tokens masked than there are"
    if not math.isclose(body.masked_share, masked / tokens if tokens else 0.0, abs_tol=1e-9):
        yield f"a masked share of {body.masked_share:g}, counted are {masked} of {tokens} tokens"
