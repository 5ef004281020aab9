"""Runs of workflows whose daemon is killed under them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from qw.client import Client
from qw.core.task.payload import JsonObject
from qw.core.workflow import parse_workflow
from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.queue import Queue

RUNS = 200
OPEN = "select count(*) from qw.run where finished_at is null"


def nap(id: str, *needs: str, **more: Any) -> Any:
    return {"id": id, "type": "nap", "with": {"seconds": 0.01}, "needs": list(needs), **more}


UNDO: Any = {"compensate": {"type": "nap", "with": {"seconds": 0.01}}}
SAGA: JsonObject = {
    "input": {"fail": "boolean"},
    "steps": [
        nap("a", **UNDO),
        nap("b", "a", **UNDO),
        nap("each", "a", foreach=[1, 2], **UNDO),
        {"id": "end", "type": "noop", "needs": ["b", "each"], "with": {"is": "${{ 1 / (0 if input.fail else 1) }}"}},
    ],
}


async def start(url: str) -> None:
    async with Client(url) as client:
        await client.workflows.save(parse_workflow("saga", SAGA))
        await asyncio.gather(*(client.runs.start("saga", {"fail": n % 2 == 0}) for n in range(RUNS)))


def test_two_hundred_runs_end_right_although_their_daemon_is_killed_twice(daemons: Daemons, queue: Queue) -> None:
    asyncio.run(start(queue.url))
    for left in (170, 80):
        daemon = daemons().ready()
        wait_until(lambda left=left: queue.value(OPEN) <= left)  # type: ignore[misc]
        daemon.kill()
    daemons().ready()

    wait_until(lambda: queue.value(OPEN) == 0, 60)

    ends = queue.connection.execute("select status, detail, count(*) from qw.run group by 1, 2 order by 1").fetchall()
    assert ends == [("completed", None, RUNS // 2), ("failed", "compensated", RUNS // 2)]
    tasks = Counter(queue.column("select step from qw.task"))
    assert tasks["a"] == tasks["b"] == tasks["each[0]"] == tasks["each[1]"] == RUNS
    assert tasks["end"] == RUNS // 2
    assert {tasks[f"compensate:{step}"] for step in ("a", "b", "each")} == {RUNS // 2}, "compensation once"
    order = queue.column(
        "select array_agg(step order by finished) from qw.run_step where step like 'compensate:%' group by run_id"
    )
    assert all(steps[-1] == "compensate:a" for steps in order)
    queue.expect_whole()


INNER: JsonObject = {"steps": [nap("x", **UNDO), nap("y", "x", **UNDO)]}
DEEP: JsonObject = {
    "input": {"fail": "boolean"},
    "steps": [
        {"id": "fan", "type": "workflow", "foreach": [1, 2], "with": {"workflow": "inner"}},
        {"id": "sleep", "type": "sleep", "with": {"for": "1s"}, "needs": ["fan"]},
        {"id": "go", "type": "wait_signal", "needs": ["sleep"]},
        {"id": "end", "type": "noop", "needs": ["go"], "with": {"is": "${{ 1 / (0 if input.fail else 1) }}"}},
    ],
}


async def start_deep(url: str, count: int) -> None:
    async with Client(url) as client:
        await client.workflows.save(parse_workflow("inner", INNER))
        await client.workflows.save(parse_workflow("deep", DEEP))
        for n in range(count):
            run = await client.runs.start("deep", {"fail": n % 2 == 0})
            await client.runs.signal(run, "go", {"n": n})


def test_sleeps_signals_and_runs_below_live_through_two_kills(daemons: Daemons, queue: Queue) -> None:
    asyncio.run(start_deep(queue.url, 20))
    steps = "select count(*) from qw.run_step where status = 'completed' and step = %s"
    for step, count in (("y", 15), ("sleep", 5)):
        daemon = daemons().ready()
        wait_until(lambda step=step, count=count: queue.value(steps, step) >= count)  # type: ignore[misc]
        daemon.kill()
    daemons().ready()

    wait_until(lambda: queue.value(OPEN) == 0, 60)

    ends = queue.connection.execute(
        "select workflow, status, detail, count(*) from qw.run group by 1, 2, 3 order by 1, 2"
    ).fetchall()
    assert ends == [
        ("deep", "completed", None, 10),
        ("deep", "failed", "compensated", 10),
        ("inner", "completed", None, 20),
        ("inner", "failed", "compensated", 20),
    ]
    tasks = Counter(queue.column("select step from qw.task"))
    assert tasks == {"x": 40, "y": 40, "compensate:x": 20, "compensate:y": 20, "end": 10}
    assert queue.value("select bool_and(finished_at >= due_at) from qw.run_step where step = 'sleep'")
    queue.expect_whole()
