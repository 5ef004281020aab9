"""The documented API, call by call: what goes in, the status, and what the answer must hold."""

# ruff: noqa: E501 - a call is a line

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.web.live import Live, until

NOBODY = "00000000-0000-7000-8000-000000000000"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TASK = {"type": "noop", "payload": {}}
CHAIN = {
    "initialTask": {"type": "noop", "payload": {"n": 1}},
    "transitions": {"noop": {"type": "data_processing", "payload": {"operation": "process_order"}}},
}

is_id: Callable[[Any], bool] = lambda value: bool(UUID(value))  # noqa: E731
is_time: Callable[[Any], bool] = lambda value: bool(TIME.fullmatch(value))  # noqa: E731
is_count: Callable[[Any], bool] = lambda value: isinstance(value, int) and value >= 0  # noqa: E731


def holds(answer: Any, wanted: Any) -> bool:
    """Whether *answer* has everything that *wanted* has; a function there says what is right."""
    if callable(wanted):
        return bool(wanted(answer))
    if isinstance(wanted, dict):
        return isinstance(answer, dict) and all(key in answer and holds(answer[key], wanted[key]) for key in wanted)
    return bool(answer == wanted)


REQUIRED = "Task type and payload are required"
CUSTOMER = ["customerId should not be empty", "customerId must be a string"]
INVOICE = ["invoiceId should not be empty", "invoiceId must be a string"]
NO_DATE = ["scheduledAt must be a valid ISO 8601 date string"]
DATE = ["scheduledAt should not be empty", "scheduledAt must be a string", *NO_DATE]
LATER = "2031-05-06T07:08:09Z"

CASES: list[tuple[str, str, Any, int, Any]] = [
    # tasks
    ("POST", "/api/task", TASK, 201, {"message": "Task created and queued successfully", "taskId": is_id, "type": "noop", "status": "pending"}),
    ("POST", "/api/tasks", TASK, 201, {"message": "Task created and queued successfully", "taskId": is_id}),
    ("POST", "/api/task/", TASK, 201, {"taskId": is_id}),
    ("POST", "/api/task", {**TASK, "colour": "red"}, 201, {"taskId": is_id}),
    ("POST", "/api/task", {}, 400, {"message": REQUIRED, "error": "Bad Request", "statusCode": 400}),
    ("POST", "/api/task", None, 400, {"message": REQUIRED}),
    ("POST", "/api/task", {"type": "noop"}, 400, {"message": REQUIRED}),
    ("POST", "/api/task", {"type": "noop", "payload": None}, 400, {"message": REQUIRED}),
    ("POST", "/api/task", {"type": None, "payload": {}}, 400, {"message": REQUIRED}),
    ("POST", "/api/task", {"payload": {}}, 400, {"message": REQUIRED}),
    ("POST", "/api/task", {"type": "nope", "payload": {}}, 400, {"message": lambda text: "'nope'" in text and "http_request" in text}),
    ("POST", "/api/task", {"type": 7, "payload": {}}, 400, {"message": ["type must be a string"]}),
    ("POST", "/api/task", {"type": "noop", "payload": []}, 400, {"message": ["payload must be an object"]}),
    ("POST", "/api/task", {"type": "noop", "payload": "x"}, 400, {"message": ["payload must be an object"]}),
    ("POST", "/api/task", [TASK], 400, {"message": "The body must be a JSON object"}),
    ("POST", "/api/task", {**TASK, "priority": 10}, 400, {"message": ["priority: 10 is not an integer from 0 to 9"]}),
    ("POST", "/api/task", {**TASK, "priority": True}, 400, {"message": ["priority must be an integer number"]}),
    ("POST", "/api/task", {**TASK, "queue": "no such; queue"}, 400, {"message": lambda texts: "queue" in texts[0]}),
    ("POST", "/api/task", {**TASK, "maxRetries": 0}, 400, {"message": lambda texts: texts[0].startswith("maxRetries: ")}),
    ("POST", "/api/task", {**TASK, "scheduledAt": "9999-12-31T23:59:59Z"}, 400, {"message": lambda texts: texts[0].startswith("scheduledAt: ")}),
    ("POST", "/api/task", {**TASK, "workflowId": "x"}, 400, {"message": ["workflowId must be a UUID"]}),
    ("POST", "/api/task", {**TASK, "workflowId": NOBODY}, 404, {"message": f"Workflow with ID {NOBODY} not found"}),
    ("POST", "/api/task", {**TASK, "scheduledAt": "soon"}, 400, {"message": NO_DATE}),
    ("POST", "/api/task", {**TASK, "scheduledAt": LATER, "delay": 1}, 400, {"message": lambda texts: "not both" in texts[0]}),
    ("POST", "/api/task", {"type": "data_processing", "payload": {"operation": "explode"}}, 400, {"message": lambda text: "explode" in text and "transform" in text}),
    ("POST", "/api/task", {"type": "data_processing", "payload": {"operation": 5}}, 400, {"message": lambda text: "'5'" in text and "transform" in text}),
    ("POST", "/api/task", {"type": "http_request", "payload": {"url": "/api/health"}}, 400, {"message": lambda text: "QW_HTTP_BASE_URL" in text}),
    ("POST", "/api/task", {"type": "command", "payload": {"argv": ["ls"]}}, 400, {"message": lambda text: "argv" in text}),
    ("GET", "/api/task", None, 200, {"tasks": lambda tasks: isinstance(tasks, list), "total": is_count}),
    ("GET", "/api/tasks?limit=1", None, 200, {"tasks": lambda tasks: len(tasks) == 1, "nextCursor": is_id}),
    ("GET", "/api/task?status=completed&type=noop&queue=default", None, 200, {"total": is_count}),
    ("GET", "/api/task?status=done", None, 400, {"message": lambda texts: "status must be one of" in texts[0]}),
    ("GET", "/api/task?status=", None, 400, {"statusCode": 400}),
    ("GET", "/api/task?workflowId=x", None, 400, {"message": ["workflowId must be a UUID"]}),
    ("GET", f"/api/task?workflowId={NOBODY}", None, 200, {"tasks": [], "total": 0}),
    ("GET", "/api/task?since=yesterday", None, 400, {"message": ["since must be a valid ISO 8601 date string"]}),
    ("GET", "/api/task?type=send_email&queue=none", None, 200, {"tasks": [], "total": 0}),
    ("GET", "/api/task?type=nothing_like_it", None, 400, {"message": lambda text: "'nothing_like_it'" in text and "http_request" in text}),
    ("GET", "/api/invoice/status/%00", None, 400, {"message": "The path must not contain NUL"}),
    ("GET", "/api/task/abc", None, 400, {"message": lambda text: "'abc'" in text}),
    ("GET", "/api/task/%20", None, 400, {"message": "Task ID is required"}),
    ("GET", f"/api/task/{NOBODY}", None, 404, {"message": f"Task with id {NOBODY} not found", "error": "Not Found", "statusCode": 404}),
    ("GET", f"/api/task/{NOBODY}?relations=owner", None, 400, {"message": lambda text: "'owner'" in text}),
    ("POST", f"/api/task/{NOBODY}/retry", None, 404, {"message": f"Task with id {NOBODY} not found"}),
    ("POST", f"/api/task/{NOBODY}/cancel", None, 404, {"message": f"Task with id {NOBODY} not found"}),
    ("POST", f"/api/task/{NOBODY}/compensate", None, 404, {"message": f"Task with id {NOBODY} not found"}),
    ("POST", "/api/task/abc/retry", None, 400, {"statusCode": 400}),
    # the queue
    ("GET", "/api/queue-manager/status", None, 200, {"pending": is_count, "processing": is_count, "completed": is_count, "failed": is_count, "total": is_count, "isHealthy": True}),
    ("GET", "/api/queue-manager/overloaded", None, 200, {"isOverloaded": False, "message": "Queue is operating normally"}),
    ("GET", "/api/queue-manager/failed-count", None, 200, {"failedTasks": is_count}),
    ("GET", "/api/queue-manager/pending-count", None, 200, {"pendingTasks": is_count}),
    ("POST", "/api/queue-manager/enqueue", TASK, 201, {"taskId": is_id, "message": "Task enqueued successfully"}),
    ("POST", "/api/queue-manager/enqueue", {"type": "noop"}, 400, {"message": REQUIRED}),
    ("POST", f"/api/queue-manager/retry/{NOBODY}", None, 404, {"message": f"Task with id {NOBODY} not found"}),
    # scheduled
    ("POST", "/api/scheduler/tasks/scheduled", {**TASK, "scheduledAt": LATER}, 201, {"id": is_id, "status": "pending", "scheduledAt": "2031-05-06T07:08:09.000Z"}),
    ("POST", "/api/scheduler/tasks/scheduled", TASK, 400, {"message": DATE}),
    ("POST", "/api/scheduler/tasks/scheduled", {**TASK, "scheduledAt": None}, 400, {"message": DATE}),
    ("POST", "/api/scheduler/tasks/scheduled", {**TASK, "scheduledAt": "soon"}, 400, {"message": NO_DATE}),
    ("POST", "/api/scheduler/tasks/scheduled", {"payload": {}, "scheduledAt": LATER}, 400, {"message": REQUIRED}),
    ("GET", "/api/scheduler/tasks/scheduled", None, 200, lambda tasks: isinstance(tasks, list)),
    # invoices
    ("POST", "/api/invoice/workflow/start", {"customerId": "zoe"}, 201, {"message": "Invoice workflow started", "taskId": is_id}),
    ("POST", "/api/invoice/workflow/start", {"customerId": 42, "dateFrom": None, "dateTo": "2026-11-01"}, 201, {"taskId": is_id}),
    ("POST", "/api/invoice/workflow/start", {}, 400, {"message": CUSTOMER, "error": "Bad Request"}),
    ("POST", "/api/invoice/workflow/start", {"customerId": ""}, 400, {"message": CUSTOMER[:1]}),
    ("POST", "/api/invoice/workflow/start", {"customerId": {}}, 400, {"message": CUSTOMER[1:]}),
    ("POST", "/api/invoice/workflow/start", {"customerId": "zoe", "dateFrom": "x", "dateTo": 5}, 400, {"message": ["dateFrom must be a valid ISO 8601 date string", "dateTo must be a valid ISO 8601 date string"]}),
    ("POST", "/api/invoice/workflow/start", {"customerId": "zoe", "workflowId": NOBODY}, 404, {"message": f"Workflow with ID {NOBODY} not found"}),
    ("POST", "/api/invoice/workflow/scheduled", {"customerId": "zoe", "scheduledAt": LATER}, 201, {"message": "Scheduled invoice workflow created", "taskId": is_id, "scheduledAt": LATER}),
    *[
        ("POST", path, {**TASK, "customerId": "zoe", "invoiceId": "7", "scheduledAt": at}, status, wanted)
        for path in ("/api/scheduler/tasks/scheduled", "/api/invoice/workflow/scheduled", "/api/invoice/email/scheduled")
        for at, status, wanted in (
            ("1960-01-01T00:00:00Z", 201, {}),
            ("9999-12-31T23:59:59Z", 400, {"message": ["scheduledAt: the year 9999 is not between 1970 and 2200"]}),
        )
    ],
    ("POST", "/api/invoice/workflow/scheduled", {}, 400, {"message": [*CUSTOMER, *DATE]}),
    ("POST", "/api/invoice/email/scheduled", {"customerId": "zoe", "invoiceId": "INV-7", "scheduledAt": LATER}, 201, {"message": "Scheduled email workflow created", "taskId": is_id, "scheduledAt": "2031-05-06T07:08:09.000Z"}),
    ("POST", "/api/invoice/email/scheduled", {}, 400, {"message": [*CUSTOMER, *INVOICE, *DATE]}),
    ("GET", "/api/invoice/tasks/nobody", None, 200, {"customerId": "nobody", "tasks": []}),
    ("GET", "/api/invoice/status/nobody", None, 200, {"customerId": "nobody", "totalTasks": 0, "completedTasks": 0, "failedTasks": 0, "pendingTasks": 0, "processingTasks": 0, "workflows": {}}),
    # health
    ("GET", "/api/health", None, 200, {"status": "ok", "error": {}, "info": {"database": {"status": "up"}}, "details": {"worker": {"status": "up"}}}),
    ("GET", "/version", None, 200, {"name": "qw"}),
    # workflows
    ("POST", "/api/workflows", {"name": "Order Processing", "definition": CHAIN}, 201, {"message": "Workflow created successfully", "workflow": {"id": is_id, "name": "Order Processing", "definition": CHAIN, "isActive": True, "createdAt": is_time, "updatedAt": is_time, "deletedAt": None, "status": "pending", "error": None}}),
    ("POST", "/api/workflows", {"name": "Order Processing", "definition": CHAIN}, 201, {"workflow": {"name": "Order Processing"}}),
    ("POST", "/api/workflows", {"name": "steps", "definition": {"steps": [{"id": "a", "type": "noop"}]}}, 201, {"workflow": {"name": "steps"}}),
    ("POST", "/api/workflows", {"name": "日本", "definition": CHAIN, "isActive": False}, 201, {"workflow": {"name": "日本", "isActive": False}}),
    ("POST", "/api/workflows", {"definition": CHAIN}, 400, {"message": ["name should not be empty", "name must be a string"]}),
    ("POST", "/api/workflows", {"name": "x"}, 400, {"message": ["definition should not be empty"]}),
    ("POST", "/api/workflows", {"name": "x", "definition": []}, 400, {"message": ["definition must be an object"]}),
    ("POST", "/api/workflows", {"name": "x", "definition": {}}, 400, {"statusCode": 400}),
    ("POST", "/api/workflows", {"name": "x", "definition": {"initialTask": {"type": "bogus", "payload": {}}}}, 400, {"message": lambda texts: "'bogus'" in texts[0]}),
    ("POST", "/api/workflows", {"name": "x", "definition": {"steps": [{"id": "a", "run": "ls"}]}}, 400, {"message": lambda texts: "qw apply" in texts[0]}),
    ("GET", "/api/workflows", None, 200, {"message": "Workflows retrieved successfully", "workflows": lambda found: isinstance(found, list), "total": is_count}),
    ("GET", "/api/workflows/active", None, 200, {"message": "Active workflows retrieved successfully", "total": is_count}),
    ("GET", "/api/workflows/abc", None, 400, {"statusCode": 400}),
    *[
        (method, f"/api/workflows/{NOBODY}{path}", body, 404, {"message": f"Workflow with ID {NOBODY} not found", "error": "Not Found"})
        for method, path, body in (
            ("GET", "", None), ("PUT", "", {"name": "x"}), ("DELETE", "", None), ("PUT", "/activate", None),
            ("PUT", "/deactivate", None), ("POST", "/start", None), ("GET", "/status", None), ("GET", "/with-tasks", None),
        )
    ],
    # what qw adds
    ("GET", "/api/runs", None, 200, {"runs": lambda runs: isinstance(runs, list)}),
    ("GET", f"/api/runs/{NOBODY}", None, 404, {"message": f"Run with id {NOBODY} not found"}),
    ("GET", "/api/queues", None, 200, {"queues": lambda queues: queues[0]["name"] == "default"}),
    ("GET", "/api/workers", None, 200, {"workers": lambda workers: len(workers) == 1}),
    ("GET", "/openapi.json", None, 200, {"openapi": "3.1.0"}),
    ("POST", "/api/task/cancel", {"filter": {"state": "pending"}}, 400, {"message": ["filter.state should not exist"]}),
    ("POST", "/api/task/retry", {}, 400, {"message": "Give either ids or filter"}),
    # everything else
    ("GET", "/api/nope", None, 404, {"message": "Cannot GET /api/nope", "error": "Not Found", "statusCode": 404}),
    ("PATCH", "/api/task", None, 404, {"message": "Cannot PATCH /api/task"}),
    ("POST", "/api/seeder/seed", None, 404, {"message": "Cannot POST /api/seeder/seed"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "wanted"), CASES)
def test_call_is_answered_as_documented(
    server_with_daemon: Live, method: str, path: str, body: Any, status: int, wanted: Any
) -> None:
    answer = server_with_daemon.api.request(method, path, json=body)

    assert answer.status_code == status, answer.text
    assert holds(answer.json(), wanted), answer.text
    if status >= 400:
        told = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert told["status"] == told["statusCode"] == status
        assert told["title"] == told["error"]
        assert {"type", "detail", "code"} <= told.keys()


def test_a_task_is_shown_with_its_result_in_its_payload(server_with_daemon: Live) -> None:
    live = server_with_daemon
    id = live.task("data_processing", {"dataset": "customer_data_2024", "operation": "profile", "forceFailure": False})

    task = live.final(id)

    assert task["status"] == "completed"
    assert task["payload"] == {**task["result"], **task["payload"]}
    assert task["payload"]["dataset"] == "customer_data_2024"
    assert task["result"]["operation"] == "profile"
    assert (task["error"], task["deletedAt"], task["scheduledAt"], task["retries"]) == (None, None, None, 0)
    assert all(is_time(task[name]) for name in ("createdAt", "updatedAt", "startedAt", "finishedAt"))


def test_a_forced_failure_is_failed_with_its_plain_message(server_with_daemon: Live) -> None:
    live = server_with_daemon
    id = live.task("data_processing", {"forceFailure": True}, maxRetries=1)

    task = live.final(id)

    assert (task["status"], task["error"], task["retries"]) == ("failed", "Forced failure for testing purposes", 1)
    assert live.post(f"/api/task/{id}/retry") == {"message": "Task queued for retry"}
    assert live.final(id)["status"] == "failed"
    assert live.post(f"/api/queue-manager/retry/{id}") == {"message": "Task retry initiated"}


def test_a_retrying_task_shows_why_it_failed(server_with_daemon: Live) -> None:
    live = server_with_daemon
    id = live.task("http_request", {"url": f"{live.base}/nope"}, maxRetries=9)

    task = until(lambda: live.get(f"/api/task/{id}"), lambda task: task["status"] == "retrying")

    assert task["error"] == "Request failed with status code 404"
    assert live.api.post(f"/api/task/{id}/cancel").status_code == 201


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_a_completed_task_is_left_alone(server_with_daemon: Live, verb: str) -> None:
    live = server_with_daemon
    id = live.final(live.task())["id"]

    answer = live.api.post(f"/api/task/{id}/{verb}")

    assert answer.status_code == 400
    if verb == "cancel":
        assert answer.json()["message"] == "Only pending tasks can be cancelled"


def test_a_waiting_task_is_cancelled_and_then_not_again(server_with_daemon: Live) -> None:
    live = server_with_daemon
    id = live.task(scheduledAt=LATER)

    assert live.post(f"/api/tasks/{id}/cancel") == {"message": "Task cancelled successfully"}
    assert live.get(f"/api/task/{id}")["status"] == "cancelled"
    assert live.api.post(f"/api/tasks/{id}/cancel").status_code == 400
    assert live.post(f"/api/task/{id}/retry") == {"message": "Task queued for retry"}


def test_a_compensation_names_the_task_it_undoes(server_with_daemon: Live) -> None:
    live = server_with_daemon
    id = live.final(live.task())["id"]

    answer = live.post(f"/api/task/{id}/compensate")

    assert answer["message"] == "Compensation task created and queued"
    payload = live.get(f"/api/task/{answer['taskId']}")["payload"]
    assert holds(payload, {"originalTaskId": id, "originalTaskType": "noop", "compensationAction": "rollback"})


def test_a_compensation_that_is_sent_again_with_its_key_is_one(server_with_daemon: Live) -> None:
    live = server_with_daemon
    one, other = live.task(), live.task()

    def compensated(id: str) -> Any:
        return live.api.post(f"/api/task/{id}/compensate", headers={"Idempotency-Key": "undo-1"})

    first, again, wrong = compensated(one), compensated(one), compensated(other)

    assert first.json()["taskId"] == again.json()["taskId"]
    assert wrong.status_code == 409


def test_pages_of_tasks_meet_without_a_gap(server_with_daemon: Live) -> None:
    live = server_with_daemon
    ids = [live.task(queue="pages") for _ in range(5)]

    first = live.get("/api/task?queue=pages&limit=3")
    second = live.get(f"/api/task?queue=pages&limit=3&cursor={first['nextCursor']}")

    assert [task["id"] for task in first["tasks"] + second["tasks"]] == sorted(ids, reverse=True)
    assert (first["total"], second["nextCursor"]) == (5, None)


def test_a_task_runs_once_at_its_time_and_remembers_it(server_with_daemon: Live) -> None:
    live = server_with_daemon
    body = {"type": "noop", "payload": {}, "scheduledAt": "2020-02-03"}

    task = live.post("/api/scheduler/tasks/scheduled", body)

    final = live.final(task["id"])
    assert (final["status"], final["attempt"], final["scheduledAt"]) == ("completed", 1, "2020-02-03T00:00:00.000Z")


def test_scheduled_tasks_are_listed_by_their_time(server_with_daemon: Live) -> None:
    live = server_with_daemon
    for year in (2035, 2033, 2034):
        live.post("/api/scheduler/tasks/scheduled", {**TASK, "scheduledAt": f"{year}-01-01T00:00:00Z"})
    started = live.post("/api/invoice/workflow/scheduled", {"customerId": "zoe", "scheduledAt": "2036-01-01T00:00:00Z"})

    listed = live.get("/api/scheduler/tasks/scheduled")

    times = [task["scheduledAt"] for task in listed]
    assert times == sorted(times)
    assert len([at for at in times if at[:4] in ("2033", "2034", "2035")]) == 3
    assert (started["taskId"], "fetch_orders") in [(task["id"], task["type"]) for task in listed]


def test_a_task_with_a_workflow_is_found_under_it(server_with_daemon: Live) -> None:
    live = server_with_daemon
    workflow = live.post("/api/workflows", {"name": "filed", "definition": CHAIN})["workflow"]["id"]

    id = live.final(live.task(workflowId=workflow))["id"]

    assert [task["id"] for task in live.get(f"/api/task?workflowId={workflow}")["tasks"]] == [id]
    shown = live.get(f"/api/task/{id}?relations=workflow,logs")
    assert (shown["workflowId"], shown["workflow"]["name"], shown["logs"]) == (workflow, "filed", [])
    assert live.get(f"/api/workflows/{workflow}/status")["totalTasks"] == 1


def test_a_workflow_of_transitions_really_runs(server_with_daemon: Live) -> None:
    live = server_with_daemon
    workflow = live.post("/api/workflows", {"name": "Really runs", "definition": CHAIN})["workflow"]["id"]

    started = live.post(f"/api/workflows/{workflow}/start")

    assert holds(started, {"message": "Workflow started successfully", "workflowId": workflow, "runId": is_id})
    status = until(lambda: live.get(f"/api/workflows/{workflow}/status"), lambda status: status["isComplete"])
    assert holds(status, {
        "workflowId": workflow, "workflowName": "Really runs", "isActive": True, "totalTasks": 2, "completedTasks": 2,
        "failedTasks": 0, "pendingTasks": 0, "processingTasks": 0, "hasFailures": False, "isInProgress": False,
        "progress": 100,
    })  # fmt: skip
    assert {task["type"] for task in status["tasks"]} == {"noop", "data_processing"}
    shown = live.get(f"/api/workflows/{workflow}/with-tasks")
    assert shown["message"] == "Workflow with tasks retrieved successfully"
    assert {task["runId"] for task in shown["workflow"]["tasks"]} == {started["runId"]}
    assert live.get(f"/api/workflows/{workflow}")["workflow"]["status"] == "completed"
    run = live.get(f"/api/runs/{started['runId']}")
    assert [(step["type"], step["status"]) for step in run["steps"]] == [
        ("noop", "completed"), ("data_processing", "completed")]  # fmt: skip


def test_a_workflow_called_invoice_does_not_become_the_one_of_qw(server_with_daemon: Live) -> None:
    live = server_with_daemon
    mine = live.post("/api/workflows", {"name": "invoice", "definition": CHAIN})["workflow"]

    task = live.post("/api/invoice/workflow/start", {"customerId": "zoe"})["taskId"]

    assert mine["name"] == "invoice"
    assert live.get(f"/api/task/{task}")["workflowId"] != mine["id"]


def test_a_workflow_is_changed_switched_off_and_deleted(server_with_daemon: Live) -> None:
    live = server_with_daemon
    path = "/api/workflows/" + live.post("/api/workflows", {"name": "life", "definition": CHAIN})["workflow"]["id"]

    changed = live.api.put(path, json={"name": "Life & times", "definition": {"steps": [{"id": "a", "type": "noop"}]}})
    assert changed.json()["message"] == "Workflow updated successfully"
    assert live.get(path) == {"message": "Workflow retrieved successfully", "workflow": changed.json()["workflow"]}
    assert changed.json()["workflow"]["definition"] == {"steps": [{"id": "a", "type": "noop"}]}

    off = live.api.put(f"{path}/deactivate").json()
    assert (off["message"], off["workflow"]["isActive"]) == ("Workflow deactivated successfully", False)
    assert path[-36:] not in [one["id"] for one in live.get("/api/workflows/active?limit=1000")["workflows"]]
    refused = live.api.post(f"{path}/start")
    assert (refused.status_code, refused.json()["message"]) == (400, "Cannot start inactive workflow")
    assert live.api.put(f"{path}/activate").json()["message"] == "Workflow activated successfully"

    assert live.api.delete(path).json() == {"message": "Workflow deleted successfully"}
    assert [live.api.delete(path).status_code, live.api.get(path).status_code] == [404, 404]


def test_an_invoice_by_http_ends_with_its_mail(server_with_daemon: Live) -> None:
    live = server_with_daemon
    customer = "eleni"
    workflow = live.post("/api/workflows", {"name": "Billing", "definition": CHAIN})["workflow"]["id"]

    started = live.post("/api/invoice/workflow/start", {"customerId": customer, "workflowId": workflow})

    assert started["workflowId"] == workflow
    assert live.get(f"/api/task/{started['taskId']}")["type"] == "fetch_orders"
    status = until(
        lambda: live.get(f"/api/invoice/status/{customer}"),
        lambda status: workflow in status["workflows"] and status["workflows"][workflow]["isComplete"],
    )
    assert holds(status, {"totalTasks": 4, "completedTasks": 4, "failedTasks": 0, "pendingTasks": 0})
    tasks = live.get(f"/api/invoice/tasks/{customer}")["tasks"]
    assert {task["type"] for task in tasks} == {"fetch_orders", "create_invoice", "generate_pdf", "send_email"}
    assert all(is_time(task["completedAt"]) for task in tasks)
    orders = live.get(f"/api/task/{started['taskId']}")["payload"]["orders"]
    assert holds(orders[0], {"customerId": customer, "status": "delivered"})
    assert live.get(f"/api/workflows/{workflow}/status")["isComplete"]


def test_without_a_workflow_id_an_invoice_is_shown_by_its_run(server_with_daemon: Live) -> None:
    live = server_with_daemon
    customer = "ivan"

    started = live.post("/api/invoice/workflow/start", {"customerId": customer})

    run = live.get(f"/api/task/{started['taskId']}")["runId"]
    assert "workflowId" not in started
    until(lambda: live.get(f"/api/invoice/status/{customer}")["workflows"][run]["isComplete"])


def test_a_scheduled_mail_names_its_invoice_and_is_sent(server_with_daemon: Live) -> None:
    live = server_with_daemon
    body = {"customerId": "zoe", "invoiceId": "INV-4711", "scheduledAt": "2026-01-01T00:00:00+01:00"}

    answer = live.post("/api/invoice/email/scheduled", body)

    assert answer["scheduledAt"] == "2025-12-31T23:00:00.000Z"
    sent = live.final(answer["taskId"])
    assert (sent["status"], sent["type"]) == ("completed", "send_email")
    assert "INV-4711" in sent["result"]["subject"]
