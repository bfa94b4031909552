"""What is asked of lm-evaluation-harness, and what is made of its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bohdi.harness import Adapted, HarnessFailed, Served, Tasks, _config, _environment, _last_line, results
from bohdi_common.models.port import Endpoint

WRITTEN: dict[str, Any] = {
    "results": {
        "tiny": {"alias": "tiny", "sample_len": 24, "exact_match,none": 0.5, "exact_match_stderr,none": 0.1},
        "group": {"alias": "group", "acc,flexible": 0.25, "acc_stderr,flexible": "N/A", "acc,none": float("nan")},
    },
    "configs": {"tiny": {"doc_to_text": "{{question}}", "metadata": {"version": 1.0, "pretrained": "/somewhere"}}},
    "versions": {"tiny": 1.0},
    "n-samples": {"tiny": {"original": 24, "effective": 20}},
}


def test_every_metric_of_a_task_is_a_score_with_its_error_and_its_questions() -> None:
    tiny, group = results(WRITTEN).scores
    assert (tiny.domain, tiny.metric, tiny.value, tiny.stderr, tiny.questions) == (
        "tiny",
        "exact_match,none",
        0.5,
        0.1,
        20,
    )
    assert (group.domain, group.metric, group.value, group.stderr, group.questions) == (
        "group",
        "acc,flexible",
        0.25,
        0,
        0,
    )


def test_the_digest_is_of_the_tasks_and_not_of_where_the_model_stands() -> None:
    elsewhere = WRITTEN | {"configs": {"tiny": {"doc_to_text": "{{question}}", "metadata": {"pretrained": "/else"}}}}
    changed = WRITTEN | {"configs": {"tiny": {"doc_to_text": "Q: {{question}}"}}}
    assert results(elsewhere).tasks_digest == results(WRITTEN).tasks_digest
    assert results(changed).tasks_digest != results(WRITTEN).tasks_digest


def test_results_without_a_score_and_with_too_many_are_refused() -> None:
    with pytest.raises(HarnessFailed, match="without a score"):
        results(WRITTEN | {"results": {"tiny": {"alias": "tiny"}}})
    with pytest.raises(HarnessFailed, match="ask for fewer tasks"):
        results(WRITTEN | {"results": {"tiny": {f"m{n},none": 0.5 for n in range(2001)}}})


def test_a_model_behind_a_server_is_asked_under_its_name_with_its_key_and_a_folder_is_loaded(tmp_path: Path) -> None:
    endpoint = Endpoint(("http://host:1/v1/",), "served", "THE_KEY", concurrency=4, timeout_s=1.5)
    adapted = _config(Adapted(tmp_path / "r1", tmp_path / "base"), Tasks(("tiny",)), tmp_path)
    arguments = {"pretrained": str(tmp_path / "base"), "peft": str(tmp_path / "r1"), "dtype": "auto"}
    assert (adapted["model"], adapted["model_args"]) == ("hf", arguments)
    served = _config(Served(endpoint, "served-r2", "Be brief."), Tasks(("tiny",), limit=3), tmp_path)
    assert served["model"] == "local-chat-completions"
    assert served["model_args"] == {
        "model": "served-r2", "base_url": "http://host:1/v1/chat/completions", "num_concurrent": 4, "timeout": 2,
    }  # fmt: skip
    assert (served["system_instruction"], served["limit"]) == ("Be brief.", 3)
    folder = _config(tmp_path, Tasks(("tiny",), tmp_path), tmp_path)
    assert (folder["model"], folder["model_args"]["pretrained"]) == ("hf", str(tmp_path))
    assert (folder["limit"], folder["include_path"]) == (None, str(tmp_path))


def test_a_key_goes_into_the_environment_of_the_harness_and_into_nothing_that_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served(Endpoint(("http://host:1/v1",), "served", "THE_KEY"), "served")
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(HarnessFailed, match="THE_KEY is not set"):
        _environment(served)
    monkeypatch.setenv("THE_KEY", "sk-secret")
    environment, key = _environment(served)
    assert environment["OPENAI_API_KEY"] == key == "sk-secret"
    assert _last_line("Traceback\nRuntimeError: 401 for sk-secret\n\n", key) == "RuntimeError: 401 for (the key)"


def test_a_model_in_a_folder_is_given_nobodys_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert "sk-secret" not in _environment(tmp_path)[0].values()
