"""The recurring routes of the documented API, and /api/schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.web.live import live, until

if TYPE_CHECKING:
    from tests.web.live import Live

RECURRING = "/api/scheduler/tasks/recurring"
INVOICE = "/api/invoice/workflow/recurring"


def refused(server: Live, path: str, body: dict[str, Any], status: int = 400) -> Any:
    answer = server.api.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()["message"]


def added(server: Live, **body: Any) -> Any:
    """A new schedule: hourly, unless *body* says otherwise."""
    return server.post("/api/schedules", {"name": uuid4().hex, "cron": "@hourly", "type": "noop", **body})


def test_a_recurring_task_is_a_schedule_that_looks_like_a_task(server_alone: Live) -> None:
    made = server_alone.post(RECURRING, {"type": "noop", "payload": {"a": 1}, "cronExpression": "0 9 * * mon"})

    assert (made["status"], made["type"], made["scheduledAt"], made["retries"]) == ("pending", "noop", None, 0)
    assert made["payload"] == {"a": 1, "cronExpression": "0 9 * * mon", "isRecurring": True}
    assert server_alone.get(f"/api/task/{made['id']}") == made
    assert server_alone.get("/api/task")["total"] == 0
    assert server_alone.get("/api/queue-manager/status")["pending"] == 0
    assert server_alone.get("/api/scheduler/tasks/scheduled") == []


def test_cancelling_a_recurring_task_removes_it(server_alone: Live) -> None:
    id = server_alone.post(RECURRING, {"type": "noop", "payload": {}, "cronExpression": "@daily"})["id"]

    assert server_alone.post(f"/api/task/{id}/cancel") == {"message": "Task cancelled successfully"}

    assert server_alone.api.get(f"/api/task/{id}").status_code == 404
    assert server_alone.api.post(f"/api/task/{id}/cancel").status_code == 404
    assert server_alone.get("/api/schedules")["schedules"] == []


def test_each_tick_of_a_recurring_task_makes_a_task_of_its_own(url: str) -> None:
    with live(url, daemon=True) as server:
        workflow = server.post(
            "/api/workflows", {"name": "Mine", "definition": {"steps": [{"id": "a", "type": "noop"}]}}
        )
        under = workflow["workflow"]["id"]
        body = {"type": "noop", "payload": {"a": 1}, "cronExpression": "@every 1s", "workflowId": under}
        assert refused(server, RECURRING, body)[0] == "Invalid cron expression format"
        id = server.post(RECURRING, {**body, "cronExpression": "* * * * *"})["id"]

        server.post(f"/api/schedules/{id}/trigger")

        (task,) = until(lambda: server.get(f"/api/task?workflowId={under}&status=completed")["tasks"])
        assert (task["payload"], task["workflowId"]) == ({"a": 1}, under)
        assert task["id"] != id


@pytest.mark.parametrize("expression", ["", "  ", None, 5, "61 * * * *", "* * * *", "0 0 30 2 *", "x" * 10_000])
def test_a_bad_expression_is_refused_with_the_documented_text(server_alone: Live, expression: object) -> None:
    body = {"type": "noop", "payload": {}, "customerId": "zoe", "cronExpression": expression}

    for path in (RECURRING, INVOICE):
        assert refused(server_alone, path, body)[0] == "Invalid cron expression format"


def test_what_a_recurring_task_needs_is_named(server_alone: Live) -> None:
    assert refused(server_alone, RECURRING, {"payload": {}, "cronExpression": "@daily"}) == (
        "Task type and payload are required"
    )
    assert refused(server_alone, RECURRING, {"type": "noop", "payload": {}}) == [
        "Invalid cron expression format",
        "cronExpression should not be empty",
        "cronExpression must be a string",
    ]
    assert "Unknown task type 'nop'" in refused(
        server_alone, RECURRING, {"type": "nop", "payload": {}, "cronExpression": "@daily"}
    )
    body = {"type": "noop", "payload": {}, "cronExpression": "@daily", "workflowId": str(uuid4())}
    assert "not found" in refused(server_alone, RECURRING, body, 404)


@pytest.mark.parametrize("expression", ["0 9 * * 1-5", "0,30 9 1 jan *", "@monthly"])
def test_a_recurring_invoice_takes_ranges_lists_and_names(server_alone: Live, expression: str) -> None:
    made = server_alone.post(INVOICE, {"customerId": "zoe", "cronExpression": expression})

    assert (made["message"], made["cronExpression"]) == ("Recurring invoice workflow created", expression)
    entity = server_alone.get(f"/api/task/{made['taskId']}")
    assert (entity["type"], entity["payload"]["customerId"], entity["status"]) == ("fetch_orders", "zoe", "pending")


def test_a_recurring_invoice_starts_runs(server_with_daemon: Live) -> None:
    made = server_with_daemon.post(INVOICE, {"customerId": "zoe", "cronExpression": "@yearly"})

    server_with_daemon.post(f"/api/schedules/{made['taskId']}/trigger")

    tasks = until(
        lambda: server_with_daemon.get("/api/invoice/tasks/zoe")["tasks"],
        lambda tasks: [task["status"] for task in tasks].count("completed") == 4,
    )
    assert {task["type"] for task in tasks} == {"fetch_orders", "create_invoice", "generate_pdf", "send_email"}


def test_a_schedule_goes_its_way_over_http(server_shared: Live) -> None:
    name = added(server_shared, cron="30 2 * * *", timezone="Europe/Berlin", payload={"a": 1}, overlap="skip")["name"]
    path = f"/api/schedules/{name}"

    shown = server_shared.get(path)
    assert (shown["when"], shown["payload"], shown["overlap"]) == (
        "at 02:30 every day, Europe/Berlin", {"a": 1}, "skip",
    )  # fmt: skip
    assert len(server_shared.get(f"{path}/next?count=3")["ticks"]) == 3
    assert server_shared.api.post(f"{path}/pause").status_code == 201
    assert (server_shared.get(path)["paused"], server_shared.get(path)["nextTick"]) == (True, None)
    assert server_shared.api.post(f"{path}/resume").status_code == 201
    id = server_shared.post(f"{path}/trigger")["id"]
    assert server_shared.get(f"/api/task/{id}")["payload"] == {"a": 1}
    assert [fire["taskId"] for fire in server_shared.get(f"{path}/fires")["fires"]] == [id]
    assert name in [one["name"] for one in server_shared.get("/api/schedules")["schedules"]]
    assert server_shared.api.delete(path).json() == {"message": f"Schedule {name} removed"}
    assert server_shared.api.get(path).status_code == 404


def test_a_backfill_over_http_can_be_tried_first(server_shared: Live) -> None:
    path = f"/api/schedules/{added(server_shared, cron='0 3 * * *')['name']}/backfill"
    since = (datetime.now(UTC) - timedelta(days=3)).isoformat()

    dry = server_shared.post(path, {"since": since, "dryRun": True})
    assert server_shared.post(path, {"since": since})["ticks"] == dry["ticks"] != []
    assert server_shared.post(path, {"since": since}) == {"ticks": [], "known": len(dry["ticks"]), "dryRun": False}


def test_what_is_wrong_with_a_schedule_is_a_400_that_lists_it(server_shared: Live) -> None:
    faults = refused(
        server_shared, "/api/schedules", {"name": "x", "cron": "61 * * * *", "timezone": "Mars", "type": "noop"}
    )

    assert [fault.partition(":")[0] for fault in faults] == ["timezone", "cron"]
    assert refused(server_shared, "/api/schedules", {"name": "x", "every": "1h"}) != []
    name = added(server_shared)["name"]
    assert "already exists" in refused(
        server_shared, "/api/schedules", {"name": name, "every": "1h", "type": "noop"}, 409
    )


def test_http_brings_no_program_of_its_own(server_shared: Live) -> None:
    for payload in ({"argv": ["id"]}, {"run": "id"}):
        body = {"name": "x", "every": "1h", "type": "command", "payload": payload}
        assert "only declared commands" in str(refused(server_shared, "/api/schedules", body))
        recurring = {"type": "command", "payload": payload, "cronExpression": "@daily"}
        assert "only declared commands" in str(refused(server_shared, RECURRING, recurring))
