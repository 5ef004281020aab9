"""What people do to runs over HTTP: signal, approve, reject, retry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.web.live import Live, live, until

DEFINITIONS = """
version: 1
workflows:
  release:
    steps:
      - { id: ok, type: approval }
      - { id: paid, type: wait_signal, needs: ok }
  fragile:
    steps:
      - { id: first, type: noop }
      - { id: second, type: data_processing, needs: first, with: { forceFailure: true }, retry: { max_retries: 1 } }
"""
WHOLE = {"steps": [{"id": "first", "type": "noop"}, {"id": "second", "type": "noop", "needs": "first"}]}
TOKENS = "vera:viewer:v-secret, olga:operator:o-secret"


@pytest.fixture
def at_work(url: str) -> Iterator[Live]:
    with live(url, daemon=True, definitions=DEFINITIONS) as started:
        yield started


def begin(live: Live, name: str, status: str) -> str:
    """The path of a new run of the workflow *name*, once it has *status*."""
    id = {one["name"]: one["id"] for one in live.get("/api/workflows")["workflows"]}[name]
    path = f"/api/runs/{live.post(f'/api/workflows/{id}/start')['runId']}"
    waits_for(live, path, status)
    return path


def waits_for(live: Live, path: str, status: str) -> Any:
    return until(lambda: live.get(path), lambda run: run["status"] == status)


def test_a_run_goes_on_when_it_is_approved_and_told(at_work: Live) -> None:
    run = begin(at_work, "release", "running")

    approved = at_work.post(f"{run}/approve", {"comment": "fine", "by": "ann"})
    told = at_work.post(f"{run}/signal", {"name": "paid", "payload": {"amount": 3}})

    assert approved == {"message": "Step ok approved", "step": "ok"}
    assert told == {"message": "Signal paid sent"}
    steps = {step["id"]: step for step in waits_for(at_work, run, "completed")["steps"]}
    assert steps["ok"]["result"]["by"] == "ann"
    assert steps["paid"]["result"] == {"amount": 3}


def test_a_rejected_run_fails_and_nobody_decides_again(at_work: Live) -> None:
    run = begin(at_work, "release", "running")

    rejected = at_work.post(f"{run}/reject", {"step": "ok"})
    over = waits_for(at_work, run, "failed")
    again = at_work.api.post(f"{run}/approve", json={"step": "ok"})
    late = at_work.api.post(f"{run}/signal", json={"name": "paid"})

    assert rejected["step"] == "ok"
    assert "http" in over["error"]
    assert [answer.status_code for answer in (again, late)] == [409, 409]
    assert again.json()["code"] == "conflict"


def test_a_failed_run_is_retried_from_what_failed(at_work: Live) -> None:
    run = begin(at_work, "fragile", "failed")
    first = at_work.get(run)["steps"][0]["taskId"]

    assert at_work.post(f"{run}/retry", {"definition": WHOLE}) == {"message": "Run queued for retry"}

    over = waits_for(at_work, run, "completed")
    assert {step["id"]: step["taskId"] for step in over["steps"]}["first"] == first
    assert at_work.api.post(f"{run}/retry").status_code == 409
    assert at_work.api.post(f"{run}/retry", json={"step": "first"}).status_code == 201
    again = waits_for(at_work, run, "completed")
    assert {step["id"]: step["taskId"] for step in again["steps"]}["first"] != first


def test_a_run_is_retried_with_the_newest_definition(at_work: Live) -> None:
    run = begin(at_work, "fragile", "failed")
    workflow = at_work.get(run)["workflowId"]
    assert at_work.api.put(f"/api/workflows/{workflow}", json={"definition": WHOLE}).status_code == 200

    at_work.post(f"{run}/retry", {"latest": True})

    assert waits_for(at_work, run, "completed")


@pytest.mark.parametrize(
    ("step", "word"),
    [
        ({"id": "second", "run": "touch /tmp/owned"}, "qw apply"),
        ({"id": "second", "type": "command", "with": {"argv": ["ls"]}}, "qw apply"),
        ({"id": "second", "type": "bogus"}, "'bogus'"),
    ],
)
def test_a_retry_brings_in_no_program_and_no_unknown_type(at_work: Live, step: Any, word: str) -> None:
    run = begin(at_work, "fragile", "failed")

    answer = at_work.api.post(f"{run}/retry", json={"definition": {"steps": [{"id": "first", "type": "noop"}, step]}})

    assert answer.status_code == 400
    assert word in str(answer.json()["message"])
    assert at_work.get(run)["status"] == "failed"


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("signal", {}, 400), ("signal", {"name": 1.5, "payload": 1}, 201), ("signal", {"name": "x" * 201}, 400),
        ("signal", {"name": "approval:ok"}, 400), ("approve", {"step": "paid"}, 400), ("approve", {"step": 5}, 400),
        ("approve", {"comment": None}, 400), ("retry", {}, 409), ("retry", {"latest": 1}, 400),
        ("retry", {"definition": []}, 400), ("retry", {"definition": WHOLE, "latest": True}, 400),
    ],
)  # fmt: skip
def test_a_wrong_word_to_a_run_is_told(at_work: Live, verb: str, body: Any, status: int) -> None:
    run = begin(at_work, "release", "running")

    answer = at_work.api.post(f"{run}/{verb}", json=body)

    assert answer.status_code == status, answer.text
    assert at_work.get(run)["status"] == "running"


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("signal", {"name": "x"}),
        ("approve", {}),
        ("reject", {}),
        ("retry", {}),
        ("cancel", {}),
        ("compensation-done", {"step": "a"}),
    ],
)
def test_a_run_that_is_not_there_is_a_404(server_shared: Live, verb: str, body: Any) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"

    answer = server_shared.api.post(f"/api/runs/{nobody}/{verb}", json=body)
    nonsense = server_shared.api.post(f"/api/runs/abc/{verb}", json=body)

    assert (answer.status_code, answer.json()["message"]) == (404, f"Run with id {nobody} not found")
    assert nonsense.status_code == 400


def test_where_tokens_are_set_the_token_says_who_decides(url: str) -> None:
    olga, vera = ({"Authorization": f"Bearer {secret}"} for secret in ("o-secret", "v-secret"))
    with live(url, {"QW_API_TOKENS": TOKENS}, daemon=True, definitions=DEFINITIONS) as started:
        started.api.headers.update(olga)
        run = begin(started, "release", "running")

        seen = started.api.post(f"{run}/approve", json={}, headers=vera)
        started.post(f"{run}/approve", {"by": "somebody else"})
        started.post("/api/queues/mail/pause")
        second = begin(started, "release", "running")
        started.post(f"{second}/cancel")
        waits_for(started, second, "cancelled")
        started.post(f"{second}/retry", {"by": "somebody else"})

    assert seen.status_code == 403
    with psycopg.connect(url) as connection:
        assert connection.execute("select name, sent_by from qw.signal order by id").fetchall() == [
            ("approval:ok", "olga"),
            ("run:cancel", "olga"),
            ("run:retry", "olga"),
        ]
        assert connection.execute("select paused_by from qw.queue").fetchall() == [("olga",)]


def test_a_workflow_and_a_run_are_drawn(at_work: Live) -> None:
    run = begin(at_work, "release", "running")
    id = at_work.get(run)["workflowId"]

    drawn = at_work.get(f"/api/workflows/{id}/graph?format=mermaid")
    standing = at_work.get(f"{run}/graph")

    assert drawn["format"] == "mermaid"
    assert "-->" in drawn["graph"]
    assert at_work.get(f"/api/workflows/{id}/graph?format=svg")["graph"].startswith("<svg")
    assert standing["format"] == "ascii"
    assert "◐ ok" in standing["graph"]
    assert at_work.api.get(f"{run}/graph?format=gif").status_code == 400


def test_a_definition_is_checked_and_not_stored(at_work: Live) -> None:
    before = at_work.get("/api/workflows")["total"]
    cycle = {"steps": [{"id": "a", "type": "noop", "needs": "b"}, {"id": "b", "type": "noop", "needs": "a"}]}

    sound = at_work.post("/api/workflows/validate", {"definition": WHOLE})
    unsound = at_work.api.post("/api/workflows/validate", json={"definition": cycle})

    assert sound == {"message": "Workflow definition is valid"}
    assert unsound.status_code == 400
    assert "a → b → a" in unsound.json()["message"][0]
    assert at_work.get("/api/workflows")["total"] == before


def test_a_definition_is_planned_and_runs_nothing(at_work: Live) -> None:
    given = {"definition": WHOLE, "assume": {"first": "failed:exit:3", "second": {"result": 1}}}

    planned = at_work.post("/api/workflows/plan", given)
    wrong = at_work.api.post("/api/workflows/plan", json={**given, "assume": {"first": "fine", "thrd": "failed"}})
    unknown = at_work.api.post("/api/workflows/plan", json={**given, "assume": {"frst": "failed"}})

    assert planned["status"] == "failed"
    assert [(step["step"], step["status"]) for step in planned["steps"]] == [("first", "failed"), ("second", "skipped")]
    assert wrong.status_code == 400
    assert "assume.first" in str(wrong.json()["message"])
    assert "did you mean 'first'?" in str(unknown.json()["message"])


def test_a_definition_is_tested_over_http(at_work: Live) -> None:
    expected = {"status": "completed", "steps": {"second": "completed"}}
    tests = {"good": {"expect": expected}, "bad": {"assume": {"first": "failed"}, "expect": expected}}

    found = at_work.post("/api/workflows/test", {"definition": WHOLE, "tests": tests})
    none = at_work.api.post("/api/workflows/test", json={"definition": WHOLE, "tests": {}})

    assert (found["passed"], found["failed"]) == (1, 1)
    assert found["tests"][1]["faults"][0].startswith("the run is failed, not completed")
    assert none.status_code == 400


def test_tests_over_http_are_bounded_in_time_and_answer(at_work: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = {str(n): {"assume": {"first": "failed"}, "expect": {"status": "completed"}} for n in range(3)}
    long = {"expect": {"error": "x" * 9000}}

    found = at_work.post("/api/workflows/test", {"definition": WHOLE, "tests": {"long": long}})
    monkeypatch.setattr("qw.web.routes.workflows.TEST_SECONDS", -1)
    late = at_work.api.post("/api/workflows/test", json={"definition": WHOLE, "tests": tests})

    assert len(found["tests"][0]["faults"][0]) < 2100
    assert late.status_code == 400
    assert "0 of 3 ran; send fewer at a time" in str(late.json()["message"])


def test_the_schema_of_workflow_files_is_served(at_work: Live) -> None:
    assert "workflows" in at_work.get("/api/workflows/schema")["properties"]


def test_the_timeline_has_every_step_with_its_needs_and_attempts(at_work: Live) -> None:
    run = begin(at_work, "release", "running")
    failed = begin(at_work, "fragile", "failed")

    waiting = {step["id"]: step for step in at_work.get(f"{run}/timeline")["steps"]}
    ended = at_work.get(f"{failed}/timeline")

    assert [(step["id"], step["status"], step["needs"]) for step in waiting.values()] == [
        ("ok", "running", []), ("paid", "waiting", ["ok"]),
    ]  # fmt: skip
    assert waiting["paid"]["startedAt"] is None
    assert (ended["run"]["status"], ended["run"]["workflow"]) == ("failed", "fragile")
    second = ended["steps"][1]
    assert [attempt["outcome"] for attempt in second["attempts"]] == ["failed"]
    assert second["attempts"][0]["endedAt"] >= second["attempts"][0]["startedAt"]


def test_a_preview_of_a_retry_tells_what_runs_again_and_changes_nothing(at_work: Live) -> None:
    run = begin(at_work, "fragile", "failed")

    assert at_work.get(f"{run}/retry-preview") == {"again": ["second"], "kept": ["first"]}
    assert at_work.get(f"{run}/retry-preview?step=first") == {"again": ["first", "second"], "kept": []}
    assert at_work.api.get(f"{run}/retry-preview?step=third").status_code == 400
    assert at_work.get(run)["status"] == "failed"


def test_a_run_that_goes_on_has_no_retry_to_preview(at_work: Live) -> None:
    run = begin(at_work, "release", "running")

    assert at_work.api.get(f"{run}/retry-preview").status_code == 409
