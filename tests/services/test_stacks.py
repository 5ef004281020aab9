"""What a running task does right now: a coroutine, a thread, a command; and what stays after its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qw.client import Client
from qw.core.errors import Conflict, NotFound
from qw.handlers import Handlers
from qw.services.execution.in_flight import ClaimInFlight
from qw.services.execution.stacks import Stacks, inspect_handler, processes_of
from qw.store.ids import new_id
from tests.given import new_task
from tests.services.workshop import Workshop, workshop

app = Handlers()
released = threading.Event()


async def inner_wait() -> None:
    await asyncio.sleep(60)


@app.handler("deep")
async def deep() -> None:
    await inner_wait()


@app.handler("blocking")
def blocking() -> None:
    released.wait(30)


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Workshop]:
    released.clear()
    async with workshop(url, app) as opened:
        yield opened
        released.set()


async def started(shop: Workshop, type: str) -> ClaimInFlight:
    [id] = await shop.enqueue(new_task(type=type))
    await shop.claim()
    for _ in range(500):
        await asyncio.sleep(0.01)
        if (holding := shop.in_flight.running_task(id)) and holding.started is not None:
            return holding
    raise AssertionError("it did not start")


def functions(seen: Any) -> list[str]:
    return [frame["function"] for frame in seen["frames"]]


async def test_a_coroutine_shows_what_it_awaits_down_to_the_innermost(shop: Workshop) -> None:
    holding = await started(shop, "deep")
    await asyncio.sleep(0.05)

    seen: Any = await inspect_handler(holding)

    assert seen["kind"] == "coroutine"
    assert functions(seen)[:2] == ["deep", "inner_wait"]
    assert seen["frames"][0]["code"] == "await inner_wait()"
    assert seen["frames"][0]["file"] == __file__


async def test_a_thread_shows_where_it_is(shop: Workshop) -> None:
    holding = await started(shop, "blocking")
    await asyncio.sleep(0.05)

    seen: Any = await inspect_handler(holding)

    assert seen["kind"] == "thread"
    assert "blocking" in functions(seen)
    assert functions(seen)[0] != "run"


async def test_processes_are_found_by_the_task_that_started_them() -> None:
    id = str(new_id())
    command = "QW_TASK_ID=" + id
    process = await asyncio.create_subprocess_exec("env", command, "sh", "-c", "sleep 30 & sleep 31")
    try:
        for _ in range(200):
            found: Any = await processes_of(id)
            if len(found) == 3:
                break
        assert [each["command"].split()[0] for each in found] == ["sh", "sleep", "sleep"]
        assert all(each["memoryBytes"] > 0 for each in found)
        assert {each["parent"] for each in found[1:]} == {process.pid}
        assert await processes_of(str(new_id())) == []
    finally:
        for each in found:
            if each["pid"] != process.pid:
                import os
                import signal

                os.kill(each["pid"], signal.SIGKILL)
        process.kill()
        await process.wait()


async def test_whoever_asks_gets_an_answer_which_stays_after_the_end(shop: Workshop) -> None:
    holding = await started(shop, "blocking")
    stacks = Stacks(shop.links["log"], shop.in_flight, lambda: shop.number)
    async with Client(shop.url, size=2) as client:
        asking = asyncio.create_task(client.tasks.stack(holding.claim.id))
        for _ in range(300):
            await stacks.step()
            if asking.done():
                break
            await asyncio.sleep(0.01)
        live = await asking
        released.set()
        await shop.settle()
        later = await client.tasks.stack(holding.claim.id)

        assert live.is_live
        assert live.age < 1.0
        assert not later.is_live
        assert later.seen == live.seen


async def test_what_does_not_run_has_no_stack(shop: Workshop) -> None:
    [id] = await shop.enqueue(new_task(type="deep"))
    async with Client(shop.url, size=1) as client:
        with pytest.raises(Conflict, match="is pending; only running tasks have a stack"):
            await client.tasks.stack(id)
        with pytest.raises(NotFound):
            await client.tasks.stack(new_id())
