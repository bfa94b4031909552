"""Provenance in words, for a terminal: lines and nothing that could move the cursor, for the texts are models'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bohdi.visible import visible

_CHARS = 300  # of a text that is shown; --json has all of it
_CARRIED = 10  # numbers of samples that are shown
_EPOCH, _LATEST_S = datetime(1970, 1, 1, tzinfo=UTC), 200_000_000_000  # in a log anything may stand


def sample(told: dict[str, Any], top: int) -> Iterator[str]:
    """A training sample."""
    when = (_EPOCH + timedelta(seconds=min(max(0, told["time_us"] // 1_000_000), _LATEST_S))).isoformat()
    place = f"round {told['round']}, step {told['step']}, slot {told['slot']}"
    yield f"sample {told['sequence']} ({told['kind']}, {told['event_id']}): {place}, {when}"
    yield f"domain: {_path(told['path'])}"
    style = f", asked to be {_short(told['question_style'])}" if told["question_style"] else ""
    yield f"question, by {visible(told['leader'])} with the prompts {visible(told['prompts'])}{style}:"
    yield f"    {_short(told['question'])}"
    yield from _answers(told)
    yield from _verdicts(told, top)
    yield "drawn:"
    for draw in told["draws"]:
        yield from _draw(draw)
    if not told["draws"]:
        yield "    no decision in the log asked for it"
    yield from _models(told["models"])
    if told["held_back"]:
        yield "held back: no training learns it"
    for used in told["trainings"]:
        yield f"trained in {visible(used['version'])}: {used['draws']} of {used['of']} draws, {_short(used['outcome'])}"
    if not told["trainings"]:
        yield "no training drew it" + ("" if told["took_effect"] else ": it came too late, or to no verdict")


def _answers(told: dict[str, Any]) -> Iterator[str]:
    for position, answer in enumerate(told["answers"]):
        best = " (the best)" if told.get("best") == position else ""
        version = f" {visible(answer['version'])}" if answer["version"] else ""
        yield f"answer {position}, by {visible(answer['model'])}{version}{best}:"
        yield f"    {_short(answer['text'])}" if not answer["failed"] else f"    none: {_short(answer['failed'])}"
    for refused in told.get("refused", ()):
        gate = f"{refused['what']} of {visible(refused['model'])} by {visible(refused['gate'])}"
        yield f"refused {gate}: {_short(refused['text'])}"


def _verdicts(told: dict[str, Any], top: int) -> Iterator[str]:
    verdicts = told.get("verdicts", [])
    for verdict in verdicts[:top]:
        order = ", ".join(map(str, verdict["order"]))
        said = "none is right" if verdict["none_right"] else "abstained"
        chose = said if verdict["choice"] is None else f"answer {verdict['choice']}, of {visible(verdict['chosen'])}"
        counts = "" if verdict["counted"] else ", not counted"
        yield f"judge {visible(verdict['judge'])}, shown {order}: {chose}{counts}: {_short(verdict['reply'])}"
    yield from _more(len(verdicts), top, "verdicts")
    if "counted" in told:
        yield f"outcome: {_outcome(told)}"


def _outcome(told: dict[str, Any]) -> str:
    effect = "" if told["took_effect"] else ", without effect: it came too late, or to no verdict"
    if not told["counted"]:
        return ("no answer is right" if told["none_right"] else "no verdict") + effect
    return f"reward {told['reward']}, the target {'lost' if told['reward'] else 'won'}{effect}"


def _draw(draw: dict[str, Any]) -> Iterator[str]:
    to = _path(draw["to"]) or "Root"
    if draw["probability"] is None:
        yield f"    at {draw['sequence']}, to {to}: {draw['by'] or 'its probability cannot be told'}"
        return
    by = f"by {draw['by']} in the state after {draw['based_on']} events"
    found = "" if draw["turns"] else ", the domain just found"
    yield f"    at {draw['sequence']}, {by}, with probability {draw['probability']:.4g}, to {to}{found}"
    for turn in draw["turns"]:
        beta = f"Beta({turn['alpha']}, {turn['beta']})"
        name = "a new domain" if turn["unk"] else visible(turn["arm"])
        yield f"        {name}: {turn['probability']:.4f}, {beta} among {turn['among']}"
    if draw["leader_probability"] < 1:
        yield f"        {visible(draw['leader'])} to write the question: {draw['leader_probability']:.4f}"


def _models(models: Sequence[dict[str, Any]]) -> Iterator[str]:
    for model in models:
        version = f" {visible(model['version'])}" if model["version"] else ""
        digest = f"SHA-256 {model['digest']}" if model["digest"] else "SHA-256 not known"
        yield f"{model['role']} {visible(model['name'])}{version}: {digest}"


def node(told: dict[str, Any], top: int) -> Iterator[str]:
    """A domain."""
    yield f"domain {told['node']}: {_path(told['path'])}{'' if told['open'] else ' (closed)'}"
    born = told["born"]
    yield f"born with event {born['sequence']}, in round {born['round']}, by {born['by']}"
    for said in born["proposals"]:
        yield f"    proposed by {visible(said['model'])}, {said['votes']} votes: {_short(said['text'])}"
    if born["votes"]:
        yield f"    {born['votes']} votes, asked with the prompts {visible(born['prompts'])}"
    at = told["posterior"]
    yield f"lambda {at['lambda']:.4f}, Beta({at['alpha']}, {at['beta']}), after Beta(1, 1)"
    window = told["window"]
    yield f"window: {window['wins']} losses of the target in the last {window['length']} rewards at most"
    lost = sum(reward["reward"] for reward in told["rewards"])
    yield f"{len(told['rewards'])} rewards, {lost} of them 1; {told['without_reward']} results came to none"
    for reward in told["rewards"][-top:]:
        leaf = f", {visible(reward['leaf'][-1])}" if "leaf" in reward else ""
        yield f"    sample {reward['sequence']}, round {reward['round']}{leaf}: {reward['reward']}"
    yield from _more(len(told["rewards"]), top, "earlier rewards")
    for reborn in told["rebirths"][-top:]:
        before, after = (f"Beta({p['alpha']}, {p['beta']})" for p in (reborn["before"], reborn["after"]))
        window = f"{reborn['window_sum']} of {reborn['window_length']} in the window"
        test = f"statistic {reborn['statistic']:.3f}, p {reborn['p_value']:.3g}"
        yield f"reborn at {reborn['sequence']}, round {reborn['round']}: {window}, {test}: {before} to {after}"
    yield from _more(len(told["rebirths"]), top, "earlier rebirths")
    if not told["rebirths"]:
        yield "never reborn"


def version(told: dict[str, Any], top: int) -> Iterator[str]:
    """A version of the target."""
    yield f"version {visible(told['version'])}"
    if "target" in told:
        yield f"the target as the run found it: SHA-256 {told['target']['digest'] or 'not known'}"
    else:
        yield from _training(told, top)
    for scored in told["evaluations"]:
        yield from _evaluation(scored, top)
    if not told["evaluations"]:
        yield "never evaluated"


def _training(told: dict[str, Any], top: int) -> Iterator[str]:
    average = f", averaged with {', '.join(map(visible, told['average_with']))}" if told["average_with"] else ""
    yield f"drawn at {told['sequence']}, round {told['round']}, from {visible(told['base_version'])}{average}"
    by_bandit = told["draws"] - told["from_rehearsal"] - told["from_replay"]
    split = f"{by_bandit} by the bandit, {told['from_replay']} replayed, {told['from_rehearsal']} rehearsed"
    yield f"{told['draws']} draws of {told['different']} samples: {split}"
    for what in ("by_domain", "by_author"):
        counts = list(told[what].items())
        for name, draws in counts[:top]:
            yield f"    {draws} draws {what.replace('_', ' ')} {visible(name)}"
        yield from _more(len(counts), top, what.removeprefix("by_") + "s")
    yield from _result(told["result"])
    held_back = sum(row["held_back"] for row in told["samples"])
    if held_back:
        yield f"{held_back} samples are held back and not learnt"
    numbers = ", ".join(str(row["sequence"]) for row in told["samples"][:_CARRIED])
    yield f"samples: {numbers}{' ...' if len(told['samples']) > _CARRIED else ''} (`bohdi why sample N`)"


def _result(result: dict[str, Any]) -> Iterator[str]:
    if result["outcome"] != "promoted":
        yield f"{result['outcome']}" + (f": {_short(result['reason'])}" if "reason" in result else "")
        return
    losses = f"loss {result['loss_first']:.4f} to {result['loss_last']:.4f}"
    yield f"promoted at {result['sequence']}: {result['steps']} steps, {result['seconds']:.1f} s, {losses}"
    if result["held_back"]:
        moved = f"{result['held_back_loss_base']:.4f} to {result['held_back_loss']:.4f}"
        yield f"loss on {result['held_back']} samples held back: {moved}"
    if result["preferences"]:
        moved = f"{result['preference_loss_first']:.4f} to {result['preference_loss_last']:.4f}"
        yield f"loss on {result['preferences']} preferences: {moved}"
    yield f"SHA-256 of its manifest: {result['manifest_digest'] or 'not recorded'}"
    yield f"tried: {_short(result['trial_answer'])}"


def _evaluation(scored: dict[str, Any], top: int) -> Iterator[str]:
    by = scored["harness"] or "exact answers"
    yield f"evaluated at {scored['sequence']} on {visible(scored['benchmark'])}, by {visible(by)}:"
    for score in scored["scores"][:top]:
        value = f"{score['metric']} {score['value']:.4f}" if score["metric"] else f"accuracy {score['accuracy']:.4f}"
        asked = f" of {score['questions']} questions" if score["questions"] else ""
        yield f"    {visible(score['domain'])}: {visible(value)}{asked}"
    yield from _more(len(scored["scores"]), top, "scores")


def _path(names: Sequence[str]) -> str:
    return visible(" > ".join(names))


def _short(text: str) -> str:
    shown = visible(text[: _CHARS + 1])
    return shown if len(text) <= _CHARS else f"{visible(text[:_CHARS])} ... ({len(text)} characters)"


def _more(count: int, top: int, what: str) -> Iterator[str]:
    if count > top:
        yield f"    and {count - top} {what} more (--top, --json)"
