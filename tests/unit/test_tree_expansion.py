"""Tree expansion: proposals of all sources become the names with the most votes."""

from typing import Any

import pytest

from bohdi_common.core.state import Failure
from bohdi_common.events.events_pb2 import Event
from bohdi_common.models.port import ModelBlocked, ModelRefused, ModelUnavailable
from services.tree_expansion.handler import TreeExpansion
from tests.unit.script import Says, Script, request


async def outcome(says: Says, want: int = 1, votes: int = 2, **body: Any) -> Event:
    asked = {"parent": 5, "path": ["Science"], "known": ["Physics"], "want": want} | body
    event = request("sprout_requested", asked, sprout={"samples": 2, "votes": votes})
    (result,) = await TreeExpansion(Script(says), clock=lambda: 7).handle(event)
    return result


def by_source(**texts: str | list[str]) -> Says:
    return lambda model, prompt: texts[model]


async def test_the_most_voted_name_is_added() -> None:
    result = await outcome(by_source(a="Biology", b=["Biology", "Chemistry"], c="Chemistry"), want=2)
    assert [(name.name, name.votes) for name in result.domains_sprouted.names] == [("Biology", 3), ("Chemistry", 3)]
    result = await outcome(by_source(a="Geology", b=["Biology", "Geology"], c="Biology"))
    assert [name.name for name in result.domains_sprouted.names] == ["Biology"]  # 3 and 3: by name


async def test_the_result_names_its_request_and_its_place() -> None:
    result = await outcome(by_source(a="X", b="X", c="X"))
    body = result.domains_sprouted
    assert (body.request_hash, body.parent, body.prompts) == ("hash", 5, "micro-v1")
    assert (result.run_id, result.cause_id, result.round, result.step, result.slot) == ("run", "request", 1, 2, 3)
    assert (result.producer, result.time_us, result.schema_version) == ("tree_expansion", 7, 1)


async def test_the_same_outcome_has_the_same_id() -> None:
    says = by_source(a="X", b="X", c="X")
    assert (await outcome(says)).event_id == (await outcome(says)).event_id


async def test_sources_are_asked_with_the_path_and_the_siblings() -> None:
    prompts: list[str] = []
    await outcome(lambda model, prompt: prompts.append(prompt) or "X")  # type: ignore[func-returns-value]
    assert prompts == ["Propose: Root > Science | Physics"] * 3


async def test_spellings_of_one_name_add_up() -> None:
    result = await outcome(by_source(a="Life Science", b="life science", c="LifeScience"), votes=6)
    assert [(name.name, name.votes) for name in result.domains_sprouted.names] == [("Life Science", 6)]


async def test_known_names_the_path_and_what_is_no_name_are_refused_with_the_reason() -> None:
    result = await outcome(by_source(a="physics", b="SCIENCE", c="<b>"))
    failed = result.sprout_failed
    assert failed.failure == Failure.REJECTED
    assert {p.text: p.refused for p in failed.proposals} == {"physics": "known", "SCIENCE": "known", "<b>": "markup"}


async def test_a_name_with_too_few_votes_is_not_added() -> None:
    result = await outcome(by_source(a="X", b="Y", c="Z"), votes=3)
    assert "3 votes" in result.sprout_failed.reason
    assert [proposal.votes for proposal in result.sprout_failed.proposals] == [2, 2, 2]


async def test_as_many_names_are_added_as_are_wanted_and_one_sample_gives_no_more_votes() -> None:
    many = "\n".join(["A1", "A1", "A2", "A3", "A4"])
    result = await outcome(by_source(a=many, b=many, c=many), want=3)
    assert [(name.name, name.votes) for name in result.domains_sprouted.names] == [("A1", 6), ("A2", 6), ("A3", 6)]


async def test_a_reply_may_be_asked_for_more_names_than_are_wanted_and_each_has_its_vote() -> None:
    asked = {"parent": 5, "path": ["Science"], "known": [], "want": 1}
    event = request("sprout_requested", asked, sprout={"samples": 2, "votes": 2, "names": 3})
    event.sprout_requested.settings.prompts = "chat-v3"
    models = Script(by_source(a="1. Geology\n2. Biology\n3. Heat\n4. Cut", b="Biology", c=["Heat", "none"]))
    (result,) = await TreeExpansion(models).handle(event)
    assert [(name.name, name.votes) for name in result.domains_sprouted.names] == [("Biology", 4)]
    assert {p.text: p.votes for p in result.domains_sprouted.proposals} == {"Biology": 4, "Heat": 3, "Geology": 2}
    assert "Name 3 parts of Science" in models.calls[0][1][-1]["content"]
    assert '"maxItems": 3' in models.calls[0][2].form


async def test_list_marks_and_abstentions_are_no_names() -> None:
    asked = {"parent": 5, "path": ["Science"], "known": ["Physics"], "want": 1}
    event = request("sprout_requested", asked, sprout={"samples": 2, "votes": 2})
    event.sprout_requested.settings.prompts = "chat-v2"
    says = by_source(a='1. "Biology"', b="- Biology", c=["none", "This is one."])
    (result,) = await TreeExpansion(Script(says)).handle(event)
    found = [(p.text, p.votes, p.refused) for p in result.domains_sprouted.proposals]
    assert found == [("Biology", 4, ""), ("This is one", 1, "a sentence, not a name")]


async def test_a_name_that_the_token_limit_cut_has_no_vote() -> None:
    asked = {"parent": 5, "path": ["Science"], "known": [], "want": 1}
    event = request("sprout_requested", asked, sprout={"samples": 2, "votes": 2, "names": 2})
    event.sprout_requested.settings.prompts = "chat-v2"
    says = by_source(a="Biology\nGeol...", b="Biology", c="Heat\nGeol...")
    (result,) = await TreeExpansion(Script(says)).handle(event)
    assert {p.text: p.votes for p in result.domains_sprouted.proposals} == {"Biology": 4, "Heat": 2}


def without(away: str, error: Exception) -> Says:
    def says(model: str, prompt: str) -> str:
        if model in away:
            raise error
        return "Biology"

    return says


async def test_a_source_that_is_away_takes_no_part() -> None:
    result = await outcome(without("b", ModelUnavailable("away")))
    assert result.domains_sprouted.names[0].votes == 4


async def test_a_source_that_a_person_must_mend_is_not_left_out() -> None:
    with pytest.raises(ModelBlocked, match="the key is wrong"):
        await outcome(without("b", ModelBlocked("the key is wrong")))


async def test_with_every_source_away_the_request_is_to_be_tried_again() -> None:
    with pytest.raises(ModelUnavailable, match="could be reached for a proposal: away"):
        await outcome(without("abc", ModelUnavailable("away")))


async def test_a_source_that_refuses_is_told_to_the_shell() -> None:
    with pytest.raises(ModelRefused):
        await outcome(without("b", ModelRefused("too long")))


async def test_the_log_keeps_bounded_proposals() -> None:
    texts = [[f"{source}{n} " + "x" * 300 for n in range(100)] for source in "abc"]
    result = await outcome(
        by_source(**dict(zip("abc", [["\n".join(t)] * 2 for t in texts], strict=True))), want=100, votes=1
    )
    assert len(result.sprout_failed.proposals) == 64
    assert max(len(proposal.text) for proposal in result.sprout_failed.proposals) == 200
