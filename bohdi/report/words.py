"""The verdict on a run in sentences, each of which says what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bohdi.figures import phase, why_paused
from bohdi.report.collected import Collected
from bohdi.report.contents import Contents
from bohdi_common.core.state import ALL_ROUNDS_DONE

Row = dict[str, Any]


def verdict(contents: Contents, collected: Collected) -> list[str]:
    """What a reader wants to know first: how far it is, whether the target got better, where it still loses, and what
    went wrong."""
    return [
        _headline(contents),
        _standing(collected),
        *_learnt(contents),
        *_judged(contents.rounds),
        *_weak(contents),
        *_trouble(contents),
    ]


def _headline(contents: Contents) -> str:
    """Whether it came to anything, by what was held out."""
    found = contents.accuracy
    if not contents.trainings:
        return "Nothing was trained yet."
    if found is None or len(found["versions"]) < 2:
        return "Whether the target got better was not measured."
    first, last = found["means"]["overall"][0], found["means"]["overall"][-1]
    if last <= first:
        return "The target did not get better."
    best = max((source["overall"] for source in found["sources"].values()), default=None)
    if best is None:
        return "The target got better."
    beside = "and is better than every source" if last > best else "but a source is as good still"
    return f"The target got better, {beside}."


def _standing(collected: Collected) -> str:
    state = collected.state
    rounds = state.rules.rounds if state.rules else 0
    if state.finished == ALL_ROUNDS_DONE:
        return f"The run is finished: {_count(rounds, 'round')} of {rounds} are done."
    done = f"{state.round} of {_count(rounds, 'round')} {'is' if state.round == 1 else 'are'} done"
    if state.finished:
        return f"The run ended early, {done}: {state.finished}."
    if state.paused:
        return f"The run is paused, {done}: {why_paused(collected.figures, state)}."
    return f"The run is not over: {done}, and round {state.round + 1} is in {phase(state)}."


def _learnt(contents: Contents) -> Iterator[str]:
    trained = f"The target was trained {_times(len(contents.closing['trainings']))}"
    found = contents.accuracy
    if found is None:
        yield (
            f"{trained}, and no held-out evaluation is in the log: what the judges said is all there is to go by."
            if contents.trainings
            else "No held-out evaluation is in the log: what the judges said is all there is to go by."
        )
        return
    first, last = found["means"]["overall"][0], found["means"]["overall"][-1]
    if len(found["versions"]) > 1:
        way = "rose" if last > first else "fell" if last < first else "stayed"
        yield (
            f"{trained}: its held-out accuracy {way} from {_share(first)} to {_share(last)} ({found['versions'][-1]})"
            f"{_parts(found['means'])}."
        )
    else:
        yield f"Its held-out accuracy was {_share(last)} at the start ({found['versions'][-1]})."
    if found["sources"]:
        name, best = max(found["sources"].items(), key=lambda item: item[1]["overall"])
        stands = "above" if last > best["overall"] else "below" if last < best["overall"] else "level with"
        yield f"That is {stands} the best single source, {name}, with {_share(best['overall'])}."


def _parts(means: Row) -> str:
    """In domains that it did not know at the start, and in those that it did."""
    named = {"new": "in domains it did not know at the start", "old": "in those it knew"}
    told = [
        f"{words} from {_share(means[part][0])} to {_share(means[part][-1])}"
        for part, words in named.items()
        if means[part][0] is not None and means[part][-1] is not None
    ]
    return f": {', '.join(told)}" if told else ""


def _judged(rounds: list[Row]) -> Iterator[str]:
    told = [row for row in rounds if row["harvests"]]
    if not told:
        yield "No harvest came to a verdict yet."
        return
    first, last = told[0], told[-1]
    harvests = f"Of {_count(first['harvests'], 'harvest')} in round {first['round']}"
    so = f"{harvests} the target lost {_share(first['lost_share'])}"
    if first is last:
        yield f"{so}. The bandit seeks out what it loses, so this is no accuracy."
    else:
        then = f"of {last['harvests']} in round {last['round']} it lost {_share(last['lost_share'])}"
        yield f"{so}; {then}. The bandit seeks out what it loses, so this is no accuracy."


def _weak(contents: Contents) -> Iterator[str]:
    if contents.weakest:
        at = contents.weakest[0]
        yield (
            f"It loses most in {at['path']}: lambda, the probability that a source is better there, is "
            f"{at['lambda']:.2f} after {_count(at['harvests'], 'harvest')}."
        )
    if contents.improved:
        at, gain = contents.improved[0], contents.improved[0]["gain"]
        yield (
            f"It improved most in {at['path']}: it lost {_share(gain['first'])} of its first {gain['of']} harvests and "
            f"{_share(gain['last'])} of its last {gain['of']}."
        )


def _trouble(contents: Contents) -> Iterator[str]:
    failed, dead = contents.failures["total"], contents.failures["dead_count"]
    if not failed and not dead:
        yield "Nothing failed, and there are no dead letters."
    else:
        letters = f"there {'is' if dead == 1 else 'are'} {_count(dead, 'dead letter')}" if dead else "no letter is dead"
        yield f"{_count(failed, 'request')} failed, and {letters}."


def _share(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.1f}%"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
