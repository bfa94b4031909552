"""The fold: total, deterministic, and true to the accounting of the plan."""

import json
import random
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bohdi.verify import problems
from bohdi_common.core.decide import decide, requests
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import Failure, Next, RunState, Waits, canonical
from bohdi_common.core.tree import ROOT
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from tests import closed_loop
from tests.closed_loop import Loop, World

thorough = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32)


def folded(events: list[Event]) -> RunState:
    state = RunState()
    for event in events:
        evolve(state, event)
    return state


def apart_from_counting(state: RunState) -> dict[str, Any]:
    whole = json.loads(canonical(state))
    return {key: value for key, value in whole.items() if key not in {"sequence", "counts", "last_us", "spent_us"}}


def busy_loop(rng: random.Random, **bandit: Any) -> Loop:
    """A run with all that may happen in it: rejected and unavailable requests, missing verdicts, rehearsal, rebirth."""

    def fails(request: Event) -> Failure | None:
        turn = random.Random(request.event_id).random()
        return Failure.REJECTED if turn < 0.1 else Failure.UNAVAILABLE if turn < 0.2 else None

    world = World(
        loses=lambda path, version: 0.2 if path[0] == "m0" else 0.8,
        fails=fails,
        verdict=lambda request: not request.event_id.startswith("0"),
        width=(3, 2, 2),
    )
    all_of_it: dict[str, Any] = {
        "introspection": "paper", "rehearsal_questions": 10, "sprout_failures": 2, "leaf_failures": 2,
        "slot_failures": 2, "lockstep": rng.random() < 0.5, "training_failures": 3,
    }  # fmt: skip
    return Loop(world, closed_loop.settings(rng.randrange(100), bandit=all_of_it | bandit), order=rng)


def paused_and_resumed(loop: Loop) -> Loop:
    """The run to its end; a person resumes it whenever it pauses, as often as it takes."""
    for turn in range(50):
        loop.run()
        if loop.state.finished:
            break
        loop.append([loop.event("run_resumed", {}, f"resume {turn}")])
    return loop


# ---- totality --------------------------------------------------------------------------------------------------


def arbitrary(message: Message, rng: random.Random, words: list[str]) -> Message:
    """Fills any message with random values: small numbers, odd floats, strings that occur elsewhere and that do not."""
    for f in message.DESCRIPTOR.fields:
        if f.containing_oneof is not None or rng.random() < 0.2:
            continue
        if f.message_type is not None:
            if f.is_repeated:
                for _ in range(rng.randrange(4)):
                    arbitrary(getattr(message, f.name).add(), rng, words)
            else:
                arbitrary(getattr(message, f.name), rng, words)
        elif f.is_repeated:
            getattr(message, f.name).extend(value_of(f, rng, words) for _ in range(rng.randrange(5)))
        else:
            setattr(message, f.name, value_of(f, rng, words))
    return message


def value_of(f: FieldDescriptor, rng: random.Random, words: list[str]) -> Any:
    if f.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(["", "\x00", "unk", "é\u200d", *words])
    if f.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return rng.choice([0.0, 0.5, 1.0, -1.0, 1e300, float("inf"), float("nan")])
    if f.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    signed = f.type in (FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_INT64)
    return rng.choice([0, 1, 2, 3, 4, 7, 20, 65] + ([-1] if signed else []))


KINDS = [f.name for f in Event.DESCRIPTOR.oneofs_by_name["body"].fields]


def arbitrary_event(rng: random.Random, words: list[str]) -> Event:
    event = Event()
    arbitrary(event, rng, words)
    kind = rng.choice([*KINDS, None])
    if kind is not None:
        body = getattr(event, kind)
        body.SetInParent()
        arbitrary(body, rng, words)
    return event


def doctored(event: Event, rng: random.Random, words: list[str]) -> Event:
    """The event with one field of its body set to something else."""
    other = Event.FromString(event.SerializeToString())
    body = getattr(other, codec.kind_of(other))
    noise = arbitrary(type(body)(), rng, words)
    if body.DESCRIPTOR.fields:
        f = rng.choice(list(body.DESCRIPTOR.fields))
        body.ClearField(f.name)
        if f.is_repeated or f.message_type is not None:
            body.MergeFrom(type(body)(**{f.name: getattr(noise, f.name)}))
        else:
            setattr(body, f.name, getattr(noise, f.name))
    return other


def disturbed(log: list[Event], rng: random.Random) -> list[Event]:
    """A log with events lost, repeated, swapped, doctored and invented."""
    words = [event.event_id for event in log[:20]] + ["a", "b", "m0", "s0", "r1", "base"]
    words += [slot.request_hash for event in log for slot in event.paths_drawn.slots][:20]
    out: list[Event] = []
    for event in log:
        turn = rng.random()
        if turn < 0.03:
            continue
        out.append(doctored(event, rng, words) if turn < 0.1 else event)
        if turn > 0.9:
            out.append(rng.choice(log))
        if turn > 0.95:
            out.append(arbitrary_event(rng, words))
    for _ in range(len(out) // 20):
        i, j = rng.randrange(len(out)), rng.randrange(len(out))
        out[i], out[j] = out[j], out[i]
    return out


@thorough
@given(seeds)
def test_any_events_in_any_order_give_a_state_and_each_counts_one(seed: int) -> None:
    rng = random.Random(seed)
    loop = busy_loop(rng)
    loop.run(actions_max=1_000_000)
    state = RunState()
    for number, event in enumerate(disturbed(loop.log, rng)):
        assert evolve(state, event) is state
        assert state.sequence == number + 1
    assert canonical(state)


@thorough
@given(seeds)
def test_events_of_no_run_at_all_give_a_state(seed: int) -> None:
    rng = random.Random(seed)
    words = ["a", "b", "base", "r1"]
    state = folded([arbitrary_event(rng, words) for _ in range(60)])
    assert state.sequence == 60
    assert canonical(state)


@thorough
@given(seeds)
def test_from_any_state_the_bandit_can_decide(seed: int) -> None:
    rng = random.Random(seed)
    loop = busy_loop(rng)
    loop.run(lambda state: state.sequence > 150)
    log = disturbed(loop.log, rng)
    if rng.random() < 0.5:
        log[0] = doctored(loop.log[0], rng, ["a"])
        arbitrary(log[0].run_started.settings.bandit, rng, [])
        arbitrary(log[0].run_started.settings.training, rng, [])
    state = RunState()
    for event in log:
        evolve(state, event)
        decide(state, now_us=10**15)
        decide(state, now_us=0)
        list(requests(state))


def test_the_fold_of_a_log_is_the_state_of_the_bandit_that_wrote_it() -> None:
    loop = paused_and_resumed(busy_loop(random.Random(3)))
    assert canonical(folded(loop.log)) == canonical(loop.state)


# ---- late and repeated -----------------------------------------------------------------------------------------


@thorough
@given(seeds)
def test_a_repeated_event_is_counted_and_changes_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    log = paused_and_resumed(busy_loop(rng)).log
    until = rng.randrange(1, len(log) + 1)
    state = folded(log[:until])
    for again in rng.sample(log[:until], min(until, 25)):
        before, late = apart_from_counting(state), sum(state.counts.values())
        evolve(state, again)
        assert apart_from_counting(state) == before, again
        assert sum(state.counts.values()) == late + 1


def test_an_event_before_the_run_began_is_counted_as_invalid() -> None:
    loop = Loop()
    state = folded([loop.event("run_paused", {"reason": "x"}, "id"), *loop.log])
    assert (state.counts, state.rules is not None, state.sequence) == ({"invalid": 1}, True, 2)


def test_a_request_on_the_feedback_log_is_unknown_and_moves_nothing() -> None:
    loop = Loop()
    before = apart_from_counting(loop.run(lambda state: state.sequence > 3))
    evolve(loop.state, loop.event("harvest_requested", {"leader": "a"}, "id"))
    assert apart_from_counting(loop.state) == before
    assert loop.state.counts["unknown"] == 1


def test_a_run_starts_once() -> None:
    loop = Loop()
    other = Loop(settings=closed_loop.settings(2))
    assert folded([*loop.log, *other.log]).rules == folded(loop.log).rules


def test_a_result_that_names_another_request_moves_nothing() -> None:
    loop = Loop(domains=[("m", "s", "l")], settings=closed_loop.settings(bandit={"grow": False}))
    loop.run(lambda state: state.open_slots > 0)
    before = apart_from_counting(loop.state)
    body = {"request_hash": "another", "counted": True, "reward": 1}
    evolve(loop.state, loop.event("harvest_judged", body, "id"))
    assert apart_from_counting(loop.state) == before
    assert loop.state.counts == {"late": 1}


def test_a_draw_with_a_leader_that_is_no_source_is_invalid() -> None:
    loop = Loop(domains=[("m", "s", "l")])
    drawn = {"slots": [{"slot": 0, "path": [2], "leader": "nobody", "request_hash": ""}]}
    evolve(loop.state, loop.log[0])
    evolve(loop.state, loop.event("paths_drawn", drawn, "id"))
    assert (loop.state.counts, loop.state.open_slots) == ({"invalid": 1}, 0)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("bandit", "introspection", 0),
        ("bandit", "introspection", 9),
        ("bandit", "window", 65),
        ("bandit", "slots", 0),
        ("bandit", "sharpness", float("nan")),
        ("bandit", "threshold", float("nan")),
        ("bandit", "slot_timeout_s", 0.0),
        ("bandit", "slot_timeout_s", float("inf")),
        ("training", "rehearsal_share", 1.0),
        ("training", "passes", float("inf")),
        ("training", "batch", 0),
    ],
)
def test_a_run_by_impossible_rules_does_not_start(part: str, field: str, value: float) -> None:
    loop = Loop()
    setattr(getattr(loop.log[0].run_started.settings, part), field, value)
    assert folded(loop.log).counts == {"invalid": 1}


@pytest.mark.parametrize("price", [-1.0, 1e300, float("inf"), float("nan")])
def test_a_run_whose_model_has_an_impossible_price_does_not_start(price: float) -> None:
    loop = Loop()
    loop.log[0].run_started.settings.target.price_completion = price
    assert folded(loop.log).counts == {"invalid": 1}
    assert "settings by which no run can go" in {p.what for p in problems(enumerate(loop.log))}


# ---- pausing ---------------------------------------------------------------------------------------------------


def test_a_second_bandits_pause_does_not_pause_the_run_again_after_it_was_resumed() -> None:
    loop = Loop(World(fails=lambda request: Failure.UNAVAILABLE))
    loop.run()
    paused = loop.log[-1]
    assert codec.kind_of(paused) == "run_paused"
    state = folded([*loop.log, loop.event("run_resumed", {}, "resume"), paused])
    assert state.paused == ""


def test_a_bandits_pause_that_comes_after_a_resume_does_not_pause_the_run() -> None:
    """The bandit gave it out before it read that a person had mended the cause and resumed the run."""
    loop = Loop(World(fails=lambda request: Failure.UNAVAILABLE))
    loop.run()
    *before, paused = loop.log
    state = folded([*before, loop.event("run_resumed", {}, "resume"), paused])
    assert (state.stalled, state.paused, state.counts["late"]) == ("", "", 1)


def test_a_resume_gives_what_is_outstanding_its_time_anew() -> None:
    loop = Loop()
    loop.run(lambda state: state.open_slots > 0)
    loop.now_us = 10**9
    evolve(loop.state, loop.event("run_resumed", {}, "resume"))
    assert {slot.asked_us for slot in loop.state.slots} == {10**9}


# ---- accounting ------------------------------------------------------------------------------------------------


@thorough
@given(seeds)
def test_every_reward_stands_in_its_leaf_and_in_all_nodes_above(seed: int) -> None:
    rng = random.Random(seed)
    state = paused_and_resumed(busy_loop(rng, introspection="off")).state
    tree = state.tree
    for node in range(len(tree)):
        if not tree.is_unk[node] and not tree.is_leaf(node) and node != ROOT:
            children = tree.children(node)
            assert tree.alpha[node] - 1 == sum(tree.alpha[child] - 1 for child in children)
            assert tree.beta[node] - 1 == sum(tree.beta[child] - 1 for child in children)
    assert sum(map(tree.pulls, tree.children(ROOT))) == state.counts.get("harvests", 0) == state.pair_count


@thorough
@given(seeds)
def test_an_unk_arm_has_won_once_per_name_and_lost_once_per_failed_request(seed: int) -> None:
    state = paused_and_resumed(busy_loop(random.Random(seed))).state
    tree = state.tree
    arms = [arm for arm in range(len(tree)) if tree.is_unk[arm]]
    assert all(tree.alpha[arm] - 1 == len(tree.children(tree.parent[arm])) for arm in arms)
    assert sum(tree.beta[arm] - 1 for arm in arms) == state.counts.get("sprouts_rejected", 0)


def test_one_sprout_serves_all_slots_that_wait_for_it() -> None:
    loop = Loop(World(width=(4, 1, 1)), closed_loop.settings(bandit={"slots": 12, "sprout_names": 6}))
    loop.run(lambda state: "sprouts" in state.counts)
    asked = [request for request in loop.asked.values() if codec.kind_of(request) == "sprout_requested"]
    assert [request.sprout_requested.want for request in asked] == [6]
    tree = loop.state.tree
    assert tree.alpha[tree.unk_of[ROOT]] == 1 + 4
    assert [slot.waits for slot in loop.state.slots] == [Waits.DECISION] * 12
    mains = tree.children(ROOT)
    assert [slot.child for slot in loop.state.slots] == [mains[turn % 4] for turn in range(12)]


def test_one_failed_sprout_counts_once_whatever_the_number_of_slots() -> None:
    loop = Loop(World(width=(0, 1, 1)))
    loop.run(lambda state: "sprouts_rejected" in state.counts)
    arm = loop.state.tree.unk_of[ROOT]
    assert (loop.state.tree.alpha[arm], loop.state.tree.beta[arm], loop.state.tree.misses[arm]) == (1, 2, 1)


def test_a_name_that_is_known_or_refused_is_not_added() -> None:
    loop = Loop(domains=[("Old", "s", "l")], settings=closed_loop.settings(bandit={"sharpness": 0.0}))
    loop.run(lambda state: bool(state.sprouts))
    sprout = loop.state.sprouts[ROOT]
    body = {
        "parent": ROOT,
        "request_hash": sprout.request_hash,
        "names": [{"name": name} for name in ("OLD", "<b>", " New ", "new", "unk")],
    }
    evolve(loop.state, loop.event("domains_sprouted", body, "id"))
    tree = loop.state.tree
    assert [tree.name[node] for node in tree.children(ROOT)] == ["Old", "New"]
    assert tree.alpha[tree.unk_of[ROOT]] == 2


def test_a_sprout_of_nothing_new_is_a_failed_one() -> None:
    loop = Loop(domains=[("Old", "s", "l")], settings=closed_loop.settings(bandit={"sharpness": 0.0}))
    loop.run(lambda state: bool(state.sprouts))
    body = {"parent": ROOT, "request_hash": loop.state.sprouts[ROOT].request_hash, "names": [{"name": "old"}]}
    evolve(loop.state, loop.event("domains_sprouted", body, "id"))
    assert loop.state.tree.beta[loop.state.tree.unk_of[ROOT]] == 2
    assert loop.state.counts["sprouts_rejected"] == 1


def test_a_second_sprout_under_a_node_in_one_step_is_another_request() -> None:
    """The first came to nothing because the models were away: the second must not be taken for it."""
    loop = Loop(domains=[("m", "s", "l")], settings=closed_loop.settings(bandit={"slots": 2, "lockstep": False}))
    evolve(loop.state, loop.log[0])
    main, secondary = loop.state.tree.children(ROOT)[0], loop.state.tree.path(loop.state.tree.leaves()[0])[1]
    drawn = [
        {"slot": 0, "path": [main], "leader": "a", "request_hash": ""},
        {"slot": 1, "path": [main, secondary], "leader": "a", "request_hash": ""},
    ]
    evolve(loop.state, loop.event("paths_drawn", {"slots": drawn}, "draw"))
    first = loop.state.sprouts[main].request_hash
    failed = {"parent": main, "request_hash": first, "failure": Failure.UNAVAILABLE.value}
    evolve(loop.state, loop.event("sprout_failed", failed, "away"))
    other = {"parent": secondary, "request_hash": loop.state.sprouts[secondary].request_hash, "failure": 1}
    evolve(loop.state, loop.event("sprout_failed", other, "rejected"))
    again = {"drawn": {"slot": 1, "path": [main], "leader": "a", "request_hash": ""}}
    evolve(loop.state, loop.event("slot_continued", again, "on", slot=1))
    assert loop.state.sprouts[main].request_hash != first


def leaf_where(outcome: World, **bandit: Any) -> tuple[RunState, int]:
    """The state after one step on a tree of one leaf, and the leaf."""
    rules = {"grow": False, "slots": 5, "steps": 1, "rounds": 1} | bandit
    loop = Loop(outcome, closed_loop.settings(bandit=rules), domains=[("m", "s", "l")])
    state = loop.run(lambda state: state.step == 1)
    return state, state.tree.leaves()[0]


@pytest.mark.parametrize(
    "world",
    [World(verdict=lambda request: False), World(fails=lambda request: Failure.REJECTED)],
    ids=["no verdict", "rejected"],
)
def test_a_leaf_that_nobody_can_answer_is_closed_and_tells_nothing_of_the_target(world: World) -> None:
    state, leaf = leaf_where(world, leaf_failures=5)
    assert not state.tree.open[leaf]
    assert [(state.tree.alpha[node], state.tree.beta[node]) for node in state.tree.path(leaf)] == [(1, 1)] * 3


def test_a_leaf_with_one_failure_less_stays_open() -> None:
    state, leaf = leaf_where(World(verdict=lambda request: False), leaf_failures=6)
    assert state.tree.open[leaf]


def test_a_verdict_ends_a_row_of_failures() -> None:
    state, leaf = leaf_where(World(verdict=lambda request: request.slot == 2), leaf_failures=3)
    assert (state.tree.open[leaf], state.tree.misses[leaf]) == (1, 2)


def test_an_unavailable_harvest_counts_for_nothing() -> None:
    world = World(fails=lambda request: Failure.UNAVAILABLE if request.slot else None)
    state, leaf = leaf_where(world, leaf_failures=1)
    assert (state.tree.open[leaf], state.tree.pulls(leaf), state.counts["unavailable"]) == (1, 1, 4)
    assert (state.stalled, state.steps_counted) == ("", 1)


def test_an_unavailable_sprout_counts_for_nothing() -> None:
    loop = Loop(World(fails=lambda request: Failure.UNAVAILABLE), closed_loop.settings(bandit={"sprout_failures": 1}))
    tree = loop.run().tree
    arm = tree.unk_of[ROOT]
    assert (tree.alpha[arm], tree.beta[arm], tree.misses[arm], tree.open[arm]) == (1, 1, 0, 1)


def test_a_step_that_was_wholly_unavailable_pauses_the_run_and_is_drawn_again_after_it() -> None:
    away = True
    loop = Loop(World(fails=lambda request: Failure.UNAVAILABLE if away else None))
    state = loop.run()
    assert "unavailable" in state.paused
    assert state.steps_counted == 0
    away = False
    loop.append([loop.event("run_resumed", {}, "resume")])
    assert loop.run().finished
    assert loop.state.counts["harvests"] == 2 * 2 * 12


@pytest.mark.parametrize("lockstep", [False, True])
def test_what_a_person_must_mend_pauses_a_run_that_goes_well_else_and_costs_that_slot_alone(
    lockstep: bool,
) -> None:
    wrong_key = True

    def fails(request: Event) -> Failure | None:
        asks = codec.kind_of(request) == "harvest_requested"
        return Failure.BLOCKED if wrong_key and asks and request.slot == 3 else None

    loop = Loop(World(fails=fails), closed_loop.settings(bandit={"lockstep": lockstep}))
    state = loop.run()
    assert (state.paused, state.round, state.step) == ("scripted", 0, 1)
    wrong_key = False
    loop.append([loop.event("run_resumed", {}, "resume")])
    assert loop.run().finished
    assert loop.state.counts["harvests"] == 2 * 2 * 12 - 1
    assert loop.state.counts["unavailable"] == 1


def test_a_training_that_a_person_must_mend_is_drawn_anew_in_its_round_under_a_name_of_its_own() -> None:
    full_disk = True

    def fails(request: Event) -> Failure | None:
        return Failure.BLOCKED if full_disk and codec.kind_of(request) == "training_requested" else None

    loop = Loop(World(fails=fails))
    state = loop.run()
    assert state.paused == "the training of r1 failed: scripted"
    assert (state.round, state.next()) == (0, Next.TRAINING)
    full_disk = False
    loop.append([loop.event("run_resumed", {}, "resume")])
    assert loop.run().finished
    assert loop.state.versions == ["base", "r1.1", "r2"]


def test_a_failed_training_leaves_the_target_and_the_run_goes_on() -> None:
    first = closed_loop.settings(bandit={"training_failures": 2})
    fails = lambda request: Failure.REJECTED if request.training_requested.version == "r1" else None  # noqa: E731
    state = Loop(World(fails=fails), first).run()
    assert (bool(state.finished), state.versions) == (True, ["base", "r2"])


def test_trainings_that_go_on_failing_pause_the_run() -> None:
    fails = lambda request: Failure.REJECTED if codec.kind_of(request) == "training_requested" else None  # noqa: E731
    state = Loop(World(fails=fails), closed_loop.settings(bandit={"training_failures": 2, "rounds": 5})).run()
    assert "training of r2 failed" in state.paused
    assert state.target_version == "base"


def test_a_node_is_reborn_only_as_its_window_says() -> None:
    loop = Loop(World(loses=lambda path, version: 0.0), closed_loop.settings(bandit={"introspection": "paper"}))
    loop.run(lambda state: state.next() == "introspection")
    tree = loop.state.tree
    node = next(node for node in tree.children(ROOT) if tree.pulls(node) >= 4)
    for window_sum, length in ((1, 4), (0, 5)):
        body = {"rebirths": [{"node": node, "window_sum": window_sum, "window_length": length}]}
        evolve(loop.state, loop.event("nodes_reborn", body, "wrong"))
    assert loop.state.counts["invalid"] == 2
    body = {"rebirths": [{"node": node, "window_sum": 0, "window_length": 4}]}
    evolve(loop.state, loop.event("nodes_reborn", body, "right"))
    assert (tree.alpha[node], tree.beta[node], loop.state.introspected) == (1, 5, True)
