"""Decisions in a closed loop: runs end, slots settle once, a second bandit or a restart does no harm."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bohdi_common.core.decide import decide, target_holds
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import STATE_VERSION, Failure, RunState, Waits, canonical, state_sha256
from bohdi_common.core.tree import ROOT, Tree
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from tests import closed_loop
from tests.closed_loop import Loop, World

seeds = st.integers(0, 2**32)
thorough = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FULL: dict[str, Any] = {"introspection": "paper", "rehearsal_questions": 10, "sprout_failures": 3, "slot_failures": 2}


def of_kind(loop: Loop, kind: str) -> list[Any]:
    return [getattr(event, kind) for event in loop.log if codec.kind_of(event) == kind]


def flaky(request: Event) -> Failure | None:
    """Rejects one request in eight but no training, whichever bandit or attempt asks."""
    rejected = request.event_id.endswith(("3", "c")) and not request.HasField("training_requested")
    return Failure.REJECTED if rejected else None


# ---- whole runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bandit",
    [
        {},
        {"lockstep": True},
        {"introspection": "off"},
        {"introspection": "two_sample", "window": 2},
        {"sharpness": float("inf")},
        {"sharpness": 0.0},
        {"rehearsal_questions": 20},
        {"slots": 1},
        {"sprout_failures": 1, "slot_failures": 1, "leaf_failures": 1},
    ],
    ids=str,
)
def test_a_run_comes_to_its_end(bandit: dict[str, Any]) -> None:
    loop = Loop(World(fails=flaky), closed_loop.settings(bandit=bandit))
    state = loop.run()
    assert state.finished == "all rounds done"
    assert state.round == 2
    assert not loop.pending


@thorough
@given(seeds)
def test_every_slot_is_settled_once_whatever_the_order_of_the_results(seed: int) -> None:
    loop = Loop(World(fails=flaky), closed_loop.settings(bandit=FULL), order=random.Random(seed))
    state = loop.run()
    assert state.finished
    slots = sum(len(drawn.slots) for drawn in of_kind(loop, "paths_drawn"))
    counts = Counter(state.counts)
    assert slots == sum(counts[what] for what in ("harvests", "no_verdict", "rejected", "rehearsals", "given_up"))
    assert counts["late"] == counts["invalid"] == counts["unknown"] == 0


def story(loop: Loop) -> list[Any]:
    """What was drawn, decided and trained on, in words that do not name the place of anything in the log."""
    state = RunState()
    told: list[Any] = []
    texts = {n: (e.round, e.step, e.slot, codec.kind_of(e)) for n, e in enumerate(loop.log)}
    for event in loop.log:
        kind = codec.kind_of(event)
        if kind == "paths_drawn":
            told.append([(state.tree.path_names(([0, *s.path])[-1]), s.leader) for s in event.paths_drawn.slots])
        if kind == "nodes_reborn":
            told.append([(state.tree.path_names(r.node), r.window_sum) for r in event.nodes_reborn.rebirths])
        if kind == "training_drawn":
            told.append([texts[sample] for sample in event.training_drawn.samples])
        evolve(state, event)
    tree = state.tree
    for node in range(len(tree)):
        told.append((tree.path_names(node), tree.alpha[node], tree.beta[node], tree.window[node], tree.open[node]))
    return told


@thorough
@given(seeds)
def test_in_lockstep_a_run_is_the_same_in_whatever_order_the_results_arrive(seed: int) -> None:
    world = World(
        fails=lambda r: (
            Failure.REJECTED if (r.slot * 7 + r.step) % 11 == 0 and r.HasField("harvest_requested") else None
        ),
        verdict=lambda r: (r.slot + r.step) % 5 > 0,
        width=(3, 2, 2),
    )
    rules = FULL | {"lockstep": True, "leaf_failures": 2, "slots": 16, "steps": 3}
    in_turn = Loop(world, closed_loop.settings(bandit=rules))
    at_random = Loop(world, closed_loop.settings(bandit=rules), order=random.Random(seed))
    assert in_turn.run().finished
    assert at_random.run().finished
    assert story(at_random) == story(in_turn)


def test_a_run_repeats_itself_bit_for_bit() -> None:
    one, other = (Loop(settings=closed_loop.settings(bandit=FULL)) for _ in range(2))
    assert canonical(one.run()) == canonical(other.run())


def test_another_seed_makes_another_run() -> None:
    one, other = (Loop(settings=closed_loop.settings(seed, bandit=FULL)) for seed in (1, 2))
    one.run()
    other.run()
    assert story(one) != story(other)


def test_the_first_draw_of_a_round_and_the_end_of_the_run_tell_the_hash_of_the_state_that_they_are_made_of() -> None:
    loop = Loop()
    loop.run()
    state, hashes, told = RunState(), [state_sha256(RunState())], []
    for event in loop.log:
        body = getattr(event, codec.kind_of(event))
        if said := getattr(body, "state_sha256", ""):
            told.append((codec.kind_of(event), event.round, event.step))
            assert (said, body.state_version) == (hashes[body.based_on], STATE_VERSION)
        evolve(state, event)
        hashes.append(state_sha256(state))
    assert told == [("paths_drawn", 0, 0), ("paths_drawn", 1, 0), ("run_finished", 2, 0)]


def test_in_lockstep_no_slot_goes_on_while_another_waits_for_a_result() -> None:
    """Of the slots that can go on together some have, and ask already: the others are decided on as they were."""
    loop = Loop(settings=closed_loop.settings(bandit={"lockstep": True}))
    loop.run(lambda state: 0 < len(state.ready) < state.open_slots)
    assert 0 < len(loop.state.ready) < loop.state.open_slots
    assert decide(loop.state, since=0) == []


# ---- two bandits, restarts -------------------------------------------------------------------------------------


@thorough
@given(seed=seeds, dedupes=st.booleans(), lockstep=st.booleans())
def test_a_second_bandit_on_the_log_does_no_harm(seed: int, dedupes: bool, lockstep: bool) -> None:
    rules = FULL | {"lockstep": lockstep}
    loop = Loop(
        World(fails=flaky), closed_loop.settings(bandit=rules), bandits=2, order=random.Random(seed), dedupes=dedupes
    )
    loop.run()
    one, other = (canonical(manager.state) for manager in loop.managers)
    assert one == other
    assert loop.state.finished
    counts = Counter(loop.state.counts)
    settled = sum(counts[what] for what in ("harvests", "no_verdict", "rejected", "rehearsals", "given_up"))
    rehearsal = next(drawn for drawn in of_kind(loop, "paths_drawn") if drawn.rehearsal)
    assert settled == 2 * 2 * 12 + len(rehearsal.slots)
    assert counts["invalid"] == counts["unknown"] == 0
    assert loop.state.pair_count == counts["harvests"]


@thorough
@given(seed=seeds, lockstep=st.booleans())
def test_after_a_restart_the_bandit_asks_for_what_is_outstanding_and_for_nothing_else(
    seed: int, lockstep: bool
) -> None:
    rng = random.Random(seed)
    loop = Loop(World(fails=flaky), closed_loop.settings(bandit=FULL | {"lockstep": lockstep}), order=rng)
    for _ in range(rng.randrange(150)):
        loop.act()
    while loop.read[0] < len(loop.log):
        loop.read_next(0)
    outstanding = {request.event_id for request in loop.pending}
    assert {event.event_id for event in loop.restart() if event.event_id in loop.asked} == outstanding


@thorough
@given(seeds)
def test_a_bandit_killed_again_and_again_makes_the_same_run(seed: int) -> None:
    rng = random.Random(seed)
    undisturbed, killed = (Loop(World(fails=flaky), closed_loop.settings(bandit=FULL)) for _ in range(2))
    undisturbed.run()
    while killed.act():
        if rng.random() < 0.1:
            killed.restart()
    assert story(killed) == story(undisturbed)


def test_a_decision_is_given_again_under_its_id_until_it_is_read_back() -> None:
    loop = Loop()
    loop.read_next(0)
    state = loop.state
    assert [fact.event_id for fact in decide(state, 1)] == [fact.event_id for fact in decide(state, 2)]
    assert decide(state, 1)[0].body["based_on"] == 1


def test_a_bandit_appends_a_decision_once() -> None:
    loop = Loop()
    loop.read_next(0)
    assert loop.managers[0].tick() == []


def test_of_two_bandits_events_the_requests_are_the_same() -> None:
    loop = Loop(bandits=2)
    loop.run()
    single = Loop()
    single.run()
    assert set(loop.asked) == set(single.asked)


def paused_while(kind: str, **rules: Any) -> Loop:
    """A loop in which the run is paused by hand just before an event of this kind is read, and goes on to rest."""
    loop = Loop(settings=closed_loop.settings(bandit=rules))
    while True:
        if loop.read[0] == len(loop.log):
            loop.answer(0)
        elif codec.kind_of(loop.log[loop.read[0]]) == kind:
            loop.log.insert(loop.read[0], loop.event("run_paused", {"reason": "a person"}, "pause"))
            loop.run()
            return loop
        else:
            loop.read_next(0)


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("kind", ["paths_drawn", "slot_continued", "training_drawn"])
def test_what_was_decided_while_the_run_was_being_paused_is_asked_for_after_it_is_resumed(
    kind: str, lockstep: bool
) -> None:
    loop = paused_while(kind, lockstep=lockstep)
    assert loop.state.paused and not loop.pending
    assert loop.state.open_slots or loop.state.training
    asked_before = set(loop.asked)
    loop.append([loop.event("run_resumed", {}, "resume")])
    loop.read_next(0)
    assert set(loop.asked) > asked_before
    assert loop.run().finished


def test_a_resume_that_stands_twice_in_the_log_asks_once() -> None:
    loop = paused_while("paths_drawn")
    resume = loop.event("run_resumed", {}, "resume")
    assert len(loop.managers[0].handle(resume)) > 0
    assert loop.managers[0].handle(resume) == []


# ---- pausing, expiring -----------------------------------------------------------------------------------------


def test_nothing_is_decided_while_the_run_is_paused_or_over() -> None:
    loop = Loop()
    loop.read_next(0)
    loop.append([loop.event("run_paused", {"reason": "a person"}, "pause")])
    loop.run(lambda state: bool(state.paused))
    assert decide(loop.state, 10**15) == []
    assert decide(Loop().run(), 10**15) == []
    assert decide(RunState(), 10**15) == []


def test_a_run_without_an_open_arm_pauses_with_the_reason() -> None:
    loop = Loop(World(width=(0, 0, 0)), closed_loop.settings(bandit={"sprout_failures": 2, "slot_failures": 9}))
    assert "no arm under Root is open" in loop.run().paused


def test_a_slot_is_given_up_after_its_failed_sprouts() -> None:
    loop = Loop(World(width=(0, 0, 0)), closed_loop.settings(bandit={"sprout_failures": 99, "slot_failures": 3}))
    loop.run(lambda state: state.step == 1)
    assert loop.state.counts == {"sprouts_rejected": 3, "given_up": 12}


def test_a_slot_goes_on_from_the_nearest_node_with_an_open_arm() -> None:
    """Nothing grows under m0, so its unk arm closes, and the slots that waited there are drawn from Root again."""
    world = World(
        width=(2, 1, 1), fails=lambda r: Failure.REJECTED if list(r.sprout_requested.path) == ["m0"] else None
    )
    loop = Loop(world, closed_loop.settings(bandit={"sprout_failures": 1, "slot_failures": 5}))
    assert loop.run().finished
    tree = loop.state.tree
    closed = tree.child_named(ROOT, "m0")
    assert closed is not None and not tree.open[closed]
    assert loop.state.counts["harvests"] == 2 * 2 * 12


def test_a_slot_whose_new_child_has_closed_meanwhile_goes_on_above_it() -> None:
    loop = Loop(settings=closed_loop.settings(bandit={"sprout_failures": 1, "slots": 2}), domains=[("m", "s", "l")])
    evolve(loop.state, loop.log[0])
    main = loop.state.tree.children(ROOT)[0]
    waiting = [{"slot": n, "path": [main], "leader": "a", "request_hash": ""} for n in range(2)]
    evolve(loop.state, loop.event("paths_drawn", {"slots": waiting}, "1"))
    hash_ = loop.state.sprouts[main].request_hash
    new = {"parent": main, "request_hash": hash_, "names": [{"name": "new"}]}
    evolve(loop.state, loop.event("domains_sprouted", new, "2"))
    child = loop.state.tree.children(main)[1]
    on = {"drawn": {"slot": 0, "path": [main, child], "leader": "a", "request_hash": ""}}
    evolve(loop.state, loop.event("slot_continued", on, "3"))
    nothing = {"parent": child, "request_hash": loop.state.sprouts[child].request_hash, "failure": 1}
    evolve(loop.state, loop.event("sprout_failed", nothing, "4"))
    assert not loop.state.tree.open[child]
    went_on = [fact.body["drawn"]["path"] for fact in decide(loop.state, 0) if fact.kind == "slot_continued"]
    assert len(went_on) == 2
    assert child not in went_on[1]


def lost_answers(lost: set[int], **bandit: Any) -> Loop:
    """A loop of one leaf in whose first step the requests of the slots in `lost` are never answered."""
    rules = {"grow": False, "slots": 4, "slot_timeout_s": 60.0} | bandit
    loop = Loop(settings=closed_loop.settings(bandit=rules), domains=[("m", "s", "l")])
    loop.run(lambda state: state.open_slots == 4)
    loop.pending = [request for request in loop.pending if request.slot not in lost]
    loop.run()
    return loop


def test_a_slot_expires_after_its_time_and_not_before() -> None:
    loop = lost_answers({2})
    loop.now_us = loop.state.slots[2].asked_us + 60_000_000
    assert loop.managers[0].tick() == []
    loop.now_us += 1
    (expired,) = loop.managers[0].tick()
    assert (codec.kind_of(expired), expired.slot) == ("slot_expired", 2)


def test_the_step_goes_on_without_an_expired_slot() -> None:
    loop = lost_answers({2})
    loop.now_us += 61_000_000
    loop.append(loop.managers[0].tick())
    assert loop.run().finished
    assert (loop.state.counts["expired"], loop.state.counts["harvests"]) == (1, 15)


def test_a_result_that_comes_after_its_slot_expired_is_late() -> None:
    loop = lost_answers({2})
    request = next(request for request in loop.asked.values() if request.slot == 2 and request.step == 0)
    loop.now_us += 61_000_000
    loop.append(loop.managers[0].tick())
    loop.append([loop.world.answer(request, loop.now_us)])
    loop.run()
    assert (loop.state.counts["late"], loop.state.counts["harvests"]) == (1, 15)


def test_a_step_in_which_every_slot_expired_pauses_the_run() -> None:
    loop = lost_answers({0, 1, 2, 3})
    loop.now_us += 61_000_000
    loop.append(loop.managers[0].tick())
    assert "unavailable" in loop.run().paused


def test_slots_that_wait_for_a_lost_sprout_expire_with_it() -> None:
    loop = Loop(settings=closed_loop.settings(bandit={"slot_timeout_s": 60.0}))
    loop.run(lambda state: bool(state.sprouts))
    loop.pending.clear()
    loop.now_us += 61_000_000
    loop.append(loop.managers[0].tick())
    loop.run()
    assert (loop.state.counts["expired"], loop.state.sprouts) == (12, {})


def test_an_expiry_that_comes_after_its_slot_went_on_to_another_sprout_is_late() -> None:
    """A bandit gave it out while the first sprout's result was on its way, and another was faster to go on."""
    loop = Loop(settings=closed_loop.settings(bandit={"slot_timeout_s": 60.0}))
    loop.run(lambda state: bool(state.sprouts))
    loop.now_us += 61_000_000
    expired = loop.managers[0].tick()
    loop.answer(0)
    loop.run(lambda state: all(slot.attempt == 1 and slot.waits == Waits.SPROUT for slot in state.slots))
    loop.append(expired)
    assert loop.run().finished
    assert "expired" not in loop.state.counts


# ---- rehearsal, rebirth, training ------------------------------------------------------------------------------

DOMAINS = [("good", "s", "l"), ("bad", "s", "l"), ("good", "s", "k")]


def known_good(**sections: Any) -> Loop:
    """Domains where the target never loses, and one where it always does."""
    bandit = {"grow": False, "steps": 4, "rehearsal_questions": 10, "rehearsal_below": 0.4, "sharpness": 0.0}
    sections["bandit"] = bandit | sections.get("bandit", {})
    return Loop(World(lambda path, version: path[0] == "bad"), closed_loop.settings(**sections), DOMAINS)


def test_rehearsal_asks_once_and_only_where_the_target_does_not_lose() -> None:
    loop = known_good()
    loop.run()
    rehearsals = of_kind(loop, "rehearsal_answered")
    assert len(rehearsals) == 10
    assert {body.leader for body in rehearsals} == {"a", "b", "c"}
    assert Counter(tuple(body.path) for body in rehearsals) == {("good", "s", "l"): 5, ("good", "s", "k"): 5}
    assert [body.rehearsal for body in of_kind(loop, "paths_drawn")].count(True) == 1


def held(below: float = 0.4, **rewards: list[int]) -> bool:
    """Whether the target holds m/s/l, after these rewards of it, of m/s/k (beside it) and of m/t/k (under m only)."""
    tree = Tree(4)
    tree.plant(False)
    main = tree.add(ROOT, "m", False)
    secondary = tree.add(main, "s", False)
    leaf, beside = (tree.add(secondary, name, False) for name in "lk")
    apart = tree.add(tree.add(main, "t", False), "k", False)
    for node, name in ((leaf, "of_it"), (beside, "beside"), (apart, "apart")):
        for r in rewards.get(name, []):
            tree.reward(node, r)
    return target_holds(tree, leaf, below)


@pytest.mark.parametrize(
    ("rewards", "holds"),
    [
        ({"of_it": [0, 0], "beside": [1] * 9}, True),  # two rewards of its own are enough
        ({"of_it": [1, 1], "beside": [0] * 9}, False),
        ({"of_it": [1], "beside": [0] * 9}, True),  # one is not: its secondary domain says
        ({"of_it": [0], "beside": [1] * 9}, False),
        ({"of_it": [0], "apart": [0]}, True),  # nor is one of that: its main domain says
        ({"of_it": [0], "apart": [1] * 9}, False),
        ({"of_it": [0]}, False),  # nowhere are there two
        ({"apart": [0] * 9}, False),  # where nobody ever judged nothing is known
        ({"of_it": [1, 0, 0]}, False),  # 0.4 is not below 0.4
    ],
)
def test_the_target_holds_a_leaf_by_the_deepest_node_with_two_rewards(
    rewards: dict[str, list[int]], holds: bool
) -> None:
    assert held(**rewards) == holds


def test_a_leaf_that_was_closed_is_not_rehearsed() -> None:
    loop = known_good(bandit={"leaf_failures": 1, "slots": 40, "steps": 2})
    loop.world = replace(loop.world, verdict=lambda asked: (asked.step, asked.harvest_requested.path[2]) != (1, "k"))
    loop.run()
    assert {body.path[2] for body in of_kind(loop, "rehearsal_answered")} == {"l"}


def test_without_a_leaf_that_the_target_holds_nothing_is_rehearsed() -> None:
    loop = Loop(World(lambda path, version: 1.0), closed_loop.settings(bandit={"rehearsal_questions": 10}))
    assert loop.run().finished
    assert (loop.state.rehearsed, loop.state.rehearsals) == (True, {})


@pytest.mark.parametrize(("introspection", "decisions"), [("off", 0), ("paper", 2), ("two_sample", 2)])
def test_introspection_comes_once_a_round_where_it_is_on(introspection: str, decisions: int) -> None:
    loop = Loop(settings=closed_loop.settings(bandit={"introspection": introspection}))
    loop.run()
    assert len(of_kind(loop, "nodes_reborn")) == decisions


def test_a_target_that_has_learnt_makes_nodes_reborn() -> None:
    world = World(lambda path, version: version == "base")
    rules = {"grow": False, "introspection": "two_sample", "window": 12, "rounds": 3, "slots": 24, "steps": 1}
    loop = Loop(world, closed_loop.settings(bandit=rules), [("m", "s", "l")])
    loop.run()
    assert [len(body.rebirths) for body in of_kind(loop, "nodes_reborn")] == [0, 3, 0]
    assert all(rebirth.window_sum == 0 for rebirth in of_kind(loop, "nodes_reborn")[1].rebirths)


def test_the_paper_preset_draws_its_180_samples_by_the_bandit_alone() -> None:
    loop = Loop(settings=closed_loop.settings(preset="paper"))
    loop.run()
    for body in of_kind(loop, "training_drawn"):
        assert len(body.samples) == 180
        assert (body.from_rehearsal, body.from_replay, list(body.average_with)) == (0, 0, [])
        samples = [loop.log[sample] for sample in body.samples]
        assert all(codec.kind_of(event) == "harvest_judged" and event.harvest_judged.counted for event in samples)


def test_a_training_sees_every_pair_as_often_as_passes_says_in_whole_batches() -> None:
    training = {"passes": 2.0, "batch": 32, "rehearsal_share": 0.5, "replay_share": 0.25}
    loop = known_good(training=training, bandit={"rounds": 1, "slots": 100})
    loop.run()
    (body,) = of_kind(loop, "training_drawn")
    assert len(body.samples) == 1600  # 400 pairs, twice, and as much rehearsal: 50 batches of 32
    assert abs(body.from_rehearsal - 800) < 100
    assert abs(body.from_replay - 400) < 85
    kinds = Counter(codec.kind_of(loop.log[sample]) for sample in body.samples)
    assert kinds == {"rehearsal_answered": body.from_rehearsal, "harvest_judged": 1600 - body.from_rehearsal}


def test_a_training_is_bounded() -> None:
    loop = known_good(training={"passes": 50.0, "max_examples": 70})
    loop.run()
    assert [len(body.samples) for body in of_kind(loop, "training_drawn")] == [70, 70]


def test_with_a_ramp_trainings_grow_by_round_and_are_as_many_examples_together() -> None:
    loop = known_good(training={"passes": 0.0, "examples": 60, "ramp": True, "max_examples": 80}, bandit={"rounds": 3})
    loop.run()
    assert [len(body.samples) for body in of_kind(loop, "training_drawn")] == [30, 60, 80]  # the last is bounded


def test_each_training_goes_on_from_the_version_before_it() -> None:
    loop = known_good(bandit={"rounds": 3})
    loop.run()
    drawn = of_kind(loop, "training_drawn")
    assert [(body.base_version, body.version) for body in drawn] == [("base", "r1"), ("r1", "r2"), ("r2", "r3")]


def test_a_run_that_restarts_trains_from_the_base_each_round() -> None:
    loop = known_good(training={"restart": True})
    loop.run()
    assert [body.base_version for body in of_kind(loop, "training_drawn")] == ["base", "base"]


@pytest.mark.parametrize(("average_last", "with_"), [(1, []), (2, ["r3"]), (3, ["r2", "r3"]), (8, ["r1", "r2", "r3"])])
def test_versions_are_averaged_in_the_last_round_only(average_last: int, with_: list[str]) -> None:
    loop = known_good(training={"average_last": average_last}, bandit={"rounds": 4})
    loop.run()
    assert [list(body.average_with) for body in of_kind(loop, "training_drawn")] == [[], [], [], with_]


def test_without_a_pair_nothing_is_trained_and_the_run_goes_on() -> None:
    loop = Loop(World(verdict=lambda request: False), closed_loop.settings(bandit={"leaf_failures": 999}))
    state = loop.run()
    assert (bool(state.finished), state.counts["trainings_without_pairs"], state.versions) == (True, 2, ["base"])
    assert "training_requested" not in {codec.kind_of(request) for request in loop.asked.values()}
