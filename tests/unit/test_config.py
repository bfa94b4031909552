"""The configuration: mistakes are named by place, shipped files load, the paper's preset is the paper's."""

import math
from pathlib import Path
from typing import Any

import pytest

from bohdi_common.core.state import Rules
from bohdi_common.events import events_pb2 as pb
from bohdi_common.models import prompts
from bohdi_common.runtime.config import BadConfig, Config, load, parse

STYLES = "plain, steps, views, code, compare, across, talk"
SHARDED = {"launcher": "torchrun", "processes": 2, "sharding": "fsdp"}
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def config(**changes: Any) -> Config:
    raw: dict[str, Any] = {
        "name": "x",
        "sources": [{"name": "a", "path": "a"}, {"name": "b", "path": "b"}],
        "target": {"name": "t", "path": "t"},
    }
    return parse(raw | changes, "x.yaml")


def complaint(**changes: Any) -> str:
    with pytest.raises(BadConfig) as told:
        config(**changes)
    return str(told.value)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_shipped_configuration_loads_and_gives_a_run_that_can_start(file: Path) -> None:
    shipped = load(file)
    models = (*shipped.sources, shipped.target)
    digests = dict.fromkeys((*(model.name for model in models), *shipped.harvest.benchmarks), "0" * 64)
    assert Rules.of(shipped.settings(1, digests)).problem() == ""


def test_there_are_shipped_configurations() -> None:
    assert "demo.yaml" in {file.name for file in CONFIGS}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"bandit": {"stepz": 3}}, "x.yaml: bandit.stepz: unknown key"),
        ({"nme": "x"}, "x.yaml: nme: unknown key"),
        ({"sources": [{"name": "a", "path": "a", "temprature": 1}]}, "x.yaml: sources[0].temprature: unknown key"),
        ({"bandit": {"threshold": 1.5}}, "x.yaml: bandit.threshold: "),
        ({"bandit": {"window": 65}}, "x.yaml: bandit.window: "),
        ({"bandit": {"slots": 0}}, "x.yaml: bandit.slots: "),
        ({"bandit": {"sharpness": -1}}, "x.yaml: bandit.sharpness: "),
        ({"bandit": {"introspection": "on"}}, "x.yaml: bandit.introspection: "),
        ({"training": {"learning_rate": "fast"}}, "x.yaml: training.learning_rate: "),
        ({"training": {"stm_perplexity": 0.5}}, "x.yaml: training.stm_perplexity: no perplexity is below 1"),
        ({"training": {"held_back_share": 0.6}}, "x.yaml: training.held_back_share: "),
        ({"training": {"processes": 2}}, "x.yaml: training: processes is 2, and launcher inprocess has one"),
        ({"training": {"launcher": "torchrun", "nodes": 2}}, "x.yaml: training: nodes is 2, and launcher torchrun"),
        ({"training": {"launcher": "torchrun", "processes": 5}}, "x.yaml: training: a batch of 32 cannot be shared"),
        ({"training": {"launcher": "slurm"}}, "x.yaml: training.launcher: "),
        ({"training": {"sharding": "fsdp"}}, "x.yaml: training: sharding is fsdp, and one process"),
        ({"training": SHARDED | {"dpo_beta": 0.1}}, "x.yaml: training: sharding fsdp is for AdamW on examples"),
        ({"training": SHARDED | {"muon_learning_rate": 0.1}}, "x.yaml: training: sharding fsdp is for AdamW"),
        ({"training": {"dpo_beta": -1}}, "x.yaml: training.dpo_beta: "),
        ({"prompts": "none-v0"}, "x.yaml: prompts: there is no such prompt set"),
        ({"sources": []}, "x.yaml: sources: "),
        ({"evaluation": {}}, "x.yaml: evaluation: it asks for nothing"),
        ({"evaluation": {"tasks": ["a,b"]}}, "x.yaml: evaluation.tasks[0]: "),
        ({"evaluation": {"tasks": ["a"], "limit": -1}}, "x.yaml: evaluation.limit: "),
        ({"target": {"name": "t"}}, "x.yaml: target: path is missing"),
        ({"target": {"name": "t", "path": "t", "urls": ["http://x/v1"]}}, "x.yaml: target: urls, served_name, key_env"),
        ({"sources": [{"name": "a", "adapter": "http"}]}, "x.yaml: sources[0]: urls is missing"),
        ({"sources": [{"name": "a", "adapter": "http", "urls": ["x"]}]}, "x.yaml: sources[0].urls[0]: "),
        ({"sources": [{"name": "a", "adapter": "http", "urls": ["http://me:pw@x"]}]}, "x.yaml: sources[0].urls[0]: "),
        ({"domains": [["one", "two"]]}, "x.yaml: domains: "),
        ({"name": "no such/name"}, "x.yaml: name: "),
        ({"judging": {"verdicts": 2}}, "x.yaml: judging: verdicts is 2, an even number"),
        ({"judging": {"verdicts": 17}}, "x.yaml: judging.verdicts: "),
        ({"judging": {"mode": "judge"}}, "x.yaml: judging: mode is judge, but nobody is named"),
        ({"judging": {"mode": "judge", "judge": "z"}}, "x.yaml: judging.judge: no model of that name (a, b, t): 'z'"),
        ({"judging": {"judge": "a"}}, "x.yaml: judging: judge is for mode: judge"),
        ({"judging": {"mode": "leader", "judges": [{"name": "z", "path": "z"}]}}, "x.yaml: judging: judges: z would"),
        (
            {"judging": {"mode": "judge", "judge": "a", "judges": [{"name": "z", "path": "z"}]}},
            "x.yaml: judging: judges: z would never be asked",
        ),
        ({"judging": {"judges": [{"name": "a", "path": "z"}]}}, "x.yaml: two models have one name"),
        (
            {"judging": {"mode": "panel_without_author"}, "sources": [{"name": "a", "path": "a"}]},
            "x.yaml: judging.mode: without the author nobody judges",
        ),
        ({"sources": [{"name": "a", "path": "a", "price_prompt": math.inf}]}, "x.yaml: sources[0].price_prompt: "),
        ({"sources": [{"name": "a", "path": "a", "price_completion": 1e10}]}, "x.yaml: sources[0].price_completion: "),
        ({"training": {"lora_alpha": math.inf}}, "x.yaml: training.lora_alpha: "),
        ({"harvest": {"near_duplicate": 0.3}}, "x.yaml: harvest.near_duplicate: below 0.5"),
        ({"harvest": {"languages": ["english"]}}, "x.yaml: harvest.languages: english: no language"),
        ({"harvest": {"languages": ["xx"]}}, "x.yaml: harvest.languages: "),
        ({"harvest": {"decontamination_words": 4}}, "x.yaml: harvest.decontamination_words: "),
    ],
)
def test_a_mistake_is_named_by_its_place(changes: dict[str, Any], place: str) -> None:
    assert complaint(**changes).startswith(place)


def test_a_complaint_shows_the_value() -> None:
    assert complaint(bandit={"threshold": 1.5}).endswith(": 1.5")


def test_every_mistake_has_a_line() -> None:
    assert len(complaint(bandit={"slots": 0, "window": 0}, nme="x").splitlines()) == 3


def test_two_models_of_one_name_are_refused() -> None:
    assert "two models have one name" in complaint(target={"name": "a", "path": "t"})


def test_a_target_behind_servers_that_is_trained_whole_has_them_for_itself() -> None:
    def target(*urls: str) -> dict[str, Any]:
        return {"name": "t", "adapter": "http", "path": "t", "urls": urls}

    sources = [{"name": "a", "adapter": "http", "urls": ["http://a/v1"]}]
    whole, digests = {"sources": sources, "target": target("http://t/v1")}, {"t": "", "a": ""}
    assert config(**whole).settings(0, digests).target.reloads
    assert not config(**whole, training={"lora_rank": 8}).settings(0, digests).target.reloads
    shared = complaint(sources=sources, target=target("http://t/v1", "http://a/v1"))
    assert "target.urls: http://a/v1 is a's too, and the target is trained whole" in shared
    assert "give target.path too" in complaint(target={"name": "t", "adapter": "http", "urls": ["http://t/v1"]})


def test_a_tree_that_can_neither_grow_nor_has_domains_is_refused() -> None:
    assert "the tree would stay empty" in complaint(bandit={"grow": False})


def test_shares_that_leave_no_room_are_refused() -> None:
    assert "together are above 1" in complaint(training={"rehearsal_share": 0.6, "replay_share": 0.6})


def test_a_number_that_is_none_is_refused() -> None:
    for section, key in (("bandit", "sharpness"), ("bandit", "threshold"), ("training", "learning_rate")):
        assert key in complaint(**{section: {key: math.nan}})


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [", "\x00"])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(BadConfig, match=r"odd\.yaml"):
        load(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere\.yaml: no such file"):
        load(tmp_path / "nowhere.yaml")


def test_overrides_are_laid_over_the_file() -> None:
    demo = next(file for file in CONFIGS if file.name == "demo.yaml")
    changed = load(demo, {"bandit": {"rounds": 1}})
    assert (changed.bandit.rounds, changed.bandit.steps) == (1, load(demo).bandit.steps)


def test_a_file_is_laid_over_the_one_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nsources: [{name: a, path: a}]\ntarget: {name: t, path: t}\n")
    (tmp_path / "top.yaml").write_text("extends: base.yaml\nname: top\ntarget: {path: other}\n")
    top = load(tmp_path / "top.yaml", {"bandit": {"rounds": 2}})
    assert (top.name, top.sources[0].name, top.target.name, top.target.path, top.bandit.rounds) == (
        "top", "a", "t", "other", 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        ("../base.yaml", "extends: not the name of a file in the same folder"),
        ("[a]", "extends: not the name of a file"),
        ("top.yaml", "extends: unknown key"),  # one step only: a circle has no end
    ],
)
def test_a_file_that_cannot_be_extended_is_named(tmp_path: Path, base: str, told: str) -> None:
    (tmp_path / "top.yaml").write_text(f"extends: {base}\nname: top\n")
    with pytest.raises(BadConfig) as error:
        load(tmp_path / "top.yaml")
    assert told in str(error.value)


def test_the_papers_configurations_have_its_models_and_values() -> None:
    papers = {file.stem: load(file) for file in CONFIGS if file.stem.startswith("paper-")}
    assert {Path(paper.target.path).name for paper in papers.values()} == {
        "Llama-3.2-3B-Instruct", "Llama-3.1-8B-Instruct", "Qwen2.5-7B-Instruct", "gemma-2-9b-it",
    }  # fmt: skip
    for name, paper in papers.items():
        assert (paper.name, paper.preset) == (name, "paper")
        assert [source.served_name for source in paper.sources] == [
            "Qwen/Qwen2.5-14B-Instruct", "mistralai/Mistral-Small-24B-Instruct-2501", "microsoft/phi-4",
        ]  # fmt: skip
        assert [source.temperature_answer for source in paper.sources] == [0.7, 0.15, 0.7]
        assert paper.target.temperature_answer == 0.6
        assert ", ".join(paper.harvest.question_styles) == STYLES.removeprefix("plain, ")
        assert (paper.training.lora_rank, paper.training.batch, paper.training.learning_rate) == (0, 128, 5e-6)


def test_the_paper_preset_has_the_published_values() -> None:
    paper = config(preset="paper")
    bandit, training = paper.bandit, paper.training
    assert (bandit.steps, bandit.slots, bandit.window, bandit.threshold) == (3, 30, 20, 0.2)
    assert (bandit.introspection, bandit.sharpness, bandit.rehearsal_questions) == ("paper", math.inf, 0)
    assert (bandit.sprout_failures, bandit.slot_failures, bandit.sprout_names) == (10, 10, 1)
    assert (training.examples, training.passes) == (3 * 60, 0.0)
    assert (training.rehearsal_share, training.replay_share, training.average_last) == (0.0, 0.0, 1)
    assert (training.learning_rate, training.epochs, training.batch, training.lora_rank) == (5e-6, 1, 128, 0)
    assert (paper.judging.mode, paper.judging.both_orders, paper.judging.top_p) == ("leader", False, 0.95)
    assert (paper.harvest.answer_top_p, paper.harvest.question_top_p, paper.harvest.question_samples) == (0.8, 0.95, 5)
    assert (paper.sprout.samples, paper.sprout.top_p) == (5, 0.95)


def test_what_a_fine_tune_may_also_do_is_off_unless_asked_for() -> None:
    for preset in ("default", "paper"):
        training = config(preset=preset).training
        off = (training.stm_perplexity, training.dpo_beta, training.held_back_share, training.packing)
        assert off == (0.0, 0.0, 0.0, False)


def test_a_preset_gives_way_to_what_the_file_says() -> None:
    paper = config(preset="paper", bandit={"slots": 7})
    assert (paper.bandit.slots, paper.bandit.window, paper.bandit.threshold) == (7, 20, 0.2)


def test_settings_carry_every_value_into_the_run() -> None:
    resolved = config(preset="paper").settings(5, {"a": "1", "b": "2", "t": "3"})
    assert (resolved.seed, resolved.preset, resolved.bandit.introspection) == (5, "paper", pb.INTROSPECTION_PAPER)
    assert (resolved.judging.mode, resolved.bandit.sharpness) == (pb.JUDGING_MODE_LEADER, math.inf)
    assert [source.digest for source in resolved.sources] == ["1", "2"]


@pytest.mark.parametrize("section", ["bandit", "sprout", "harvest", "judging", "training"])
def test_the_sections_have_the_fields_of_their_messages(section: str) -> None:
    message = pb.Settings.DESCRIPTOR.fields_by_name[section].message_type
    in_proto = {field.name for field in message.fields} - {"benchmark_digests"}
    assert set(Config.model_fields[section].annotation.model_fields) == in_proto  # type: ignore[union-attr]


def test_by_default_only_the_benchmarks_gate_is_on_and_the_chat_preset_has_the_others() -> None:
    for preset in ("default", "paper"):
        harvest = config(preset=preset).harvest
        assert (harvest.near_duplicate, harvest.drop_refusals, harvest.drop_cut, harvest.languages) == (
            0,
            False,
            False,
            (),
        )
    chat = config(preset="chat").harvest
    assert (chat.near_duplicate, chat.drop_refusals, chat.drop_cut, chat.languages) == (0.8, True, True, ())


def test_styles_are_names_of_the_prompt_set_or_sentences_and_travel_as_sentences() -> None:
    harvest = {"question_styles": ["code", "It must rhyme.", "code"]}
    resolved = config(prompts="chat-v3", harvest=harvest).settings(1, {"a": "1", "b": "2", "t": "3"})
    code = prompts.load("chat-v3").styles["code"]
    assert list(resolved.harvest.question_styles) == [code, "It must rhyme.", code]


@pytest.mark.parametrize(
    ("prompt_set", "style", "why"),
    [
        ("chat-v3", "cod", f"give sentences, or names of chat-v3 ({STYLES}): cod"),
        ("micro-v1", "It must rhyme.", "the prompts micro-v1 take no style: remove them, or use chat-v3, chat-v4"),
    ],
)
def test_a_style_that_no_prompt_has_is_refused(prompt_set: str, style: str, why: str) -> None:
    told = complaint(prompts=prompt_set, harvest={"question_styles": [style]})
    assert told == f"x.yaml: harvest.question_styles: {why}"


def test_judges_are_models_of_the_run_with_their_digests() -> None:
    judging = {"mode": "judge", "judges": [{"name": "z", "path": "z", "temperature_verdict": 0.5}]}
    resolved = config(judging=judging).settings(1, {"a": "1", "b": "2", "t": "3", "z": "4"}).judging
    assert resolved.mode == pb.JUDGING_MODE_JUDGE
    assert [(j.name, j.digest, j.temperature_verdict) for j in resolved.judges] == [("z", "4", 0.5)]
