"""The shipped weights are the micro-world they say they are, and a build makes the same ones twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from bohdi.microworld import BENCHMARK, WEIGHTS, evaluate, world
from bohdi.microworld.build import MANIFEST_FILE, RECIPES, Progress, build, build_model, write_benchmark

ACCURACY = cache(evaluate.accuracy)
SOURCES = sorted(world.EXPERTS)
TINY = 0.002  # of the steps: 5 for a source, 2 for the target


def test_the_manifest_holds_the_sum_of_every_shipped_file():
    sums = json.loads((WEIGHTS / MANIFEST_FILE).read_text(encoding="utf-8"))
    shipped = {f.relative_to(WEIGHTS).as_posix() for f in WEIGHTS.rglob("*") if f.is_file()}
    assert set(sums) == shipped - {MANIFEST_FILE, "README.md"}
    for name, digest in sums.items():
        assert hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() == digest, name


def test_the_benchmark_holds_held_out_questions_of_every_leaf_with_right_answers(tmp_path):
    items = [json.loads(line) for line in BENCHMARK.read_text(encoding="utf-8").splitlines()]
    assert {tuple(item["path"]) for item in items} == set(world.LEAVES)
    assert len({item["question"] for item in items}) == len(items)
    for item in items:
        assert world.is_held_out(item["question"])
        assert world.solve(item["question"]) == (tuple(item["path"]), item["answer"])
    write_benchmark(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == BENCHMARK.read_bytes()


@pytest.mark.parametrize("name", RECIPES)
def test_text_survives_the_tokenizer_that_a_user_of_the_folder_gets(name):
    model, tokenizer = evaluate.load(WEIGHTS / name)
    assert model.config.model_type == RECIPES[name].architecture
    for path in world.LEAVES:
        text = world.LEAVES[path].template.format("a b c", "d e f")
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids).strip() == text


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_an_expert_in_its_own_domains_and_none_elsewhere(name):
    experts = world.EXPERTS[name]
    for main in world.children(()):
        mean = fmean(value for domain, value in ACCURACY(WEIGHTS / name).items() if domain.startswith(f"{main} > "))
        assert mean >= 0.95 if main in experts else mean <= 0.35, main


def test_the_target_knows_the_old_domains_and_nothing_of_the_new_ones():
    summary = evaluate.summary(ACCURACY(WEIGHTS / "target"))
    assert summary.old >= 0.96
    assert summary.new <= 0.05


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_plays_its_parts_in_the_loop(name):
    parts = evaluate.parts(WEIGHTS / name, world.EXPERTS[name], per_leaf=10)
    assert parts.questions_well_formed >= 0.94
    assert parts.questions_different >= 0.9
    assert parts.proposals_valid >= 0.94
    assert parts.verdicts_right >= 0.92
    assert parts.verdicts_abstained >= 0.98


@pytest.mark.parametrize("config", [None, "{}", "not json"])
def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="not a model folder") as refused:
        evaluate.accuracy(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_build_writes_every_model_and_reports_every_step(built):
    out, steps = built
    assert {name: [p.step for p in steps if p.model == name] for name in RECIPES} == {
        name: list(range(1, max(1, round(recipe.steps * TINY)) + 1)) for name, recipe in RECIPES.items()
    }
    assert (out / "heldout.jsonl").read_bytes() == BENCHMARK.read_bytes()
    for name in RECIPES:
        assert (out / name / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_build_with_the_same_seed_gives_the_same_bytes(built, tmp_path):
    shutil.copy(built[0] / "heldout.jsonl", tmp_path)
    build_model("qwen", tmp_path, steps_scale=TINY, progress=lambda _: None)
    for file in (tmp_path / "qwen").iterdir():
        assert file.read_bytes() == (built[0] / "qwen" / file.name).read_bytes(), file.name


def test_a_build_with_another_seed_gives_other_weights(built, tmp_path):
    shutil.copy(built[0] / "heldout.jsonl", tmp_path)
    build_model("target", tmp_path, seed=1, steps_scale=TINY, progress=lambda _: None)
    file = Path("target", "model.safetensors")
    assert (tmp_path / file).read_bytes() != (built[0] / file).read_bytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, list[Progress]]:
    """A tiny build: its folder and what it reported."""
    out, steps = tmp_path_factory.mktemp("built"), []
    build(out, steps_scale=TINY, progress=steps.append)
    return out, steps
