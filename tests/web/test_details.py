"""Pages about one thing: a task's and a run's past, a queue, a worker, events, webhooks, the database."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import slowed
from tests.web.live import Live, live, until

if TYPE_CHECKING:
    from tests.databases import Template

DEFINITIONS = """
version: 1
workflows:
  chain:
    steps:
      - {id: first, type: noop}
      - {id: fan, type: noop, foreach: [1, 2, 3], needs: [first]}
      - {id: bad, type: http_request, with: {url: "http://127.0.0.1:9/"}, retry: {max_retries: 1}, needs: [fan]}
      - {id: never, type: noop, needs: [bad]}
"""
NOBODY = "0192a6c0-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def site(migrated_template: Template) -> Iterator[Live]:
    with (
        migrated_template.clone() as url,
        live(url, {"QW_EVENT_LOG": "1h"}, daemon=True, definitions=DEFINITIONS) as started,
    ):
        yield started


def test_the_past_of_a_task_has_its_attempts_with_their_workers_and_its_events(site: Live) -> None:
    id = site.task("http_request", {"url": "http://127.0.0.1:9/x"}, maxRetries=1)
    site.final(id)
    site.post(f"/api/task/{id}/retry")
    until(lambda: site.get(f"/api/task/{id}")["attempt"] == 2 and site.final(id))

    found = until(lambda: site.get(f"/api/task/{id}/timeline"), lambda seen: len(seen["events"]) >= 2)

    assert [(each["attempt"], each["outcome"]) for each in found["attempts"]] == [(1, "superseded"), (2, "failed")]
    assert all(each["host"] and each["startedAt"] <= each["endedAt"] for each in found["attempts"])
    assert found["events"][0]["type"] == "task.created"
    assert found["command"] == f"qw task show {id}"


def test_what_was_made_of_a_task_is_shown_with_it(site: Live) -> None:
    id = site.task()
    site.final(id)
    answer = site.api.post("/api/bulk", json={"action": "requeue", "ids": [id]})
    until(lambda: site.get(f"/api/bulk/{answer.json()['id']}")["state"] == "done")

    children = site.get(f"/api/task/{id}/timeline")["children"]

    assert [child["type"] for child in children] == ["noop"]
    assert site.final(children[0]["id"])["status"] == "completed"


def test_a_waiting_task_gets_another_payload_and_no_other_does(site: Live) -> None:
    waiting = site.task(payload={"n": 1}, delay="1h")
    done = site.task()
    site.final(done)

    edited = site.api.put(f"/api/task/{waiting}/payload", json={"payload": {"n": 2}})
    refused = site.api.put(f"/api/task/{done}/payload", json={"payload": {}})
    missing = site.api.put(f"/api/task/{NOBODY}/payload", json={"payload": {}})

    assert (edited.status_code, refused.status_code, missing.status_code) == (200, 409, 404)
    assert site.get(f"/api/task/{waiting}")["payload"] == {"n": 2}


def test_an_edit_brings_no_program_of_its_own(site: Live) -> None:
    id = site.task(delay="1h")
    task = site.get(f"/api/task/{id}")
    assert task["type"] == "noop"

    answer = site.api.post("/api/task", json={"type": "command", "payload": {"argv": ["true"]}})

    assert answer.status_code == 400


@pytest.fixture(scope="module")
def run(site: Live) -> Any:
    id = site.post("/api/workflows/" + workflow(site) + "/start")["runId"]
    until(lambda: site.get(f"/api/runs/{id}"), lambda run: run["status"] == "failed")
    return id


def workflow(site: Live) -> str:
    found = until(lambda: site.get("/api/workflows")["workflows"])
    return next(str(each["id"]) for each in found if each["name"] == "chain")


def test_a_run_is_shown_with_all_steps_of_its_definition(site: Live, run: str) -> None:
    steps = {step["id"]: step for step in site.get(f"/api/runs/{run}/timeline")["steps"]}

    assert list(steps) == ["first", "fan", "bad", "never"]
    assert steps["fan"]["items"] == {"total": 3, "started": 3, "completed": 3, "failed": 0}
    assert steps["never"]["needs"] == ["bad"]
    assert [steps[name]["status"] for name in ("first", "fan", "bad")] == ["completed", "completed", "failed"]


def test_a_preview_says_what_a_retry_repeats_and_what_it_keeps(site: Live, run: str) -> None:
    failed = site.get(f"/api/runs/{run}/retry-preview")
    all_of_it = site.get(f"/api/runs/{run}/retry-preview", params={"step": "first"})

    assert "bad" in failed["again"]
    assert {"first", "fan"} <= set(failed["kept"])
    assert {"first", "fan", "bad"} <= set(all_of_it["again"])


def test_a_queue_says_who_has_its_slots_and_what_is_held_back(server_alone: Live) -> None:
    server_alone.api.put("/api/queues/narrow/limits", json={"concurrency": 1})
    for _ in range(3):
        server_alone.task(queue="narrow")

    found = server_alone.get("/api/queues/narrow")

    assert found["held"] == 3
    assert found["holders"] == []
    assert found["limits"]["concurrency"] == 1
    assert server_alone.api.get("/api/queues/nobody-knows").status_code == 404


def test_a_queue_is_purged_after_its_name_was_given(server_alone: Live) -> None:
    for _ in range(3):
        server_alone.task(queue="old")

    refused = server_alone.api.post("/api/queues/old/purge", json={"confirm": "other"})
    purged = server_alone.api.post("/api/queues/old/purge", json={"confirm": "old"})

    assert (refused.status_code, purged.json()["cancelled"]) == (400, 3)
    assert server_alone.get("/api/queues/old")["pending"] == 0


def test_all_queues_are_paused_and_resumed_at_once(server_alone: Live) -> None:
    server_alone.task(queue="a")
    server_alone.task(queue="b")

    server_alone.api.post("/api/queues/pause-all")
    paused = [each["pausedAt"] is not None for each in server_alone.get("/api/queues")["queues"]]
    server_alone.api.post("/api/queues/resume-all")
    resumed = [each["pausedAt"] is None for each in server_alone.get("/api/queues")["queues"]]

    assert paused == resumed == [True, True]


def test_a_worker_says_how_much_memory_it_has_and_what_it_runs(site: Live) -> None:
    number = site.get("/api/workers")["workers"][0]["id"]

    found = until(lambda: site.get(f"/api/workers/{number}"), lambda worker: worker["memoryBytes"])

    assert found["memoryBytes"] > 10_000_000
    assert isinstance(found["tasks"], list)
    assert site.api.get("/api/workers/999999").status_code == 404
    assert site.api.get("/api/workers/x").status_code == 400


def test_the_log_of_events_is_read_from_its_end(site: Live) -> None:
    id = site.task()
    site.final(id)
    events = until(
        lambda: site.get("/api/events/log", params={"taskId": id})["events"],
        lambda seen: any(event["type"] == "task.completed" for event in seen),
    )
    page = site.get("/api/events/log", params={"type": "task.*", "limit": 1})
    older = site.get("/api/events/log", params={"type": "task.*", "limit": 1, "before": page["nextCursor"]})

    assert [event["id"] for event in events] == sorted((event["id"] for event in events), reverse=True)
    assert older["events"][0]["id"] < page["events"][0]["id"]


def test_the_database_is_described_with_what_to_mend(site: Live) -> None:
    found = site.get("/api/database")

    assert {table["name"] for table in found["tables"]} >= {"task", "ready", "finished"}
    assert found["migration"]["current"] == found["migration"]["newest"]
    assert 0 < found["connections"]["used"] <= found["connections"]["max"]
    assert all(check["ok"] or check["fix"] for check in found["checks"])
    assert found["retention"]["completedSeconds"] == 7 * 86400


def test_types_are_listed_with_their_schema(site: Live) -> None:
    types = {each["name"]: each for each in site.get("/api/types")["types"]}

    assert types["noop"]["maxRetries"] == 3
    assert isinstance(types["http_request"]["schema"], dict | None)


def test_schedules_come_with_next_ticks_and_last_fires_where_asked(server_alone: Live) -> None:
    server_alone.post("/api/schedules", {"name": "daily", "cron": "0 3 * * *", "type": "noop"})
    server_alone.post("/api/schedules/daily/trigger")

    plain = server_alone.get("/api/schedules")["schedules"][0]
    full = server_alone.get("/api/schedules", params={"next": 5, "fires": 3})["schedules"][0]

    assert "nextTicks" not in plain
    assert len(full["nextTicks"]) == 5
    assert [fire["cause"] for fire in full["lastFires"]] == ["trigger"]


def test_webhooks_are_listed_and_a_delivery_that_is_none_is_not_replayed(site: Live) -> None:
    id = site.task()

    assert site.get("/api/webhooks") == {"webhooks": [], "deliveries": []}
    assert site.api.post(f"/api/webhooks/deliveries/{id}/replay").status_code == 404


def test_a_running_task_says_within_a_second_what_it_does(site: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        id = site.task("http_request", {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}, timeout="60s")
        until(lambda: site.get(f"/api/task/{id}")["status"] == "processing")
        accepted, _ = silent.accept()

        began = time.monotonic()
        seen = site.get(f"/api/task/{id}/stack")
        took = time.monotonic() - began
        site.post(f"/api/task/{id}/cancel?running=true")
        site.final(id)
        later = site.get(f"/api/task/{id}/stack")

    accepted.close()
    assert (seen["kind"], seen["isLive"], later["isLive"]) == ("coroutine", True, False)
    assert seen["frames"]
    assert seen["text"] == later["text"]
    assert took < slowed(5)


def test_a_task_that_does_not_run_has_no_stack(site: Live) -> None:
    assert site.api.get(f"/api/task/{site.task(delay='1h')}/stack").status_code == 409
