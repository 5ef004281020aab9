"""What qw adds to the documented API."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from qw import __version__
from qw.web import Thresholds, WebOptions, endpoint
from tests.web.live import Live, live, until

if TYPE_CHECKING:
    from tests.databases import PrivateServer

TASK = {"type": "noop", "payload": {}}
LATER = "2031-05-06T07:08:09Z"


def test_an_id_stands_for_one_type_queue_and_payload(server_shared: Live) -> None:
    api, given = server_shared.api, {"type": "noop", "payload": {"n": 1}, "id": str(uuid4())}

    first, again = (api.post("/api/task", json=given) for _ in range(2))
    differences: list[dict[str, Any]] = [{"type": "http_request"}, {"queue": "q"}, {"payload": {}}]
    others = [api.post("/api/task", json={**given, **different}) for different in differences]

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["taskId"] == again.json()["taskId"] == given["id"]
    assert [(other.status_code, other.json()["holder"]) for other in others] == [(409, given["id"])] * 3


def test_a_payload_must_fit_what_the_workers_registered(server_alone: Live, url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("""insert into qw.type (name, schema) values ('resize', '{"required": ["width"]}')""")

    answer = server_alone.api.post("/api/task", json={"type": "resize", "payload": {}})

    assert (answer.status_code, answer.json()["message"]) == (400, ["payload.width: is missing"])
    assert server_alone.post("/api/task", {"type": "resize", "payload": {"width": 1}})


@pytest.mark.parametrize("path", ["/api/task", "/api/queue-manager/enqueue"])
def test_prefer_wait_answers_with_the_final_task(server_with_daemon: Live, path: str) -> None:
    answer = server_with_daemon.api.post(path, json=TASK, headers={"Prefer": "respond-async, wait=10"})

    assert answer.status_code == 201
    assert answer.json()["status"] == "completed"


def test_prefer_wait_answers_as_ever_when_the_task_is_not_done_in_time(server_shared: Live) -> None:
    started = time.monotonic()

    answer = server_shared.post("/api/task", TASK, headers={"Prefer": "wait=1"})

    assert answer["message"] == "Task created and queued successfully"
    assert 0.9 < time.monotonic() - started < 30


def test_an_idempotency_key_stands_for_one_task(server_shared: Live) -> None:
    api, key = server_shared.api, {"Idempotency-Key": uuid4().hex}

    first, again = (api.post("/api/task", json=TASK, headers=key) for _ in range(2))
    other = api.post("/api/task", json={"type": "noop", "payload": {"n": 1}}, headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["taskId"] == again.json()["taskId"]
    assert (other.status_code, other.json()["holder"]) == (409, first.json()["taskId"])
    assert api.post("/api/task", json=TASK, headers={"Idempotency-Key": "k" * 600}).status_code == 400


@pytest.mark.parametrize("path", ["/api/invoice/workflow/start", "/api/workflows/{id}/start"])
def test_an_idempotency_key_stands_for_one_run(server_shared: Live, path: str) -> None:
    api, key = server_shared.api, {"Idempotency-Key": uuid4().hex}
    workflow = {"name": "keyed", "definition": {"initialTask": {"type": "noop", "payload": {}}}}
    id = server_shared.post("/api/workflows", workflow)["workflow"]["id"]
    path, body = path.format(id=id), {"customerId": "zoe", "input": {}}

    first, again = (server_shared.post(path, body, headers=key) for _ in range(2))
    other = api.post(path, json={"customerId": "amy", "input": {"n": 1}}, headers=key)
    task = api.post("/api/task", json=TASK, headers=key)
    wrong = api.post(path, json=body, headers={"Idempotency-Key": "k" * 600})

    assert first == again
    assert (other.status_code, task.status_code) == (400 if "/workflows/" in path else 409, 409)
    assert (wrong.status_code, wrong.json()["message"]) == (
        400,
        ["Idempotency-Key: must be text of 1 to 512 characters"],
    )


RECURRING = {"cronExpression": "0 3 1 1 *", "customerId": "zoe", **TASK}
FILED = {"name": "filed once", "definition": {"initialTask": TASK}}


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/api/workflows", FILED, {"name": "filed twice"}),
        ("/api/schedules", {"name": "kept-once", "cron": "0 3 1 1 *", **TASK}, {"cron": "0 4 1 1 *"}),
        ("/api/scheduler/tasks/recurring", RECURRING, {"payload": {"n": 1}}),
        ("/api/invoice/workflow/recurring", RECURRING, {"customerId": "amy"}),
    ],
)
def test_an_idempotency_key_stands_for_one_definition(
    server_shared: Live, path: str, body: dict[str, object], other: dict[str, object]
) -> None:
    api, key = server_shared.api, {"Idempotency-Key": uuid4().hex}

    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda _: server_shared.post(path, body, headers=key), range(4)))
    differs = api.post(path, json={**body, **other}, headers=key)
    wrong = api.post(path, json=body, headers={"Idempotency-Key": "k" * 600})

    assert [answer for answer in answers if answer != answers[0]] == []
    assert (differs.status_code, "different" in differs.json()["message"]) == (409, True)
    assert (wrong.status_code, wrong.json()["message"]) == (
        400,
        ["Idempotency-Key: must be text of 1 to 512 characters"],
    )


@pytest.mark.parametrize("path", ["/api/invoice/workflow/start", "/api/workflows/{id}/start"])
def test_prefer_wait_answers_with_the_run_that_is_over(
    server_shared: Live, server_with_daemon: Live, path: str
) -> None:
    def started(live: Live, wait: str) -> Any:
        id = live.post("/api/workflows", {"name": "awaited", "definition": {"initialTask": TASK}})["workflow"]["id"]
        return live.post(path.format(id=id), {"customerId": "zoe"}, headers={"Prefer": f"wait={wait}"})

    over, not_over = started(server_with_daemon, "20"), started(server_shared, "1")

    assert over["status"] in ("completed", "failed")  # an invoice has no orders to be had here
    assert {step["status"] for step in over["steps"]} <= {"completed", "failed", "skipped"}
    assert "started" in not_over["message"]


def test_a_unique_key_that_is_held_is_a_409_naming_the_holder(server_shared: Live) -> None:
    holder = server_shared.task(uniqueKey="only one")

    answer = server_shared.api.post("/api/task", json={**TASK, "uniqueKey": "only one"})

    assert (answer.status_code, answer.json()["code"], answer.json()["holder"]) == (409, "conflict", holder)


def test_a_task_with_a_known_id_is_not_made_again(server_shared: Live) -> None:
    id = server_shared.task()

    again = server_shared.task(id=id)

    assert again == id
    assert server_shared.get(f"/api/task/{id}")["payload"] == {}


def test_the_trace_of_a_request_goes_to_its_task(server_shared: Live, url: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with live(url) as started:
        id = started.post("/api/task", TASK, headers={"Traceparent": trace, "Tracestate": "a=1"})["taskId"]
        bad = started.post("/api/task", TASK, headers={"Traceparent": "nonsense"})["taskId"]

        with psycopg.connect(url) as connection:
            headers: dict[str, object] = dict(connection.execute("select id::text, headers from qw.task").fetchall())
    assert headers[id] == {"traceparent": trace, "tracestate": "a=1"}
    assert headers[bad] is None


def test_logs_are_read_on_from_a_line(server_with_daemon: Live) -> None:
    live = server_with_daemon
    id = live.task("http_request", {"url": f"{live.base}/nope"}, maxRetries=1)
    live.final(id)

    lines = live.get(f"/api/task/{id}/logs")["logs"]

    assert lines
    assert {"id", "attempt", "createdAt", "level", "message"} <= lines[0].keys()
    assert live.get(f"/api/task/{id}/logs?after={lines[0]['id']}")["logs"] == lines[1:]
    assert live.get(f"/api/task/{id}?relations=logs")["logs"] == lines


def test_many_are_cancelled_and_retried_by_filter_after_a_dry_run(server_shared: Live) -> None:
    api = server_shared.api
    ids = sorted(server_shared.task(queue="bulk") for _ in range(3))
    body = {"filter": {"queue": "bulk", "status": "pending"}}

    dry = api.post("/api/task/cancel", json={**body, "dryRun": True}).json()
    done = api.post("/api/tasks/cancel", json=body).json()
    again = api.post("/api/task/cancel", json=body).json()
    retried = api.post("/api/task/retry", json={"ids": ids}).json()

    assert (dry["matched"], dry["done"], sorted(dry["taskIds"])) == (3, 0, ids)
    assert (done["matched"], done["done"], sorted(done["taskIds"])) == (3, 3, ids)
    assert (again["matched"], again["done"]) == (0, 0)
    assert retried["done"] == 3


def test_a_filter_without_a_status_means_what_the_verb_applies_to(server_shared: Live) -> None:
    api = server_shared.api
    pending = server_shared.task(queue="verbs")
    cancelled = server_shared.task(queue="verbs")
    api.post("/api/task/cancel", json={"ids": [cancelled]})

    body = {"filter": {"queue": "verbs"}, "dryRun": True}
    assert api.post("/api/task/cancel", json=body).json()["taskIds"] == [pending]
    assert api.post("/api/task/retry", json=body).json()["taskIds"] == []


def test_more_than_a_thousand_ids_are_refused_and_none_is_changed(server_shared: Live) -> None:
    id = server_shared.task(queue="verbs")

    answer = server_shared.api.post("/api/task/cancel", json={"ids": [id] * 1001})

    assert answer.status_code == 400
    assert "1000" in str(answer.json()["message"])
    assert server_shared.get(f"/api/task/{id}")["status"] == "pending"


def test_a_running_task_is_asked_to_stop(server_with_daemon: Live) -> None:
    live = server_with_daemon
    silent = _Silent()
    id = live.task("http_request", {"url": silent.url}, maxRetries=1)
    until(lambda: live.get(f"/api/task/{id}")["status"] == "processing")

    refused = live.api.post(f"/api/task/{id}/cancel")
    asked = live.api.post(f"/api/task/{id}/cancel?running=true")

    assert (refused.status_code, asked.status_code) == (400, 201)
    assert live.final(id)["status"] == "cancelled"
    silent.close()


class _Silent:
    """A server that takes connections and never says a word."""

    def __init__(self) -> None:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def close(self) -> None:
        self._socket.close()


def test_a_paused_queue_waits_until_it_is_resumed(server_with_daemon: Live) -> None:
    live = server_with_daemon
    assert live.api.post("/api/queues/slow/pause").json() == {"message": "Queue slow paused"}
    id = live.task(queue="slow")

    paused = {queue["name"]: queue for queue in live.get("/api/queues")["queues"]}["slow"]
    assert (paused["pending"], paused["pausedBy"]) == (1, "http")
    assert paused["pausedAt"]
    assert live.get(f"/api/task/{id}")["status"] == "pending"

    assert live.api.post("/api/queues/slow/resume").json() == {"message": "Queue slow resumed"}
    assert live.final(id)["status"] == "completed"
    assert live.api.post("/api/queues/a;b/pause").status_code == 400


def test_a_queue_is_limited_and_set_free(server_with_daemon: Live) -> None:
    live, limits = (
        server_with_daemon,
        {"concurrency": None, "rate": "1/h", "key": None, "perKey": None, "perKeyRate": None},
    )
    assert live.api.put("/api/queues/limited/limits", json={"concurrency": 1}).json()["concurrency"] == 1
    answer = live.api.put("/api/queues/limited/limits", json={"rate": "1/h"})
    first, second = live.task(queue="limited"), live.task(queue="limited")

    assert (answer.status_code, answer.json()) == (200, limits)
    assert {queue["name"]: queue for queue in live.get("/api/queues")["queues"]}["limited"]["limits"] == limits
    assert live.final(first)["status"] == "completed"
    until(lambda: [each["code"] for each in live.get(f"/api/task/{second}/why")["reasons"]] == ["rate_limited"])

    done, again = (live.api.delete("/api/queues/limited/limits").json()["message"] for _ in range(2))
    assert (done, again) == ("Queue limited no longer has limits", "Queue limited was not limited")
    assert live.final(second)["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"perKey": 1}, "key: is missing"),
        ({"perKeyRate": "fast", "key": "payload.a"}, "perKeyRate: 'fast' is not a rate"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurency": 1}, "concurency should not exist"),
        ({}, "sets no limit"),
        ([], "body"),
    ],
)
def test_a_limit_that_is_none_is_a_400_that_says_why(server_shared: Live, body: object, message: str) -> None:
    answer = server_shared.api.put("/api/queues/q/limits", json=body)

    assert answer.status_code == 400
    assert message in answer.json()["detail"]
    assert server_shared.api.put("/api/queues/a;b/limits", json={"concurrency": 1}).status_code == 400


def test_why_says_what_keeps_a_task_and_a_run(server_with_daemon: Live) -> None:
    live = server_with_daemon
    body = {"customerId": "zoe", "scheduledAt": LATER}
    id = live.post("/api/invoice/workflow/scheduled", body)["taskId"]
    run = live.get(f"/api/task/{id}")["runId"]

    waits = live.get(f"/api/task/{id}/why")["reasons"]
    goes_on = live.get(f"/api/runs/{run}/why")["reasons"]

    assert waits[0].keys() == {"code", "text", "advice"}
    assert "scheduled to run in" in waits[0]["text"]
    assert goes_on
    assert live.api.get(f"/api/task/{run}/why").status_code == 404


def test_a_worker_that_does_not_live_cannot_be_drained(server_shared: Live) -> None:
    statuses = [server_shared.api.post(f"/api/workers/{id}/drain").status_code for id in ("4711", "x", "-1")]

    assert statuses == [404, 400, 400]


def test_the_slots_of_a_worker_are_changed(server_with_daemon: Live) -> None:
    live = server_with_daemon
    [worker] = live.get("/api/workers")["workers"]
    place = f"/api/workers/{worker['id']}/slots"

    done = live.api.put(place, json={"process": 7, "async": 50})
    refused = [live.api.put(place, json=body) for body in ({}, {"process": 0}, {"process": 5000}, {"commands": 3})]
    gone = live.api.put("/api/workers/4711/slots", json={"process": 7})

    assert done.json() == {"message": f"Worker {worker['id']} has 50 async, 7 process slots"}
    assert live.get("/api/workers")["workers"][0]["slots"] == {**worker["slots"], "process": 7, "async": 50}
    assert [answer.status_code for answer in refused] == [400] * 4
    assert gone.status_code == 404


def test_a_run_is_cancelled(server_with_daemon: Live) -> None:
    live = server_with_daemon
    body = {"customerId": "zoe", "scheduledAt": LATER}
    task = live.post("/api/invoice/workflow/scheduled", body)["taskId"]
    run = live.get(f"/api/task/{task}")["runId"]

    answer = live.post(f"/api/runs/{run}/cancel")

    assert answer == {"message": "Run cancellation requested"}
    until(lambda: live.get(f"/api/runs/{run}")["status"] == "cancelled")
    assert live.get(f"/api/task/{task}")["status"] == "cancelled"
    assert live.api.post(f"/api/runs/{run}/cancel").status_code == 409


def test_head_is_answered_wherever_get_is(server_shared: Live) -> None:
    for path in ("/api/task", "/api/health", "/openapi.json", "/livez"):
        answer = server_shared.api.head(path)
        assert answer.status_code == server_shared.api.get(path).status_code
        assert answer.content == b""


def test_metrics_count_tasks_and_requests_without_an_id(server_alone: Live) -> None:
    id = server_alone.task(queue="counted")
    server_alone.get(f"/api/task/{id}")

    answer = server_alone.api.get("/metrics")

    text = answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'qw_queue_tasks{queue="counted",state="pending"} 1.0',
        'qw_http_requests_total{method="GET",route="/api/task/{id}",status="200"} 1.0',
        f'qw_build_info{{version="{__version__}"}} 1.0',
        "qw_dead_tasks 0.0",
        "qw_workers 0.0",
    ):
        assert line in text.splitlines()
    assert "qw_queue_oldest_runnable_seconds" in text
    assert id not in text


def test_metrics_tell_which_queues_no_worker_serves(server_alone: Live, url: str) -> None:
    for queue in ("served", "left"):
        server_alone.task(queue=queue)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("""
            insert into qw.worker (host, pid, version, types, queues, slots)
            values ('a', 1, 'x', '{noop}', '{served}', '{}')""")  # fmt: skip
        text = server_alone.api.get("/metrics").text

    assert 'qw_queue_workers{queue="served"} 1.0' in text
    assert 'qw_queue_workers{queue="left"} 0.0' in text


def test_metrics_tell_how_far_retention_is_behind(server_alone: Live, url: str) -> None:
    id = server_alone.task()
    with psycopg.connect(url, autocommit=True) as conn:
        old = "01890000-0000-7000-8000-000000000000"
        for of, days in ((id, 0), (old, 8)):
            conn.execute("""
                insert into qw.finished (task_id, status, fence, attempt, retries, crashes, finished_at)
                values (%s, 'completed', 0, 1, 0, 0, now() - make_interval(days => %s))""", [of, days])  # fmt: skip
        text = server_alone.api.get("/metrics").text

    (behind,) = re.findall(r"(?m)^qw_retention_behind_seconds (\S+)$", text)
    assert 86_400 <= float(behind) < 86_400 + 60


def test_metrics_tell_how_the_database_is(server_alone: Live) -> None:
    text = server_alone.api.get("/metrics").text

    (age,) = re.findall(r"(?m)^qw_db_transaction_id_age (\S+)$", text)
    sizes = dict(re.findall(r'(?m)^qw_table_bytes\{table="(\w+)"\} (\S+)$', text))
    assert 0 < float(age) < 2.1e9
    assert float(sizes["task"]) > 8192
    assert set(sizes) == set(re.findall(r'(?m)^qw_table_dead_rows\{table="(\w+)"\}', text))


def test_metrics_tell_of_each_schedule_by_its_name(server_alone: Live) -> None:
    server_alone.post("/api/schedules", {"name": "nightly", "cron": "0 3 * * *", "type": "noop"})

    text = server_alone.api.get("/metrics").text

    assert 'qw_schedule_missed_total{schedule="nightly"} 0.0' in text
    assert 'qw_schedule_next_timestamp_seconds{schedule="nightly"}' in text
    assert "# TYPE qw_schedule_last_success_timestamp_seconds gauge" in text


@pytest.mark.parametrize("file", ["grafana.json", "prometheus/rules.yaml", "prometheus/rules_test.yaml"])
def test_dashboard_and_rules_ask_only_for_metrics_that_there_are(server_with_daemon: Live, file: str) -> None:
    text = (Path(__file__).parents[2] / "deploy" / file).read_text()
    live = server_with_daemon
    live.post("/api/invoice/workflow/scheduled", {"customerId": "zoe", "scheduledAt": LATER})

    types = dict(re.findall(r"^# TYPE (\w+) (\w+)", live.api.get("/metrics").text, re.MULTILINE))
    there = {f"{name}_bucket" if kind == "histogram" else name for name, kind in types.items()}

    asked = set(re.findall(r"(?<![:\w])qw_\w+", text))
    assert len(asked) >= 15
    assert asked <= there


def test_the_dashboard_counts_what_all_daemons_report_once() -> None:
    """Every daemon reports the same of the database; only what one process counts of itself may be summed as it is."""
    dashboard = json.loads((Path(__file__).parents[2] / "deploy" / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]

    assert len(expressions) >= 20
    for expression in expressions:
        for metric in re.finditer(r"\bqw_\w+", expression):
            if metric[0] != "qw_http_requests_total":
                assert re.search(
                    r"\bmax( by \([^)]*\))? ?\((rate\(|increase\(|abs\()?$", expression[: metric.start()]
                ), expression
            assert expression[metric.end() :].startswith('{job="$job"')
            if metric[0] == "qw_queue_tasks":
                assert "max by (queue, state) (qw_queue_tasks" in expression


def test_metrics_tell_how_long_tasks_wait_and_run_and_what_became_of_them(server_with_daemon: Live) -> None:
    live = server_with_daemon
    for payload in ({}, {}, {"forceFailure": True}):
        live.final(live.task("data_processing", payload, queue="measured", maxRetries=1))

    where = 'queue="measured",type="data_processing"'
    all_three = f"qw_task_run_seconds_count{{{where}}} 3.0"
    lines = until(lambda: live.api.get("/metrics").text.splitlines(), lambda lines: all_three in lines)

    for line in (
        f'qw_task_wait_seconds_bucket{{le="+Inf",{where}}} 3.0',
        'qw_task_attempts_total{queue="measured",result="completed",type="data_processing"} 2.0',
        'qw_tasks_completed_total{outcome="failed",queue="measured",type="data_processing"} 1.0',
        'qw_tasks_enqueued_total{queue="measured"} 3.0',
    ):
        assert line in lines


def test_a_counter_that_an_alert_watches_is_zero_before_it_counts(server_with_daemon: Live) -> None:
    live = server_with_daemon
    live.final(live.task("noop", {}, queue="harmless"))

    where = 'queue="harmless"'
    done = f'qw_tasks_completed_total{{outcome="completed",{where},type="noop"}} 1.0'
    lines = until(lambda: live.api.get("/metrics").text.splitlines(), lambda lines: done in lines)

    for line in (
        f'qw_tasks_completed_total{{outcome="failed",{where},type="noop"}} 0.0',
        f'qw_task_attempts_total{{{where},result="lease_lost",type="noop"}} 0.0',
        'qw_tasks_rescued_total{type="noop"} 0.0',
    ):
        assert line in lines


def test_overload_and_health_of_the_queue_follow_the_thresholds(url: str) -> None:
    limits = Thresholds(unhealthy_pending=2, overloaded_pending=2)
    with live(url, options=WebOptions(thresholds=limits)) as started:
        for _ in range(2):
            started.task(scheduledAt=LATER)
        status = started.get("/api/queue-manager/status")
        calm = started.get("/api/queue-manager/overloaded")
        started.task()
        busy = started.get("/api/queue-manager/overloaded")

    assert (status["pending"], status["total"], status["isHealthy"]) == (2, 2, False)
    assert calm == {"isOverloaded": False, "message": "Queue is operating normally"}
    assert busy == {"isOverloaded": True, "message": "Queue is overloaded"}


def test_samples_are_sown_once_and_cleared(server_alone: Live, url: str) -> None:
    api = server_alone.api

    seeded = api.post("/api/seeder/seed", json={"tasksPerType": 2})
    again = api.post("/api/seeder/seed").json()
    reset = api.post("/api/seeder/reset").json()
    status = server_alone.get("/api/queue-manager/status")
    cleared = api.delete("/api/seeder/clear")

    assert (seeded.status_code, seeded.json()["message"]) == (200, "Database seeded successfully")
    assert seeded.json()["result"] == {"workflows": 4, "tasks": 14, "taskLogs": 14}
    assert again["result"] == {"workflows": 0, "tasks": 0, "taskLogs": 0}
    assert reset["result"] == {"workflows": 4, "tasks": 70, "taskLogs": 70}
    assert status["completed"] + status["failed"] == status["total"] == 70
    assert (cleared.status_code, cleared.json()["message"]) == (200, "Database cleared successfully")
    assert server_alone.get("/api/task")["total"] == 0
    assert _filled_tables(url) <= {"migration", "type", "wanted", "relay", "relay_slot", "audit"}


def _filled_tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = 'qw'").fetchall()
        return {name for (name,) in names if connection.execute(f"select 1 from qw.{name} limit 1".encode()).fetchone()}


def test_totals_beyond_ten_thousand_are_estimates_and_say_so(
    server_alone: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.client.tasks.COUNTED", 2)
    for _ in range(4):
        server_alone.task()

    counted = server_alone.get("/api/task?type=noop&limit=1")
    tallied = server_alone.get("/api/task?status=pending&queue=default&limit=1")

    assert counted["totalIsEstimate"] is True
    assert counted["total"] >= 3
    assert (tallied["total"], "totalIsEstimate" in tallied) == (4, False)


def test_many_callers_at_once_each_get_their_own_task(server_shared: Live) -> None:
    ids = [server_shared.task(payload={"n": n}) for n in range(40)]
    seen: dict[str, object] = {}

    def look(id: str) -> None:
        seen[id] = server_shared.get(f"/api/task/{id}")["payload"]

    threads = [threading.Thread(target=look, args=[id]) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {id: {"n": n} for n, id in enumerate(ids)}


def test_without_the_database_everything_but_livez_is_503(private_url: str, private_server: PrivateServer) -> None:
    with live(private_url) as started:
        started.task()
        private_server.stop("immediate")

        for path in ("/readyz", "/api/health", "/api/task"):
            answer = started.api.get(path)
            assert answer.status_code == 503, path
            assert int(answer.headers["retry-after"]) >= 1
        refused = started.api.post("/api/task", json=TASK)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert started.api.get("/livez").text == "ok"

        private_server.start()
        until(lambda: started.api.post("/api/task", json=TASK).status_code == 201)
        until(lambda: started.api.get("/readyz").status_code == 200)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_database_that_is_frozen_is_away(
    private_url: str, private_server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 1.0)
    with live(private_url) as started:
        started.task()
        with private_server.frozen():
            answers = [started.api.get(path) for path in ("/readyz", "/api/health", "/api/task")]
            refused = started.api.post("/api/task", json=TASK)

        assert [answer.status_code for answer in (*answers, refused)] == [503] * 4
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in (*answers, refused))
        until(lambda: started.api.post("/api/task", json=TASK).status_code == 201)
        until(lambda: started.api.get("/readyz").status_code == 200)
