"""The search for tasks over HTTP, and acts on all that match."""

from __future__ import annotations

from typing import Any

import pytest

from qw.client import search as client_search
from qw.store import search as store_search
from tests.web.live import Live, until


def found(server: Live, q: str, **more: object) -> Any:
    return server.get("/api/search/tasks", params={"q": q, **more})


def ids(page: Any) -> list[str]:
    return [task["id"] for task in page["tasks"]]


@pytest.fixture(scope="module")
def failed(server_with_daemon: Live) -> list[str]:
    """Two that failed, of two customers, and one that completed."""
    server, url = server_with_daemon, "http://127.0.0.1:9/x"
    made = [
        server.task("http_request", {"url": url, "customerId": "zoe", "order": {"n": 5}}, queue="s1", maxRetries=1),
        server.task("http_request", {"url": url, "customerId": "max"}, queue="s2", maxRetries=1),
        server.task("noop", {"customerId": "zoe"}, queue="s1"),
    ]
    for id in made:
        server.final(id)
    return made


@pytest.mark.parametrize(
    ("q", "which"),
    [
        ("payload.customerId:zoe", [2, 0]),
        ("payload.customerId:zoe status:failed", [0]),
        ("payload.order.n:5", [0]),
        ("payload.order.n:6", []),
        ("queue:s1,s2 status:failed,completed", [2, 1, 0]),
        ("queue:s1 type:noop status:completed", [2]),
        ("queue:s1 type:http_request type:noop", [2, 0]),
        ("queue:s2 since:1h", [1]),
        ("queue:s2 until:1h", []),
        ('queue:s1 "127.0.0.1"', [0]),
        ('queue:s1 status:failed "no such text"', []),
        ("queue:s1 status:pending,processing,retrying", []),
    ],
)
def test_a_search_finds_what_matches_newest_first(
    server_with_daemon: Live, failed: list[str], q: str, which: list[int]
) -> None:
    page = found(server_with_daemon, q)

    assert ids(page) == [failed[n] for n in which]
    assert (page["count"], page["countIsEstimate"]) == (len(which), False)
    assert " ".join(term["text"] for term in page["terms"]) == q


@pytest.mark.parametrize("newest", [1, 2, 3, 100])
def test_what_ended_for_a_customer_is_found_among_the_newest_and_behind_them(
    server_alone: Live, monkeypatch: pytest.MonkeyPatch, newest: int
) -> None:
    monkeypatch.setattr(store_search, "NEWEST", newest)
    made = [
        server_alone.task("noop", {"customerId": customer}, queue=f"newest-{newest}", delay="1h")
        for customer in ("zoe", "max", "zoe", "zoe", "max")
    ]
    for id in made:
        server_alone.api.post(f"/api/task/{id}/cancel")

    q = f"payload.customerId:zoe status:cancelled queue:newest-{newest}"
    pages = [found(server_alone, q), found(server_alone, q, limit=2)]

    assert ids(pages[0]) == [made[3], made[2], made[0]]
    assert (pages[0]["count"], ids(pages[1])) == (3, [made[3], made[2]])


def test_the_beginning_of_an_id_finds_it(server_with_daemon: Live, failed: list[str]) -> None:
    assert ids(found(server_with_daemon, f"id:{failed[0][:30]}"))[-1:] == [failed[0]]
    assert ids(found(server_with_daemon, f"id:{failed[0]}")) == [failed[0]]


def test_pages_follow_each_other_and_say_what_is_newer(server_alone: Live) -> None:
    made = [server_alone.task(queue="paged") for _ in range(5)]

    first = found(server_alone, "queue:paged", limit=2)
    second = found(server_alone, "queue:paged", limit=2, cursor=first["nextCursor"], count="false", after=made[2])

    assert ids(first) + ids(second) == made[:0:-1]
    assert first["count"] == 5
    assert "count" not in second
    assert second["newer"] == 2


@pytest.mark.parametrize("status", ["pending", "processing", "retrying", "completed", "failed", "cancelled"])
def test_every_status_can_be_searched_with_every_other_term(server_shared: Live, status: str) -> None:
    run = "0192a6c0-0000-7000-8000-000000000001"
    q = f'status:{status} type:a,b queue:c since:1d until:1m payload.x:1 "text" id:01 run:{run}'

    assert found(server_shared, q)["tasks"] == []


def test_a_wrong_term_is_refused_with_a_guess(server_shared: Live) -> None:
    answer = server_shared.api.get("/api/search/tasks", params={"q": "statsu:failed"})

    assert answer.status_code == 400
    assert "did you mean 'status'?" in answer.json()["detail"]


def test_a_search_that_takes_too_long_says_so(server_shared: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    server_shared.task(queue="slow")
    monkeypatch.setattr(client_search, "FIND_SECONDS", 0.001)
    values = " ".join(f"payload.{'a.' * 50}x{n}:1" for n in range(19))

    answer = until(
        lambda: server_shared.api.get("/api/search/tasks", params={"q": values}), lambda seen: seen.status_code != 200
    )

    assert (answer.status_code, answer.json()["code"]) == (503, "search_timeout")
    assert "narrow it" in answer.json()["message"]


def test_the_fields_are_listed_with_their_values(server_shared: Live) -> None:
    server_shared.task(queue="listed")

    fields = {each["name"]: each for each in server_shared.get("/api/search/fields")["fields"]}

    assert "failed" in fields["status"]["values"]
    assert "noop" in fields["type"]["values"]
    assert "listed" in fields["queue"]["values"]


def act(server: Live, action: str, **more: object) -> Any:
    answer = server.api.post("/api/bulk", json={"action": action, **more})
    assert answer.status_code == 202, answer.text
    id = answer.json()["id"]
    return until(lambda: server.get(f"/api/bulk/{id}"), lambda bulk: bulk["state"] != "running")


def test_everything_that_matches_is_cancelled_in_the_background(
    server_alone: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_search, "BATCH", 3)
    made = [server_alone.task(queue="bulk") for _ in range(10)]
    other = server_alone.task(queue="other")
    counted = server_alone.api.post("/api/bulk", json={"action": "cancel", "q": "queue:bulk", "dryRun": True})

    done = act(server_alone, "cancel", q="queue:bulk", reason="deploy")

    assert (counted.status_code, counted.json()) == (200, {"matched": 10, "isEstimate": False})
    assert (done["state"], done["matched"], done["done"], done["skipped"]) == ("done", 10, 10, {})
    assert {server_alone.get(f"/api/task/{id}")["status"] for id in made} == {"cancelled"}
    assert server_alone.get(f"/api/task/{other}")["status"] == "pending"
    assert server_alone.get("/api/bulk")["bulks"][0] == done


def test_what_was_skipped_is_counted_by_reason(server_alone: Live) -> None:
    waiting, cancelled = server_alone.task(), server_alone.task()
    server_alone.post(f"/api/task/{cancelled}/cancel")
    missing = "0192a6c0-0000-7000-8000-000000000001"

    done = act(server_alone, "retry", ids=[waiting, cancelled, missing])

    assert (done["matched"], done["done"]) == (3, 1)
    assert done["skipped"] == {"pending": 1, "no longer there": 1}


def test_requeue_and_compensate_apply_to_what_ended(server_with_daemon: Live, failed: list[str]) -> None:
    requeued = act(server_with_daemon, "requeue", q="queue:s2")
    again = act(server_with_daemon, "requeue", q=f"id:{failed[1]}")

    assert (requeued["done"], again["skipped"]) == (1, {"requeued before": 1})


def test_a_bulk_act_that_is_stopped_leaves_the_rest(server_alone: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_search, "BATCH", 1)
    for _ in range(200):
        server_alone.task(queue="long")

    id = server_alone.api.post("/api/bulk", json={"action": "cancel", "q": "queue:long"}).json()["id"]
    asked = server_alone.api.post(f"/api/bulk/{id}/stop")
    bulk = until(lambda: server_alone.get(f"/api/bulk/{id}"), lambda seen: seen["state"] != "running")

    assert asked.status_code == 200
    assert bulk["state"] == "stopped"
    assert bulk["done"] + found(server_alone, "queue:long status:pending")["count"] == 200


@pytest.mark.parametrize(
    "body",
    [
        {}, {"action": "delete", "q": ""}, {"action": "retry"}, {"action": "retry", "q": "", "ids": []},
        {"action": "retry", "q": "x:y"},
    ],
)  # fmt: skip
def test_a_bulk_act_that_cannot_be_meant_is_refused(server_shared: Live, body: object) -> None:
    assert server_shared.api.post("/api/bulk", json=body).status_code == 400


@pytest.mark.parametrize(("number", "status"), [("999999", 404), ("x", 400), ("9" * 30, 400)])
def test_an_unknown_bulk_act_is_not_found(server_shared: Live, number: str, status: int) -> None:
    assert server_shared.api.get(f"/api/bulk/{number}").status_code == status


def test_a_brief_page_of_large_payloads_is_small(server_shared: Live) -> None:
    payload = {"text": "x" * 500_000, "rows": [1, 2, 3], "nested": {"a": 1}, "empty": {}, "number": 9007199254740993}
    server_shared.task(payload=payload, queue="large")

    answer = server_shared.api.get("/api/search/tasks", params={"q": "queue:large", "brief": True})
    (whole,) = found(server_shared, "queue:large")["tasks"]

    (task,) = answer.json()["tasks"]
    assert len(answer.text) < 2000
    assert task["payload"] == {
        "text": "x" * 160, "rows": "[3]", "nested": "{…}", "empty": "{}", "number": 9007199254740993,
    }  # fmt: skip
    assert whole["payload"] == payload
