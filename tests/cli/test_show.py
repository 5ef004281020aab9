"""`qw workflow show`: a run as a tree."""

from __future__ import annotations

import re

import pytest

from tests.cli.program import Qw

FILE = """\
workflows:
  part:
    input: { n: integer }
    steps:
      - { id: x, type: data_processing, retry: { max_retries: 1 },
          with: { operation: noop, forceFailure: "${{ input.n == 2 }}" } }
  whole:
    steps:
      - { id: first, type: noop }
      - { id: fan, needs: first, type: workflow, foreach: [1, 2], continue_on_error: true,
          with: { workflow: part, input: { n: "${{ item }}" } } }
      - { id: one, needs: first, type: workflow, with: { workflow: part, input: { n: 1 } } }
      - { id: never, needs: first, if: "false", type: noop }
      - { id: paid, needs: [fan, one], type: wait_signal, timeout: 2h }
      - { id: last, needs: paid, type: noop }
"""
KEYS = {
    *("step", "type", "status", "state", "attempts", "started_at", "finished_at", "due_at", "waits_for", "signal"),
    *("error", "result", "task_id", "items", "rounds", "error_kind", "run"),
}


@pytest.fixture
def run(qw: Qw) -> str:
    """A run of the file above, which waits for its signal."""
    (qw.folder / "workflows.yaml").write_text(FILE)
    assert qw("apply").code == 0
    id = qw("workflow", "start", "whole").out.strip()
    qw.drain()
    return id


def test_a_run_is_shown_as_a_tree_of_what_it_did_and_waits_for(qw: Qw, run: str) -> None:
    shown = qw("workflow", "show", run).out

    tree = [re.sub(r"  +", "  ", line.strip()) for line in shown.split("\n\n")[1].splitlines()]
    tree = [re.sub(r"[\d.]+ (ms|s)|run [-0-9a-f]{36}|until .*", "…", line) for line in tree]
    assert tree == [
        "● first  completed  …  noop",
        "✗ fan  failed  …  workflow, 1 of 2 items, 1 failed",
        "1 of 2 items failed: item 1: step x: Forced failure for testing purposes",
        "└ ✗ item 1  failed  …  …",
        "└ ✗ x  failed  …  data_processing",
        "Forced failure for testing purposes",
        "● one  completed  …  workflow part",
        "└ ● x  completed  …  data_processing",
        "– never  skipped  noop, its condition was false",
        "◐ paid  running  …  wait_signal, waits for signal paid, …",
        "○ last  pending  noop, waits for paid",
    ]


def test_the_json_of_a_run_has_the_same_names_at_every_depth(qw: Qw, run: str) -> None:
    shown = qw("workflow", "show", run, "-o", "json").json

    steps = {step["step"]: step for step in shown["steps"]}
    assert all(step.keys() == KEYS for step in steps.values())
    assert steps["one"]["run"]["steps"][0].keys() == KEYS
    assert steps["fan"]["items"]["notable"][0]["run"]["steps"][0]["status"] == "failed"
    counts = {name: steps["fan"]["items"][name] for name in ("total", "started", "completed", "failed")}
    assert counts == {"total": 2, "started": 2, "completed": 1, "failed": 1}
    assert steps["last"]["waits_for"] == ["paid"]
    assert steps["paid"]["signal"] == "paid"
    assert shown["told"] == []


def test_who_told_a_run_what_is_shown(qw: Qw, run: str) -> None:
    assert qw("workflow", "signal", run, "paid", "--by", "zoe").code == 0
    qw.drain()

    assert "signal paid from zoe, " in qw("workflow", "show", run).out
    assert qw("workflow", "show", run, "-o", "json").json["told"][0]["step"] == "paid"


def test_a_locale_without_the_signs_is_no_fault(qw: Qw, run: str) -> None:
    done = qw.process("workflow", "show", run, PYTHONIOENCODING="ascii")

    assert (done.code, done.err) == (0, "")
    assert "? first" in done.out
