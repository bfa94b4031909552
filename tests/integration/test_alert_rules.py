"""promtool, Prometheus' own, on the rules: they are valid, and their tests pass."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.monitoring.prometheus import BINARIES, MONITORING

PLANTED = {
    "ratio_rate5m > 0.1": "ratio_rate5m > 0.3",
    "left_ratio < 0.1": "left_ratio < 0.6",
    "seconds) > 60": "seconds) > 6000",
    '{service="bandit"})': '{service="judging"})',
}


def promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BINARIES / "promtool"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_rules_are_valid_and_each_alert_fires_where_it_must_and_nowhere_else() -> None:
    checked = promtool(MONITORING, "check", "rules", "--lint-fatal", "rules.yaml")
    assert checked.returncode == 0, checked.stderr
    tested = promtool(MONITORING, "test", "rules", "rules_test.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_tests_see_a_rule_that_is_wrong(tmp_path: Path) -> None:
    shutil.copy(MONITORING / "rules_test.yaml", tmp_path)
    rules = (MONITORING / "rules.yaml").read_text()
    for right, wrong in PLANTED.items():
        assert rules.count(right) == 1, right
        (tmp_path / "rules.yaml").write_text(rules.replace(right, wrong))
        assert promtool(tmp_path, "test", "rules", "rules_test.yaml").returncode != 0, wrong
