"""`qw workflow graph|signal|approve|reject|retry|schema`, `qw apply`, `qw diff`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.cli.program import Qw

FILE = """\
workflows:
  release:
    steps:
      - { id: build, type: noop }
      - { id: ok, type: approval, needs: build }
      - { id: paid, type: wait_signal, needs: ok }
      - { id: ship, type: noop, needs: paid }
    outputs: { by: "${{ steps.ok.result.by }}", n: "${{ steps.paid.result.n }}" }
schedules:
  nightly: { cron: "0 3 * * *", workflow: release }
"""


@pytest.fixture
def ready(qw: Qw) -> Qw:
    """``qw`` where the file above is applied."""
    (qw.folder / "workflows.yaml").write_text(FILE)
    assert qw("apply").code == 0
    return qw


def test_apply_says_what_it_did_and_diff_what_it_would_do(ready: Qw) -> None:
    again = ready("apply")
    same = ready("diff")
    (ready.folder / "workflows.yaml").write_text(
        FILE.replace("id: build, type: noop", "id: build, type: noop, priority: 1")
    )
    changed = ready("diff")

    assert (again.code, again.out, again.err) == (0, "", "nothing changed\n")
    assert (same.code, same.out) == (0, "")
    assert changed.code == 1
    assert changed.out.splitlines()[0] == "~ workflow release"
    assert "    +  priority: 1" in changed.out.splitlines()
    assert ready("workflow", "list", "--quiet").out.split() == ["release"]


def test_who_applied_what_is_shown(ready: Qw) -> None:
    (ready.folder / "workflows.yaml").write_text("queues: {mail: {paused: true}}\n")
    assert ready("apply").code == 0

    shown = ready("apply", "--history")
    last = ready("apply", "--history", "-o", "json").json[0]

    assert "+ queue mail" in shown.out
    assert "@" in last["by"]
    assert last["owner"].endswith(f":{(ready.folder / 'workflows.yaml').resolve()}")
    assert {"kind": "queue", "name": "mail", "how": "added"} in last["changes"]


def test_two_projects_whose_files_have_the_same_name_are_two_sets(ready: Qw) -> None:
    other = ready.folder / "other"
    other.mkdir()
    (other / "workflows.yaml").write_text("workflows: {bobs: {steps: [{id: a, type: noop}]}}\n")
    (other / "same.yaml").write_text("owner: bob\n" + FILE)

    pruned = ready("apply", "-f", "other/workflows.yaml", "--prune", "--yes")
    diff = ready("diff", "-f", "other/same.yaml")
    refused = ready("apply", "-f", "other/same.yaml")
    taken = ready("apply", "-f", "other/same.yaml", "--take-over")

    assert (pruned.code, pruned.out) == (0, "+ workflow bobs\n")
    assert diff.code == 1
    assert "= workflow release  (belongs to " in diff.out
    assert refused.code != 0
    assert f"workflow release belongs to {socket.gethostname()}:{ready.folder.resolve()}" in refused.err
    assert taken.code == 0
    assert {one["owner"] for one in ready("apply", "--history", "-o", "json").json[:1]} == {"bob"}


def test_what_others_need_is_pruned_by_force_only(ready: Qw) -> None:
    (ready.folder / "more.yaml").write_text("schedules: {weekly: {every: 7d, workflow: release}}\n")
    assert ready("apply", "-f", "more.yaml").code == 0
    (ready.folder / "workflows.yaml").write_text("workflows: {}\n")

    diff = ready("diff", "--prune")
    refused = ready("apply", "--prune", "--yes")
    forced = ready("apply", "--prune", "--yes", "--force")

    assert "- workflow release  (needed by schedule weekly; removed with --force only)" in diff.out
    assert refused.code != 0
    assert "workflow release is needed by schedule weekly" in refused.err
    assert (forced.code, sorted(forced.out.splitlines())[0]) == (0, "- schedule nightly")


def test_what_is_pruned_is_asked_for_first(ready: Qw) -> None:
    (ready.folder / "workflows.yaml").write_text(FILE.split("schedules:")[0])

    left = ready("apply")
    refused = ready("apply", "--prune")
    pruned = ready("apply", "--prune", "--yes")

    assert left.out == "! schedule nightly  (no longer defined in these files; --prune removes it)\n"
    assert refused.code != 0
    assert pruned.out == "- schedule nightly\n"
    assert ready("schedule", "list", "--quiet").out == ""


def test_a_wrong_file_changes_nothing_and_says_where_it_is_wrong(ready: Qw) -> None:
    (ready.folder / "workflows.yaml").write_text(FILE.replace("needs: build", "needs: biuld"))

    done = ready("apply")

    assert done.code == 2
    assert "workflows.yaml:5:35: step ok needs 'biuld', which is not a step; did you mean 'build'?" in done.err


def test_a_run_is_approved_signalled_and_drawn(ready: Qw) -> None:
    run = ready("workflow", "start", "release").out.strip()
    ready.drain()

    assert ready("workflow", "approve", run, "--by", "zoe").err == f"ok of run {run} is approved by zoe\n"
    assert ready("workflow", "signal", run, "paid", "--payload", '{"n": 7}').code == 0
    ready.drain()

    shown = ready("workflow", "show", run, "-o", "json").json
    assert shown["output"] == {"by": "zoe", "n": 7}
    drawn = ready("workflow", "graph", run).out
    assert [line.split()[-2:] for line in drawn.splitlines()] == [
        ["build", "noop"],
        ["ok", "approval"],
        ["paid", "wait_signal"],
        ["ship", "noop"],
    ]
    assert "●" in drawn


def test_a_rejected_run_is_retried_with_an_edited_definition(ready: Qw) -> None:
    run = ready("workflow", "start", "release").out.strip()
    ready.drain()
    ready("workflow", "reject", run, "-m", "no")
    ready.drain()
    editor = ready.folder / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/type: approval/type: noop/' \"$1\"\n")
    editor.chmod(0o755)
    (Path(ready.folder) / "bad").write_text("#!/bin/sh\necho 'steps: []' > \"$1\"\n")
    (Path(ready.folder) / "bad").chmod(0o755)

    bad = ready("workflow", "retry", run, "--edit", EDITOR=str(ready.folder / "bad"))
    good = ready("workflow", "retry", run, "--edit", EDITOR=str(editor))
    ready.drain()

    assert bad.code == 2
    assert "at least one step" in bad.err
    assert (good.code, good.err) == (0, f"run {run} was restarted\n")
    statuses = {step["step"]: step["status"] for step in ready("workflow", "show", run, "-o", "json").json["steps"]}
    assert statuses == {"build": "completed", "ok": "completed", "paid": "running", "ship": "pending"}


@pytest.mark.parametrize(("format", "start"), [("mermaid", "flowchart TD"), ("dot", "digraph"), ("svg", "<svg")])
def test_a_file_is_drawn_without_a_database(qw: Qw, format: str, start: str) -> None:
    (qw.folder / "w.yaml").write_text(FILE)

    drawn = qw(
        "workflow", "graph", "release", "-f", "w.yaml", "--format", format, QW_DATABASE_URL="postgresql://nowhere/x"
    )

    assert drawn.code == 0
    assert drawn.out.startswith(start)


def test_the_schema_is_json_and_its_line_switches_editors_on(qw: Qw) -> None:
    assert json.loads(qw("workflow", "schema").out)["properties"]["workflows"]["type"] == ["object", "null"]
    assert qw("workflow", "schema", "--editor-line", "x.json").out == "# yaml-language-server: $schema=x.json\n"
