"""What of the samples that were drawn for a training is learnt, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bohdi_common.core.held_back import is_held_back
from bohdi_common.events.events_pb2 import TrainingRequested
from bohdi_common.models.port import Message
from services.training.job import Example, Preference
from services.training.samples import Sample


@dataclass(frozen=True)
class Lessons:
    """The different `examples` and the `order` in which they are seen; `preferences`, the pairs of a better and a worse
    answer among them; and what is `held_back` and only measured."""

    examples: list[Example]
    order: list[int]
    preferences: list[Preference]
    held_back: list[Example]


def lessons_of(
    run_id: str,
    asked: TrainingRequested,
    found: Mapping[int, Sample],
    ask_answer: Callable[[str], list[Message]],
) -> Lessons:
    """The samples of a request, `found` by run sequence, as lessons. Preferences are in the order in which they were
    drawn first, `dpo_max_pairs` at most. Raises ValueError when all samples are held back."""
    settings = asked.settings.training
    kept_back = {seq for seq in found if is_held_back(run_id, seq, settings.held_back_share)}
    position = {seq: index for index, seq in enumerate(seq for seq in sorted(found) if seq not in kept_back)}
    if not position:
        raise ValueError(f"all {len(found)} samples drawn are held back: lower training.held_back_share")

    def example(seq: int) -> Example:
        sample = found[seq]
        return Example(ask_answer(sample.question), sample.answer, sample.author)

    drawn = dict.fromkeys(seq for seq in asked.samples if seq in position and found[seq].worse)
    paired = list(drawn)[: settings.dpo_max_pairs] if settings.dpo_beta > 0 else []
    return Lessons(
        examples=[example(seq) for seq in position],
        order=[position[seq] for seq in asked.samples if seq in position],
        preferences=[
            Preference(ask_answer(found[seq].question), found[seq].answer, found[seq].worse) for seq in paired
        ],
        held_back=[example(seq) for seq in sorted(kept_back)],
    )
