"""The alert and recording rules: Prometheus' own tools run them, and the manual has a word on each alert."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
CASES = yaml.safe_load((PROMETHEUS / "rules_test.yaml").read_text())["tests"]

with_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (package prometheus) is not installed"
)


@with_promtool
@pytest.mark.parametrize("words", [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]])
def test_prometheus_reads_the_rules_and_they_fire_as_they_should(words: list[str]) -> None:
    done = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@with_promtool
def test_prometheus_reads_the_example_of_scraping(tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS / "rules.yaml", tmp_path)
    shutil.copy(PROMETHEUS / "scrape.yaml", tmp_path / "prometheus.yml")
    (tmp_path / "token").touch()
    text = (tmp_path / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/qw-token", "token"))

    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_while_it_fires_and_while_it_does_not(alert: str) -> None:
    tried = [
        bool(case["exp_alerts"])
        for test in CASES
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == alert
    ]

    assert set(tried) == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_the_manual_says_what_to_do_at_an_alert(alert: str) -> None:
    manual = (DEPLOY.parent / "docs" / "operations.md").read_text()

    assert f"| `{alert}` |" in manual
    assert ALERTS[alert]["labels"]["severity"] in ("critical", "warning")


def test_rules_build_on_what_other_rules_record() -> None:
    used = {name for rule in RULES for name in re.findall(r"\bjob\w*:\w+:\w+", rule["expr"])}

    assert used <= RECORDED
