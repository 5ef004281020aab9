"""The overview in one call, and the columns of its charts."""

from __future__ import annotations

from tests.web.live import Live, until


def test_the_overview_says_what_is_wrong_with_what(server_shared: Live) -> None:
    server_shared.task(queue="lonely")
    server_shared.api.post("/api/queues/lonely/pause")

    found = until(lambda: server_shared.get("/api/overview"), lambda seen: any(q["pausedAt"] for q in seen["queues"]))

    problems = {each["code"]: each for each in found["health"]["problems"]}
    assert not found["health"]["ok"]
    assert problems["no_worker"]["severity"] == "error"
    assert problems["queue_paused"]["link"] == "ui/queues/lonely"
    assert found["workers"] == []


def test_what_ran_is_in_rates_sparklines_waits_and_charts(server_with_daemon: Live) -> None:
    server = server_with_daemon
    done = [server.task(queue="busy") for _ in range(3)]
    failed = server.task("http_request", {"url": "http://127.0.0.1:9/x"}, queue="busy", maxRetries=1)
    for id in (*done, failed):
        server.final(id)

    found = until(
        lambda: {each["name"]: each for each in server.get("/api/overview")["queues"]}.get("busy", {}),
        lambda queue: sum(queue.get("sparkline", [])) == 4,
    )
    overview = server.get("/api/overview")
    chart = server.get("/api/history", params={"range": "1h", "queue": "busy"})

    assert found["outPerMinute"] == 0.8
    assert found["failedPerMinute"] == 0.2
    assert overview["wait"]["p50"] is not None
    assert [each["lastTaskId"] for each in overview["failures"] if each["type"] == "http_request"] == [failed]
    assert sum(chart["outcomes"]["completed"]) == 3
    assert sum(chart["outcomes"]["failed"]) == 1
    assert {len(chart[name]) for name in ("times", "enqueued", "depth", "running", "oldestSeconds")} == {60}
    assert {len(column) for column in chart["wait"].values()} == {60}


def test_the_charts_count_what_the_metrics_count(server_with_daemon: Live) -> None:
    server = server_with_daemon
    server.final(server.task(queue="counted"))

    def both() -> tuple[float, int]:
        lines = server.api.get("/metrics").text.splitlines()
        metric = [line for line in lines if line.startswith('qw_task_attempts_total{queue="counted"')]
        chart = server.get("/api/history", params={"range": "24h", "queue": "counted"})
        return sum(float(line.split()[-1]) for line in metric), sum(map(sum, chart["outcomes"].values()))

    assert until(both, lambda seen: seen[0] and seen[1]) == (1, 1)


def test_an_unknown_range_is_refused_with_those_that_there_are(server_shared: Live) -> None:
    answer = server_shared.api.get("/api/history", params={"range": "2h"})

    assert answer.status_code == 400
    assert answer.json()["message"] == ["range must be one of the following values: '1h', '24h', '7d' or '30d'"]
