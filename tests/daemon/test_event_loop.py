from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from qw.core.task import Task
from qw.daemon.event_loop import guarded, in_lifespan, run
from qw.handlers import Handlers
from tests.given import new_task
from tests.services.workshop import Workshop, workshop

Way = Callable[[], Awaitable[Any]]


async def _exit() -> None:
    await asyncio.sleep(0)
    sys.exit(1)


async def _interrupt() -> None:
    raise KeyboardInterrupt


async def awaited() -> None:
    await asyncio.create_task(_exit())


async def gathered() -> None:
    await asyncio.gather(_exit(), asyncio.sleep(60), return_exceptions=True)


async def left_alone() -> None:
    asyncio.create_task(_exit())  # noqa: RUF006
    await asyncio.sleep(60)


async def in_a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exit())
        group.create_task(asyncio.sleep(60))


async def by_a_keyboard() -> None:
    await asyncio.gather(_interrupt(), asyncio.sleep(60))


async def in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 1)
    await asyncio.sleep(60)


async def in_a_timer() -> None:
    asyncio.get_running_loop().call_later(0.01, sys.exit, 1)
    await asyncio.sleep(60)


async def in_a_callback_of_a_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: sys.exit(1))
    future.set_result(None)
    await asyncio.sleep(60)


async def in_a_worker_thread() -> None:
    await asyncio.to_thread(sys.exit, 1)


async def from_a_worker_thread() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, sys.exit, 1)
    await asyncio.sleep(60)


async def in_a_task_of_a_task() -> None:
    async def outer() -> None:
        await asyncio.create_task(_exit())

    await asyncio.shield(asyncio.create_task(outer()))


def by_hand(url: str, base: Any, scenario: Callable[[Workshop], Awaitable[None]], app: Handlers) -> None:
    async def main() -> None:
        async with workshop(url, app) as shop:
            await scenario(shop)

    with asyncio.Runner(loop_factory=guarded(base)) as runner:
        runner.run(main())


WAYS = [
    awaited, gathered, left_alone, in_a_task_group, by_a_keyboard, in_a_callback, in_a_timer,
    in_a_callback_of_a_future, in_a_worker_thread, from_a_worker_thread, in_a_task_of_a_task,
]  # fmt: skip


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
def test_an_exit_in_what_a_handler_started_is_a_failure_of_its_attempt_only(url: str, base: Any) -> None:
    app = Handlers()
    ends: list[Task] = []
    for way in WAYS:
        app.handler(way.__name__, max_retries=1)(way)

    @app.handler("innocent")
    async def innocent() -> str:
        await asyncio.sleep(0.2)
        return "done"

    async def scenario(shop: Workshop) -> None:
        ends.extend(await shop.run(new_task("innocent"), *(new_task(way.__name__) for way in WAYS)))

    by_hand(url, base, scenario, app)

    [first, *rest] = sorted(ends, key=lambda task: task.type != "innocent")
    assert (first.status, first.result) == ("completed", "done")
    assert {task.type: task.status for task in rest} == {way.__name__: "failed" for way in WAYS}
    for task in rest:
        said = "KeyboardInterrupt" if task.type == "by_a_keyboard" else "sys.exit(1)"
        assert said in (task.error or "")


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
def test_a_handler_cannot_end_the_loop_or_what_runs_in_it(url: str, base: Any) -> None:
    app = Handlers()
    ends = ["stop", "shutdown_asyncgens", "shutdown_default_executor"]

    @app.handler("end", max_retries=0)
    async def end(name: str) -> None:
        called = getattr(asyncio.get_running_loop(), name)()
        if called is not None:
            await called

    @app.handler("replace", max_retries=0)
    async def replace() -> None:
        with ThreadPoolExecutor() as executor:
            asyncio.get_running_loop().set_default_executor(executor)

    @app.handler("innocent")
    async def innocent() -> str:
        return await asyncio.to_thread(lambda: "done")

    async def generate() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    async def scenario(shop: Workshop) -> None:
        generator = generate()
        await anext(generator)

        tasks = await shop.run(*(new_task("end", payload={"name": name}) for name in ends), new_task("replace"))

        errors = [task.error or "" for task in tasks]
        assert all("a handler must not" in error for error in errors), errors
        assert await anext(generator) == 2
        assert (await shop.run_one(new_task("innocent"))).result == "done"

    by_hand(url, base, scenario, app)


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, uvloop.Loop], ids=["asyncio", "uvloop"])
def test_a_handler_cancels_its_own_tasks_and_those_of_the_lifespan_only(url: str, base: Any) -> None:
    app = Handlers()
    has_begun = asyncio.Event()
    tasks: dict[str, asyncio.Task[Any]] = {}

    @app.handler("innocent")
    async def innocent() -> str:
        has_begun.set()
        await asyncio.sleep(0.2)
        return "done"

    @app.handler("hostile", max_retries=1)
    async def hostile() -> None:
        await has_begun.wait()
        tasks["own"] = asyncio.create_task(asyncio.sleep(60))
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(60)

    async def scenario(shop: Workshop) -> None:
        tasks["daemon"] = asyncio.create_task(asyncio.sleep(0.1, "done"))
        token = in_lifespan.set(True)
        tasks["lifespan"] = asyncio.create_task(asyncio.sleep(60))
        in_lifespan.reset(token)

        first, second = await shop.run(new_task("innocent"), new_task("hostile"))

        assert (first.status, first.result) == ("completed", "done")
        assert (second.status, second.error) == ("failed", "the handler cancelled itself")
        assert await tasks["daemon"] == "done"
        assert tasks["own"].cancelled()
        assert tasks["lifespan"].cancelled()

    by_hand(url, base, scenario, app)


def test_an_exit_in_a_thread_handler_ends_its_attempt_when_the_thread_returns(url: str) -> None:
    app = Handlers()
    go = threading.Event()

    async def scenario(shop: Workshop) -> None:
        loop = asyncio.get_running_loop()

        @app.handler("t", max_retries=1)
        def handle() -> None:
            loop.call_soon_threadsafe(sys.exit, 1)
            go.wait(10)

        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        [claim] = shop.in_flight
        await shop.until(lambda: claim.stop)
        assert shop.worker.running == 1
        go.set()
        await shop.settle()
        assert (await shop.task(id)).status == "failed"

    by_hand(url, uvloop.Loop, scenario, app)


def test_the_loop_goes_on_whatever_is_raised_in_callbacks_and_whoever_stops_it() -> None:
    seen = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for callback in (lambda: sys.exit(1), loop.stop, lambda: sys.exit(2)):
            loop.call_soon(callback)
            await asyncio.sleep(0.01)
        seen.append("end")

    run(main())

    assert seen == ["end"]


def test_what_the_main_coroutine_raises_comes_out() -> None:
    for error in (RuntimeError("x"), SystemExit(3), ValueError("x")):

        async def main(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            run(main())


def test_a_keyboard_interrupt_cancels_the_main_coroutine() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run(main())
