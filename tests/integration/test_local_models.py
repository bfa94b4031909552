"""The local models hold the port, and batching changes nothing but the speed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch

from bohdi_common.models import local
from bohdi_common.models.huggingface import load_model, load_tokenizer
from bohdi_common.models.local import LocalModels
from bohdi_common.models.port import Message, ModelRef, ModelRefused, ModelUnavailable, Reply, Sampling
from tests.integration.tiny_models import POSITIONS, save_tiny_model

ONE, TWO = ModelRef("one"), ModelRef("two")
GREEDY = Sampling(max_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    return {name: save_tiny_model(folder / name, seed) for seed, name in enumerate(("one", "two"))}


@pytest_asyncio.fixture
async def models(folders: dict[str, Path]) -> AsyncIterator[LocalModels]:
    made = LocalModels(lambda ref: folders[ref.name], device="cpu")
    yield made
    await made.close()


def asking(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def question(i: int) -> list[Message]:
    """Prompts of many lengths."""
    return asking(f"What is {i} plus {7 * i}? " + "Number 3 is red. " * (i % 5))


def text_of(reply: Reply) -> str:
    (completion,) = reply.completions
    return completion.text


def plainly(folder: Path, messages: list[Message], max_tokens: int) -> list[int]:
    """Greedy token ids by the textbook: no padding, no cache, one forward a token, the end token left out."""
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32).eval()
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    start = len(ids)
    for _ in range(max_tokens):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids = [*ids, token]
    return ids[start:]


async def test_a_batch_of_many_lengths_gives_the_same_greedy_text_as_one_by_one(models: LocalModels) -> None:
    alone = [await models.complete(ONE, question(i), GREEDY) for i in range(20)]
    together = await asyncio.gather(*(models.complete(ONE, question(i), GREEDY) for i in range(20)))
    assert [text_of(r) for r in together] == [text_of(r) for r in alone]
    assert len({text_of(r) for r in alone}) > 10


async def test_left_padding_changes_nothing_against_a_plain_forward(
    models: LocalModels, folders: dict[str, Path]
) -> None:
    tokenizer = load_tokenizer(folders["one"])
    replies = await asyncio.gather(*(models.complete(ONE, question(i), GREEDY) for i in range(6)))
    for i, reply in enumerate(replies):
        expected = plainly(folders["one"], question(i), GREEDY.max_tokens)
        assert text_of(reply) == tokenizer.decode(expected, skip_special_tokens=True)
        assert reply.completions[0].completion_tokens == len(expected)


async def test_two_models_asked_at_once_answer_for_themselves(models: LocalModels) -> None:
    both = await asyncio.gather(*(models.complete(m, question(i), GREEDY) for i in range(8) for m in (ONE, TWO)))
    ones, twos = [text_of(r) for r in both[::2]], [text_of(r) for r in both[1::2]]
    assert ones == [text_of(await models.complete(ONE, question(i), GREEDY)) for i in range(8)]
    assert twos == [text_of(await models.complete(TWO, question(i), GREEDY)) for i in range(8)]
    assert ones != twos


async def test_requests_that_sample_differently_do_not_mix(models: LocalModels) -> None:
    alone = text_of(await models.complete(ONE, question(1), GREEDY))
    _, greedy = await asyncio.gather(
        models.complete(ONE, question(1), Sampling(max_tokens=12, temperature=5.0)),
        models.complete(ONE, question(1), GREEDY),
    )
    assert text_of(greedy) == alone


async def test_n_completions_are_drawn_independently(models: LocalModels) -> None:
    reply = await models.complete(ONE, question(1), Sampling(max_tokens=8, temperature=1.5, n=6))
    assert len(reply.completions) == 6
    assert len({c.text for c in reply.completions}) > 1


async def test_more_completions_than_a_batch_holds_are_made_in_several(folders: dict[str, Path]) -> None:
    models = LocalModels(lambda ref: folders[ref.name], device="cpu", max_batch=4)
    replies = await asyncio.gather(
        models.complete(ONE, question(1), Sampling(max_tokens=4, n=10)),
        *(models.complete(ONE, question(i), Sampling(max_tokens=4)) for i in range(9)),
    )
    assert [len(r.completions) for r in replies] == [10] + [1] * 9
    assert {c.text for c in replies[0].completions} == {text_of(replies[2])}
    await models.close()


async def test_a_stop_string_cuts_the_text_and_halts_its_row_alone(models: LocalModels) -> None:
    free = await models.complete(ONE, question(2), Sampling(max_tokens=20))
    whole = text_of(free)
    stop = whole[8:10]
    stopping = Sampling(max_tokens=20, stop=("never written", stop))
    cut, other = await asyncio.gather(
        models.complete(ONE, question(2), stopping), models.complete(ONE, question(3), stopping)
    )
    assert text_of(cut) == whole[: whole.index(stop)]
    assert cut.completions[0].finish_reason == "stop"
    assert cut.completions[0].completion_tokens < free.completions[0].completion_tokens
    unstopped = text_of(await models.complete(ONE, question(3), Sampling(max_tokens=20)))
    assert text_of(other) == unstopped.split(stop)[0]


def test_a_row_halts_at_the_token_that_completes_a_stop_string(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["one"])
    rows = tokenizer(["red, blue or green", "red, blue is green"], add_special_tokens=False)["input_ids"]
    ids = torch.tensor([row[:3] for row in rows])
    assert tokenizer.batch_decode(ids) == ["red, blue or", "red, blue is"]
    halts = local._Stops(tokenizer, ("purple", "blue is"), width=1)
    assert halts(ids, torch.empty(0)).tolist() == [False, True]
    assert halts(ids[:, :2], torch.empty(0)).tolist() == [False, False]
    assert local._Stops(tokenizer, ("red",), width=1)(ids, torch.empty(0)).tolist() == [False, False]


async def test_finish_reason_and_tokens_tell_an_end_from_a_cut(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "ending", seed=5)
    model = load_model(folder, torch.float32)
    with torch.no_grad():
        # The end token wins wherever nothing else does by much: rows of one batch end at different places.
        model.model.embed_tokens.weight[3] *= 2.0
    model.save_pretrained(folder)
    models = LocalModels(lambda _: folder, device="cpu")
    sampling = Sampling(max_tokens=24)
    replies = await asyncio.gather(*(models.complete(ONE, question(i), sampling) for i in range(40)))
    expected = [plainly(folder, question(i), 24) for i in range(40)]
    assert [r.completions[0].completion_tokens for r in replies] == [len(tokens) for tokens in expected]
    assert [r.completions[0].finish_reason for r in replies] == [
        "length" if len(tokens) == 24 else "stop" for tokens in expected
    ]
    assert {r.completions[0].finish_reason for r in replies} == {"stop", "length"}
    await models.close()


async def test_the_prompt_is_counted_in_tokens_without_padding(models: LocalModels, folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["one"])
    replies = await asyncio.gather(*(models.complete(ONE, question(i), GREEDY) for i in range(5)))
    for i, reply in enumerate(replies):
        text = tokenizer.apply_chat_template(question(i), tokenize=False, add_generation_prompt=True)
        assert reply.prompt_tokens == len(tokenizer(text, add_special_tokens=False)["input_ids"])


async def test_a_prompt_too_long_for_the_model_is_refused_and_its_neighbours_are_not(models: LocalModels) -> None:
    too_long = asking("Number 3 is red. " * 40)
    refused, answered = await asyncio.gather(
        models.complete(ONE, too_long, GREEDY), models.complete(ONE, question(1), GREEDY), return_exceptions=True
    )
    assert isinstance(refused, ModelRefused)
    assert isinstance(answered, Reply)


async def test_a_completion_ends_where_the_models_positions_do(models: LocalModels) -> None:
    reply = await models.complete(ONE, question(4), Sampling(max_tokens=1000))
    completion = reply.completions[0]
    if completion.finish_reason == "length":
        assert reply.prompt_tokens + completion.completion_tokens == POSITIONS
    other = await models.complete(ONE, question(4), Sampling(max_tokens=8))
    assert completion.text.startswith(text_of(other))


async def test_a_neighbour_with_little_room_left_cuts_nobody_short(models: LocalModels) -> None:
    sampling = Sampling(max_tokens=30)
    alone = await models.complete(ONE, question(1), sampling)
    crowded, beside = await asyncio.gather(
        models.complete(ONE, asking("Number 3 is red. " * 14), sampling), models.complete(ONE, question(1), sampling)
    )
    assert crowded.prompt_tokens > POSITIONS - 30
    assert beside.completions == alone.completions


async def test_messages_that_the_template_refuses_are_refused(models: LocalModels) -> None:
    with pytest.raises(ModelRefused, match="only user and assistant"):
        await models.complete(ONE, [{"role": "system", "content": "Be brief."}], GREEDY)


async def test_a_model_without_a_folder_is_unavailable_and_can_be_asked_again(
    models: LocalModels, folders: dict[str, Path], tmp_path: Path
) -> None:
    folders["late"] = tmp_path / "late"
    with pytest.raises(ModelUnavailable, match="late"):
        await models.complete(ModelRef("late"), question(1), GREEDY)
    save_tiny_model(folders["late"], seed=1)
    assert text_of(await models.complete(ModelRef("late"), question(1), GREEDY)) == text_of(
        await models.complete(TWO, question(1), GREEDY)
    )


async def test_a_batch_that_breaks_fails_its_own_requests_only(
    models: LocalModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    await models.complete(ONE, question(1), GREEDY)
    generate = local.LocalModels._batch

    def breaking(self: LocalModels, loaded: object, rows: list[local._Row], sampling: Sampling) -> object:
        if len(rows[0].prompt) > 30:
            raise RuntimeError("out of memory")
        return generate(self, loaded, rows, sampling)  # type: ignore[arg-type]

    monkeypatch.setattr(local.LocalModels, "_batch", breaking)
    monkeypatch.setattr(local, "MAX_PADDED_TOKENS", 45)
    long, short = await asyncio.gather(
        models.complete(ONE, question(4), GREEDY), models.complete(ONE, question(5), GREEDY), return_exceptions=True
    )
    assert isinstance(long, ModelUnavailable) and "out of memory" in str(long)
    assert isinstance(short, Reply)


async def test_only_so_many_versions_of_one_model_are_kept(folders: dict[str, Path]) -> None:
    loads: list[ModelRef] = []

    def folder_of(ref: ModelRef) -> Path:
        loads.append(ref)
        return folders["one"]

    models = LocalModels(folder_of, device="cpu")
    source, versions = ModelRef("source"), [ModelRef("target", f"v{i}") for i in range(4)]
    for ref in [source, *versions, source, versions[3], versions[2]]:
        await models.complete(ref, question(1), Sampling(max_tokens=1))
    assert loads == [source, *versions]
    await models.complete(versions[0], question(1), Sampling(max_tokens=1))
    assert loads[-1] == versions[0]
    await models.close()


async def test_the_event_loop_stays_free_while_a_model_generates(models: LocalModels) -> None:
    await models.complete(ONE, question(1), GREEDY)
    work = asyncio.gather(*(models.complete(ONE, question(i), Sampling(max_tokens=40)) for i in range(100)))
    longest_s = 0.0
    while not work.done():
        before_s = time.monotonic()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.monotonic() - before_s)
    replies = await work
    assert longest_s < 0.5 * max(r.seconds for r in replies)


async def test_a_caller_that_gives_up_disturbs_nobody(models: LocalModels) -> None:
    leaving = asyncio.create_task(models.complete(ONE, question(1), GREEDY))
    staying = asyncio.create_task(models.complete(ONE, question(2), GREEDY))
    await asyncio.sleep(0)
    leaving.cancel()
    assert isinstance(await staying, Reply)


async def test_closing_fails_the_calls_in_flight_soon_and_all_later_ones(folders: dict[str, Path]) -> None:
    models = LocalModels(lambda ref: folders[ref.name], device="cpu")
    await models.complete(ONE, question(1), GREEDY)
    calls = [
        asyncio.create_task(models.complete(ref, question(i), Sampling(max_tokens=60, n=20)))
        for i in range(6)
        for ref in (ONE, TWO)
    ]
    await asyncio.sleep(0.03)
    before_s = time.monotonic()
    await models.close()
    assert time.monotonic() - before_s < 2.0
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, ModelUnavailable) for outcome in outcomes)
    with pytest.raises(ModelUnavailable, match="closed"):
        await models.complete(ONE, question(1), GREEDY)


def test_batches_hold_to_both_bounds_and_keep_like_lengths_together() -> None:
    rows = [local._Row(i, [0] * (5 + 37 * i % 60), room=8) for i in range(50)]
    made = list(local.batches(rows, max_rows=16, max_padded_tokens=400))
    assert sorted(row.request for batch in made for row in batch) == list(range(50))
    for batch in made:
        assert len(batch) <= 16
        assert len(batch) * (max(len(row.prompt) for row in batch) + 8) <= 400
    lengths = [len(row.prompt) for batch in made for row in batch]
    assert lengths == sorted(lengths)


def test_a_template_without_a_place_for_a_system_message_has_it_in_the_first_turn(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["one"])
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 plus 2?"}
    answer = {"role": "assistant", "content": "3"}
    for turns in ([user], [user, answer, user]):
        folded = [{"role": "user", "content": f"Be brief.\n\n{user['content']}"}, *turns[1:]]
        told = tokenizer.apply_chat_template([system, *turns], tokenize=False, add_generation_prompt=True)
        assert told == tokenizer.apply_chat_template(folded, tokenize=False, add_generation_prompt=True)
        assert "Be brief." in told
