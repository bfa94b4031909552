"""Judging: who answered best, asked of a panel of sources (or, in the paper's way, of the question's author)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import JUDGING_MODE_LEADER, AnswersWritten, Event, ModelSettings
from bohdi_common.events.topics import ANSWERS
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, ModelRef, ModelUnavailable, Sampling
from bohdi_common.runtime.shell import Clock, wall_clock_us
from services.judging import votes

CAPACITY = 128  # inputs in flight: a whole step waits for models that answer in batches
_REPLY_CHARS = 2000


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
        candidates = votes.candidates(texts)
        verdicts: list[dict[str, Any]] = []
        if len(candidates) > 1:
            verdicts = await self._verdicts(event.run_id, written, candidates)
            cast = [verdict["choice"] for verdict in verdicts if verdict["counted"]]
            outcome = votes.decided(cast, texts[votes.TARGET] is not None)
        else:
            outcome = votes.unanimous() if texts[votes.TARGET] is not None else votes.NO_VERDICT
        body = {
            "path": list(written.path),
            "question": written.question,
            "leader": written.leader,
            "target_version": written.target_version,
            "answers": list(written.answers),
            "verdicts": verdicts,
            "counted": outcome.counted,
            "best": outcome.best,
            "reward": outcome.reward,
            "prompts": written.prompts,
            "question_prompt_tokens": written.question_prompt_tokens,
            "question_completion_tokens": written.question_completion_tokens,
        }
        return [codec.result(event, self.name, self.clock(), "harvest_judged", body)]

    async def _verdicts(self, run_id: str, written: AnswersWritten, candidates: list[int]) -> list[dict[str, Any]]:
        """Of every judge the verdict on an order and, if asked for, on its reverse; of each pair one is counted, as a
        vote when both agree, else as an abstention. Raises ModelUnavailable when no judge answered."""
        settings = written.settings
        by_leader = settings.judging.mode == JUDGING_MODE_LEADER
        judges = [s for s in settings.sources if not by_leader or s.name == written.leader]
        outcomes = await asyncio.gather(
            *(self._judge(run_id, written, candidates, judge, fixed=by_leader) for judge in judges),
            return_exceptions=True,
        )
        verdicts: list[dict[str, Any]] = []
        for outcome in outcomes:
            if isinstance(outcome, list):
                verdicts += outcome
            elif not isinstance(outcome, ModelUnavailable):
                raise outcome
        if not verdicts:
            raise ModelUnavailable("no judge could be reached")
        return verdicts

    async def _judge(
        self, run_id: str, written: AnswersWritten, candidates: list[int], judge: ModelSettings, fixed: bool
    ) -> list[dict[str, Any]]:
        order = list(candidates) if fixed else votes.shuffled(candidates, written.request_hash, judge.name)
        orders = [order, order[::-1]] if written.settings.judging.both_orders else [order]
        verdicts = list(await asyncio.gather(*(self._verdict(run_id, written, order, judge) for order in orders)))
        if votes.agreed([verdict["choice"] for verdict in verdicts]) != votes.ABSTAINED:
            verdicts[0]["counted"] = True
        return verdicts

    async def _verdict(
        self, run_id: str, written: AnswersWritten, order: list[int], judge: ModelSettings
    ) -> dict[str, Any]:
        settings = written.settings
        prompt = prompts.load(settings.prompts)
        shown = [" ".join(written.answers[i].text.split()) if prompt.verdict_reply == "quote" else
                 written.answers[i].text for i in order]  # fmt: skip
        rules, form = settings.judging, prompt.form("verdict", len(shown))
        sampling = Sampling(rules.max_tokens, judge.temperature_verdict, rules.top_p, form=form)
        model = ModelRef.of(judge, asked_by=run_id)
        reply = await self.models.complete(model, prompt.ask_verdict(written.question, shown), sampling)
        completion = reply.completions[0]
        position = prompt.read_verdict(completion.text, shown)
        return {
            "judge": judge.name,
            "order": order,
            "choice": votes.ABSTAINED if position is None else order[position],
            "reply": completion.text[:_REPLY_CHARS],
            "counted": False,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        }
