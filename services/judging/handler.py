"""Judging: who answered best, asked of a panel of sources, of models that only judge, or of the question's author."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.events_pb2 import AnswersWritten, Event, ModelSettings
from bohdi_common.events.topics import ANSWERS
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, ModelBlocked, ModelRef, ModelUnavailable, Sampling
from bohdi_common.runtime.shell import Clock, wall_clock_us
from services.judging import votes

CAPACITY = 128  # inputs in flight: a whole step waits for models that answer in batches
_REPLY_CHARS = 2000


@dataclass(frozen=True)
class Judged:
    """What one judge said: its verdicts as they stand in the event, and the vote that they come to."""

    verdicts: list[dict[str, Any]]
    vote: int


@dataclass
class Judging:
    models: ChatModels
    clock: Clock = wall_clock_us
    name: str = field(default="judging", init=False)
    topic = ANSWERS

    async def handle(self, event: Event) -> Sequence[Event]:
        """HarvestJudged, with every verdict and its order."""
        written = event.answers_written
        texts = [None if answer.failed else answer.text for answer in written.answers]
        judged: list[Judged] = []
        if len(votes.candidates(texts)) > 1:
            judged = await self._judged(event.run_id, written, texts)
            outcome = votes.decided([judge.vote for judge in judged], texts[votes.TARGET] is not None)
        else:
            outcome = votes.unanimous() if texts[votes.TARGET] is not None else votes.NO_VERDICT
        body = {
            "path": list(written.path),
            "question": written.question,
            "leader": written.leader,
            "target_version": written.target_version,
            "answers": list(written.answers),
            "verdicts": [verdict for judge in judged for verdict in judge.verdicts],
            "counted": outcome.counted,
            "best": outcome.best,
            "reward": outcome.reward,
            "none_right": outcome.none_right,
            "prompts": written.prompts,
            "question_style": written.question_style,
            "question_prompt_tokens": written.question_prompt_tokens,
            "question_completion_tokens": written.question_completion_tokens,
            "refused": list(written.refused),
        }
        return [codec.result(event, self.name, self.clock(), "harvest_judged", body)]

    async def _judged(self, run_id: str, written: AnswersWritten, texts: list[str | None]) -> list[Judged]:
        """What every judge said that could be reached. Raises ModelUnavailable when none could."""
        outcomes = await asyncio.gather(
            *(self._judge(run_id, written, texts, judge) for judge in judges(written)), return_exceptions=True
        )
        judged: list[Judged] = []
        for outcome in outcomes:
            if isinstance(outcome, Judged):
                judged.append(outcome)
            elif isinstance(outcome, ModelBlocked) or not isinstance(outcome, ModelUnavailable):
                raise outcome
        if not judged:
            raise ModelUnavailable(f"no judge could be reached: {outcomes[0]}")
        return judged

    async def _judge(
        self, run_id: str, written: AnswersWritten, texts: list[str | None], judge: ModelSettings
    ) -> Judged:
        """One judge's verdicts, each on an order and, if asked for, on its reverse; of each pair the first is counted,
        as a vote when both agree, else as an abstention."""
        rules = written.settings.judging
        orders = votes.orders(
            votes.candidates(texts),
            max(1, rules.verdicts),
            written.request_hash,
            judge.name,
            target_first=rules.mode == pb.JUDGING_MODE_LEADER,
        )
        asked = [[order, order[::-1]] if rules.both_orders else [order] for order in orders]
        verdicts = await asyncio.gather(
            *(self._verdict(run_id, written, order, judge) for shown in asked for order in shown)
        )
        own = _own_answer(written, texts, judge.name) if rules.without_own_votes else None
        cast = []
        for first in range(0, len(verdicts), len(asked[0])):
            vote = votes.agreed([_choice(verdict) for verdict in verdicts[first : first + len(asked[0])]])
            cast.append(votes.ABSTAINED if vote == own else vote)
            verdicts[first]["counted"] = cast[-1] != votes.ABSTAINED
        return Judged(list(verdicts), votes.majority(cast))

    async def _verdict(
        self, run_id: str, written: AnswersWritten, order: list[int], judge: ModelSettings
    ) -> dict[str, Any]:
        settings = written.settings
        prompt = prompts.load(settings.prompts)
        shown = [" ".join(written.answers[i].text.split()) if prompt.verdict_reply == "quote" else
                 written.answers[i].text for i in order]  # fmt: skip
        rules, form = settings.judging, prompt.form("verdict", len(shown))
        sampling = Sampling(rules.max_tokens, judge.temperature_verdict, rules.top_p, form=form)
        version = written.target_version if judge.name == settings.target.name else ""
        model = ModelRef.of(judge, version, run_id) if version else ModelRef.of(judge, asked_by=run_id)
        reply = await self.models.complete(model, prompt.ask_verdict(written.question, shown), sampling)
        completion = reply.completions[0]
        position = prompt.read_verdict(completion.text, shown)
        return {
            "judge": judge.name,
            "order": order,
            "choice": votes.ABSTAINED if position is None else order[position],
            "reply": completion.text[:_REPLY_CHARS].encode("utf-8", "replace").decode(),  # a half character, no text
            "counted": False,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "none_right": position is None and prompt.says_none_right(completion.text),
        }


def judges(written: AnswersWritten) -> list[ModelSettings]:
    """Who judges these answers, by the run's settings."""
    settings, rules = written.settings, written.settings.judging
    match rules.mode:
        case pb.JUDGING_MODE_LEADER:
            return [source for source in settings.sources if source.name == written.leader]
        case pb.JUDGING_MODE_JUDGE if rules.judge:
            everybody = (*settings.sources, settings.target, *rules.judges)
            return [model for model in everybody if model.name == rules.judge]
        case pb.JUDGING_MODE_JUDGE:
            return list(rules.judges)
        case pb.JUDGING_MODE_PANEL_WITHOUT_AUTHOR:
            return [*(source for source in settings.sources if source.name != written.leader), *rules.judges]
    return [*settings.sources, *rules.judges]


def _choice(verdict: dict[str, Any]) -> int:
    return votes.NONE_RIGHT if verdict["none_right"] else int(verdict["choice"])


def _own_answer(written: AnswersWritten, texts: list[str | None], judge: str) -> int | None:
    """The candidate that says what the judge answered itself, if it did."""
    wrote = next((index for index, answer in enumerate(written.answers) if answer.model == judge), None)
    return None if wrote is None else votes.standing_for(texts, wrote)
