"""Which model is asked: the best of the question's domain."""

from __future__ import annotations

import pytest

from bohdi import route_host
from bohdi.profiles import Contest, Profile, Tally, rates
from bohdi.route import choose
from bohdi_common.runtime.config import BadConfig

MODELS = ("target", "a", "b")


def profile_of(*won: tuple[tuple[str, ...], str]) -> Profile:
    """Of contests by domain and winner."""
    tally, pairs = Tally(), []
    for number, (path, winner) in enumerate(won):
        tally.add(Contest(path, f"about {path[-1]} {number}", MODELS, (winner,)))
        pairs.append((f"about {path[-1]} {number}", path))
    return Profile("run", "target", "r1", ("a", "b"), 5.0, rates(tally, MODELS), pairs)


PROFILE = profile_of(*[(("x", "x1", "apples"), "a")] * 8, *[(("y", "y1", "bridges"), "b")] * 9)


def test_a_domain_is_sent_to_the_model_that_wins_there() -> None:
    assert choose(PROFILE, ["x", "x1", "apples"]).model == "a"
    assert choose(PROFILE, ["y"]).model == "b"


def test_a_domain_that_nobody_knows_is_sent_to_the_best_of_the_nearest_above_it() -> None:
    choice = choose(PROFILE, ["X", "never heard of", "nor of this"])
    assert (choice.model, choice.domain) == ("a", ("x",))
    assert choose(PROFILE, ["never heard of"]).domain == ()


def test_a_question_is_sent_by_its_text() -> None:
    choice = choose(PROFILE, "tell me about bridges")
    assert (choice.model, choice.domain) == ("b", ("y", "y1", "bridges"))


def test_only_models_that_may_be_asked_are_chosen_and_the_next_best_follows() -> None:
    assert choose(PROFILE, ["x"], among=("target", "b")).models == ("b", "target")  # b wins more above
    assert choose(PROFILE, ["x"]).models[0] == "a"


def test_of_equals_the_target_is_asked() -> None:
    assert choose(profile_of(), []).models == MODELS


@pytest.mark.parametrize(
    ("given", "meant"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("host:65535", ("host", 65535))]
)
def test_an_address_to_listen_on_is_host_and_port(given: str, meant: tuple[str, int]) -> None:
    assert route_host.address(given) == meant


@pytest.mark.parametrize("given", ["8080", ":8080", "host:", "host:65536", "host:http", "host:-1"])
def test_another_address_is_refused(given: str) -> None:
    with pytest.raises(BadConfig, match="--listen: not HOST:PORT"):
        route_host.address(given)
