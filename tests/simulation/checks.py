"""What must hold after every schedule, read off the raw topics.

The accountant (`account`) says what the log must have led to, and the bandits are held to it; the rest is about records
alone: nothing is asked before it was decided, nothing acknowledged before it was answered, nothing corrupt lost.
`bohdi verify` has its say too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bohdi.verify import problems as verified
from bohdi_common.core.state import RunState, state_sha256
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import (
    ANSWERS,
    DEAD,
    FEEDBACK,
    HARVEST_REQUESTS,
    SPROUT_REQUESTS,
    TRAINING_REQUESTS,
)
from bohdi_common.log.port import Stored
from services.bandit.handler import Bandit
from tests.simulation.account import Account, accounts, sums

if TYPE_CHECKING:
    from tests.simulation.schedule import World

Place = tuple[str, int, int]  # topic, partition, offset
Read = list[tuple[int, Stored, Event]]  # moment, record, what is in it

# By the topic of an input: what may come of it.
_OUTPUTS = {
    SPROUT_REQUESTS.name: ("domains_sprouted", "sprout_failed"),
    HARVEST_REQUESTS.name: ("answers_written", "rehearsal_answered", "harvest_failed"),
    ANSWERS.name: ("harvest_judged", "harvest_failed"),
    TRAINING_REQUESTS.name: ("target_promoted", "training_failed"),
}
# What can come of an input of one topic alone: topic, where its outcome stands, and the outcome.
_ANSWERED_BY = (
    (SPROUT_REQUESTS.name, FEEDBACK.name, "domains_sprouted"),
    (SPROUT_REQUESTS.name, FEEDBACK.name, "sprout_failed"),
    (HARVEST_REQUESTS.name, ANSWERS.name, "answers_written"),
    (HARVEST_REQUESTS.name, FEEDBACK.name, "rehearsal_answered"),
    (ANSWERS.name, FEEDBACK.name, "harvest_judged"),
    (TRAINING_REQUESTS.name, FEEDBACK.name, "target_promoted"),
    (TRAINING_REQUESTS.name, FEEDBACK.name, "training_failed"),
)
_SHOWN_MAX = 10


def problems_of(world: World) -> Iterator[str]:
    """All that is wrong with what a schedule left behind, in words; at most so many of each kind."""
    events = _Events(world)
    for check in (_of_bandits, _of_requests, _of_inputs, _of_dead_letters, _of_repeats, _of_verify):
        for count, problem in enumerate(check(world, events)):
            if count == _SHOWN_MAX:
                yield "and so on"
                break
            yield problem


class _Events:
    """The tape decoded once, and the accounts of its runs."""

    def __init__(self, world: World) -> None:
        self.of: dict[str, Read] = {topic: _decoded(world.tape.of(topic)) for topic in (FEEDBACK.name, *_OUTPUTS)}
        self.run_ids = [run.run_id for run in world.runs]
        feedback = [(moment, event) for moment, _, event in self.of[FEEDBACK.name] if event.run_id in self.run_ids]
        self.accounts = accounts(feedback)
        self.feedback = [event for _, event in feedback]

    def first_moments(self, topics: tuple[str, ...], kinds: tuple[str, ...]) -> dict[tuple[str, str], int]:
        """When the first event of these kinds stood in the log, by run and request hash."""
        first: dict[tuple[str, str], int] = {}
        for topic in topics:
            for moment, _, event in self.of[topic]:
                if codec.kind_of(event) in kinds:
                    about = (event.run_id, getattr(event, codec.kind_of(event)).request_hash)
                    first[about] = min(moment, first.get(about, moment))
        return first


def _decoded(records: list[tuple[int, Stored]]) -> Read:
    read: Read = []
    for moment, stored in records:
        try:
            read.append((moment, stored, codec.decode(stored.value)))
        except (codec.Undecodable, codec.NewerSchema):
            continue
    return read


# ---- bandits ---------------------------------------------------------------------------------------------------


def _of_bandits(world: World, events: _Events) -> Iterator[str]:
    """Every bandit that there ever was had the state that the log gives, whatever was going on around it."""
    for run_id in events.run_ids:
        mine = [event for event in events.feedback if event.run_id == run_id]
        wanted = {bandit.state.sequence for bandit in world.around.bandits if bandit.run_id == run_id}
        first, second = _hashes(mine, run_id, wanted), _hashes(mine, run_id, wanted)
        if first != second:
            yield f"{run_id}: two folds of one log differ"
        for bandit in world.around.bandits:
            if bandit.run_id == run_id and state_sha256(bandit.state) != first.get(bandit.state.sequence):
                yield f"{run_id}: a bandit after {bandit.state.sequence} events has not the state that the log gives"
        states = [bandit.state for bandit in world.around.bandits if bandit.run_id == run_id and bandit.state.finished]
        if not states:
            yield f"{run_id}: no bandit has seen the end"
        for state in states[-1:]:
            yield from _of_sums(events, run_id, mine[: state.sequence], state)


def _hashes(events: list[Event], run_id: str, wanted: set[int]) -> dict[int, str]:
    """Hash of the state after so many events."""
    bandit = Bandit(run_id)
    hashes = {0: state_sha256(bandit.state)}
    for count, event in enumerate(events, 1):
        bandit.fold(event)
        if count in wanted:
            hashes[count] = state_sha256(bandit.state)
    return hashes


def _of_sums(events: _Events, run_id: str, mine: list[Event], state: RunState) -> Iterator[str]:
    account = Account(run_id)
    for event in mine:
        account.take(0, event)
    yield from (f"{run_id}: {what}" for what in account.wrong)
    for node, (alpha, beta) in sums(account).items():
        if (state.tree.alpha[node], state.tree.beta[node]) != (alpha, beta):
            has = f"Beta({state.tree.alpha[node]}, {state.tree.beta[node]})"
            yield f"{run_id}: node {node} has {has}, its rewards add up to Beta({alpha}, {beta})"
    rewarded = sums(account)
    for node in range(1, len(state.tree)):
        if not state.tree.is_unk[node] and node not in rewarded and state.tree.pulls(node):
            yield f"{run_id}: node {node} has {state.tree.pulls(node)} rewards that nobody gave"
    counted = {what: n for what, n in account.counts.items() if n}
    folded = {what: state.counts.get(what, 0) for what in counted} | {
        what: n for what, n in state.counts.items() if what in _COUNTED and n
    }
    if counted != folded:
        yield f"{run_id}: the state counts {folded}, the log adds up to {counted}"
    if account.versions != state.versions:
        yield f"{run_id}: versions {state.versions}, the log promoted {account.versions}"
    if sorted(account.pairs) != sorted(seq for leaf in state.pairs.values() for seq in leaf):
        yield f"{run_id}: the pairs in store are not those that were judged: {account.pairs}"
    for node in range(len(state.tree)):
        unk = state.tree.unk_of[node]
        if unk >= 0 and state.tree.alpha[unk] - 1 != len(state.tree.children(node)):
            yield f"{run_id}: {state.tree.alpha[unk] - 1} names were counted under node {node}, it has other children"
    if account.opened != account.settled and not account.cancelled:
        yield f"{run_id}: {account.opened} slots were opened and {account.settled} settled"


_COUNTED = ("harvests", "no_verdict", "rejected", "rehearsals", "unavailable", "expired", "given_up", "late",
            "trainings_failed")  # fmt: skip


# ---- records ---------------------------------------------------------------------------------------------------


def _of_requests(world: World, events: _Events) -> Iterator[str]:
    """Nothing is asked that no decision in the log asked for, nor before it stood there; nothing is answered that was
    not asked."""
    for topic in (SPROUT_REQUESTS.name, HARVEST_REQUESTS.name, TRAINING_REQUESTS.name):
        for moment, stored, event in events.of[topic]:
            if not _belongs(event, topic):
                continue
            request_hash = getattr(event, codec.kind_of(event)).request_hash
            asked = events.accounts[event.run_id].asked.get(request_hash)
            if asked is None:
                yield f"{_at(stored)}: {request_hash} is asked, no decision that counts asked for it"
            elif moment < asked:
                yield f"{_at(stored)}: {request_hash} is asked before its decision stood in the log"
    for topic, where, outcome in _ANSWERED_BY:
        causes = events.first_moments((topic,), _kinds_of(topic))
        for about, moment in events.first_moments((where,), (outcome,)).items():
            if causes.get(about, moment) >= moment:
                yield f"{about} is answered ({outcome}) before it was asked"


def _of_inputs(world: World, events: _Events) -> Iterator[str]:
    """What was acknowledged has an output or a dead letter, and had it by then."""
    dead = _dead_places(world)
    answered = {
        topic: events.first_moments((ANSWERS.name, FEEDBACK.name), outputs) for topic, outputs in _OUTPUTS.items()
    }
    inputs = {_place(stored): event for topic in _OUTPUTS for _, stored, event in events.of[topic]}
    for (consumer, topic, partition), marks in world.tape.acknowledged.items():
        for offset, acknowledged in marks.items():
            place = (topic, partition, offset)
            event = inputs.get(place)
            done = dead.get(place)
            if event is not None and _belongs(event, topic):
                about = (event.run_id, getattr(event, codec.kind_of(event)).request_hash)
                done = min((m for m in (done, answered[topic].get(about)) if m is not None), default=None)
            if done is None:
                yield f"{consumer} acknowledged {place}: nothing ever came of it"
            elif done > acknowledged:
                yield f"{consumer} acknowledged {place} before anything had come of it"


def _of_dead_letters(world: World, events: _Events) -> Iterator[str]:
    """Corrupt records are in bohdi.dead with their coordinates and bytes, and nothing else is."""
    value_of = {_place(stored): stored.value for stored in world.corrupt if not _is_foreign(stored)}
    dead = {}
    for _, letter in world.tape.of(DEAD.name):
        place = _coordinates(letter)
        dead[place] = letter.value
        if place not in value_of:
            yield f"{place} is dead, which was not corrupt: {dict(letter.headers)['reason']}"
    for place, value in value_of.items():
        if place not in dead:
            yield f"{place} is corrupt and in no dead letter"
        elif dead[place] != value:
            yield f"{place} is dead with other bytes"


def _of_repeats(world: World, events: _Events) -> Iterator[str]:
    """Where outputs and done mark are one transaction, nothing is handled again that is answered."""
    if not world.handles_once:
        return
    for moment, service, event in world.around.handled:
        topic = codec.topic_of(event).name
        about = (event.run_id, getattr(event, codec.kind_of(event)).request_hash)
        answered = events.first_moments((ANSWERS.name, FEEDBACK.name), _OUTPUTS[topic]).get(about)
        if answered is not None and answered <= moment:
            yield f"{service} handles {about} again, whose outcome stands in the log"


def _of_verify(world: World, events: _Events) -> Iterator[str]:
    requests = [
        (stored.offset, event) for topic in _OUTPUTS for _, stored, event in events.of[topic] if _belongs(event, topic)
    ]
    for problem in verified(enumerate(events.feedback), requests=requests):
        yield f"verify: {problem}"


# ---- small parts -----------------------------------------------------------------------------------------------


def _is_foreign(stored: Stored) -> bool:
    """An event, though not one that anybody meant: on the feedback log it is counted, not buried."""
    try:
        codec.decode(stored.value)
    except (codec.Undecodable, codec.NewerSchema):
        return False
    return stored.topic == FEEDBACK.name


def _belongs(event: Event, topic: str) -> bool:
    return codec.topic_of(event).name == topic


def _kinds_of(topic: str) -> tuple[str, ...]:
    return next(t.kinds for t in (SPROUT_REQUESTS, HARVEST_REQUESTS, ANSWERS, TRAINING_REQUESTS) if t.name == topic)


def _place(stored: Stored) -> Place:
    return stored.topic, stored.partition, stored.offset


def _at(stored: Stored) -> str:
    return f"{stored.topic}/{stored.partition}@{stored.offset}"


def _coordinates(letter: Stored) -> Place:
    headers = dict(letter.headers)
    return headers["topic"], int(headers["partition"]), int(headers["offset"])


def _dead_places(world: World) -> dict[Place, int]:
    """When the first dead letter of a place was written."""
    first: dict[Place, int] = {}
    for moment, letter in world.tape.of(DEAD.name):
        first.setdefault(_coordinates(letter), moment)
    return first
