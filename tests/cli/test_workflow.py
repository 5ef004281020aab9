from __future__ import annotations

import pytest

from tests.cli.program import Qw

GOOD = """\
workflows:
  greet:
    input: { name: string }
    steps:
      - { id: a, type: noop, with: { name: "${{ input.name }}" } }
      - { id: b, type: noop, needs: a }
"""
BAD = """\
workflows:
  greet:
    steps:
      - { id: a, type: noop, neds: b }
      - { id: b, type: noop, needs: c }
"""


@pytest.fixture
def greet(qw: Qw) -> Qw:
    """``qw`` with the workflow ``greet`` in its database."""
    (qw.folder / "workflows.yaml").write_text(GOOD)
    qw.drain()
    return qw


def test_the_file_here_is_stored_by_a_daemon_and_the_shipped_one_only_without_it(greet: Qw) -> None:
    names = greet("workflow", "list", "--quiet").out.split()
    (greet.folder / "workflows.yaml").unlink()
    greet.drain()

    assert names == ["greet"]
    assert greet("workflow", "list", "--quiet").out.split() == ["greet", "invoice", "nightly-report"]


def test_a_shipped_workflow_does_not_replace_the_users_own(greet: Qw) -> None:
    (greet.folder / "mine.yaml").write_text(GOOD.replace("greet:", "invoice:"))
    assert greet.process("daemon", "--drain", "--workflows", "mine.yaml").code == 0
    (greet.folder / "workflows.yaml").unlink()
    greet.drain()

    document = greet("workflow", "show", "invoice", "-o", "json").json["document"]
    assert [step["id"] for step in document["steps"]] == ["a", "b"]


def test_a_run_is_started_waited_for_and_shown(greet: Qw) -> None:
    with greet.daemon():
        done = greet("workflow", "start", "greet", "--input", '{"name": "zoe"}', "--wait", "-o", "json")

    shown = greet("workflow", "show", done.json["id"])
    assert (done.code, done.json["status"]) == (0, "completed")
    assert [(step["step"], step["status"]) for step in done.json["steps"]] == [("a", "completed"), ("b", "completed")]
    assert "status    completed" in shown.out
    assert greet("workflow", "runs", "--status", "completed", "--quiet").out.split() == [done.json["id"]]
    assert len(greet("task", "list", "--run", done.json["id"], "--quiet").ids) == 2


def test_the_same_id_again_starts_no_second_run(greet: Qw) -> None:
    id = "01890000-0000-7000-8000-000000000001"
    words = ("workflow", "start", "greet", "--input", '{"name": "zoe"}', "--id", id)

    assert (greet(*words).out, greet(*words).out) == (f"{id}\n", f"{id}\n")
    assert greet("workflow", "runs", "--quiet").out.split() == [id]
    other = greet("workflow", "start", "greet", "--input", '{"name": "yan"}', "--id", id)
    assert other.code == 4
    assert f"run {id} exists with another workflow or input: it is a run of greet" in other.err


def test_a_run_is_cancelled(greet: Qw) -> None:
    id = str(greet("workflow", "start", "greet", "--input", '{"name": "zoe"}').id)

    done = greet("workflow", "cancel", id)
    greet.drain()

    assert done.code == 0
    assert greet("workflow", "show", id, "-o", "json").json["status"] == "cancelled"
    assert greet("workflow", "cancel", id).code == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["start", "gret"], 3, "did you mean 'greet'?"),
        (["start", "greet"], 2, "name"),
        (["start", "greet", "--input", '{"name": 1}'], 2, "name"),
        (["start", "greet", "--input", "[]"], 2, "must be a JSON object"),
        (["show", "gret"], 3, "did you mean 'greet'?"),
        (["show", "01890000-0000-7000-8000-000000000001"], 3, "there is no workflow"),
        (["cancel", "greet"], 2, "is not a run id"),
        (["runs", "--status", "done"], 2, "'done' is not one of pending"),
    ],
)
def test_what_cannot_be_started_or_shown_is_said(greet: Qw, words: list[str], code: int, said: str) -> None:
    done = greet("workflow", *words)

    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert greet("workflow", "runs", "--quiet").out == ""


def test_each_fault_of_a_file_is_on_a_line_with_its_place(qw: Qw) -> None:
    (qw.folder / "bad.yaml").write_text(BAD)
    (qw.folder / "good.yaml").write_text(GOOD)

    done = qw("workflow", "validate", "good.yaml", "-f", "bad.yaml")

    assert (done.code, done.out) == (2, "good.yaml: 1 workflow\n")
    assert [line.split(": ")[0] for line in done.err.splitlines()] == ["bad.yaml:4:30", "bad.yaml:5:30"]


@pytest.mark.parametrize(
    "content",
    ["a: !!python/object/apply:os.system ['touch hacked']", "workflows: {a: [", "a: &a [1]\nb: *a", "\tworkflows: {}"],
)
def test_yaml_that_could_hurt_is_refused(qw: Qw, content: str) -> None:
    (qw.folder / "workflows.yaml").write_text(content)

    checked, started = qw("workflow", "validate"), qw.process("daemon", "--drain")

    assert (checked.code, started.code) == (2, 2)
    assert "Traceback" not in checked.err + started.err
    assert not (qw.folder / "hacked").exists()
