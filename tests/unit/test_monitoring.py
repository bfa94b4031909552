"""Dashboards, rules and documents say what the code exports, and the files are those that the code makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from bohdi_common.runtime import metrics
from bohdi_monitoring.__main__ import FOLDER, GUIDE, with_table
from bohdi_monitoring.grafana import as_json
from bohdi_monitoring.panels import BOARDS, Board
from tests.monitoring.prometheus import MONITORING, RECORDED, ROOT, panels

RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text(encoding="utf-8"))
TESTS = yaml.safe_load((MONITORING / "rules_test.yaml").read_text(encoding="utf-8"))
ALL_RULES = [rule for group in RULES["groups"] for rule in group["rules"]]
RECORDS = {rule["record"] for rule in ALL_RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}
OF_THE_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}  # prometheus-client's own
VLLM = {line.split("{")[0] for file in RECORDED for line in file.read_text().splitlines() if line[0] != "#"}
KNOWN = metrics.names() | RECORDS | OF_THE_PROCESS | VLLM


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in ALL_RULES)
    yield from (query.expr for queries in panels().values() for query in queries)


def used(expr: str) -> set[str]:
    """Names of metrics in an expression: words with an underscore or a colon, outside of braces and groupings."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without|group_left)\s*\([^)]*\)", " ", expr)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*", bare) if re.search(r"[_:]", name)} - {"histogram_quantile"}


@pytest.mark.parametrize("expr", sorted(set(expressions())))
def test_every_metric_that_a_rule_or_a_panel_asks_for_is_exported(expr: str) -> None:
    assert used(expr) and used(expr) <= KNOWN


def test_every_label_that_they_select_by_is_one_that_the_metric_has() -> None:
    targets = {"namespace", "instance"}  # what Prometheus adds
    labels = {series: {*m.labels, "le"} for m in metrics.METRICS.values() for series in m.series}
    for expr in expressions():
        for name, where in re.findall(r"(bohdi_\w+)\{([^}]*)\}", expr):
            chosen = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", where))
            assert chosen <= labels.get(name, chosen) | targets, (name, chosen)


def test_every_metric_of_bohdi_is_on_a_dashboard_or_in_a_rule() -> None:
    asked = {name for expr in expressions() for name in used(expr)}
    unseen = {m.name for m in metrics.METRICS.values() if not asked & set(m.series)}
    assert unseen == set()


def test_names_follow_prometheus_conventions() -> None:
    for metric in metrics.METRICS.values():
        assert metric.name.startswith("bohdi_")
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.help.endswith(".")
        assert not {"instance", "job", "le", "namespace", "pod"} & set(metric.labels)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_dashboards_file_is_the_one_that_the_code_makes(board: Board) -> None:
    assert (FOLDER / f"{board.uid}.json").read_text(encoding="utf-8") == as_json(board), "run make dashboards"


def test_there_are_no_other_dashboards() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {board.uid for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_have_a_unit_a_legend_a_place_of_their_own_and_variables_that_are_there(board: Board) -> None:
    made = json.loads(as_json(board))
    variables = {variable["name"] for variable in made["templating"]["list"]} | {"__rate_interval"}
    assert made["links"][0]["tags"] == made["tags"]
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
        for query in panel.get("targets", []):
            assert query["legendFormat"] and panel["fieldConfig"]["defaults"]["unit"] and panel["description"]
            assert set(re.findall(r"\$(\w+)", query["expr"])) <= variables


def test_every_alert_has_a_runbook_and_tests_that_fire_it_and_that_do_not() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8"), re.M)
    assert sorted(headings) == sorted(ALERTS)
    tested = [case for test in TESTS["tests"] for case in test.get("alert_rule_test", [])]
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
        fired = {bool(case["exp_alerts"]) for case in tested if case["alertname"] == name}
        assert fired == {True, False}, name


def test_the_guides_table_is_that_of_the_code() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert guide == with_table(guide), "run make dashboards"
