"""Middleware, lifespan and the records of `logging`, around handlers of every kind."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qw import CallNext, Client, Context, Handlers, NewTask, Reject, Snooze, Task, new_id, testing
from qw.core.errors import Invalid, Misconfigured
from qw.daemon.app import opened
from qw.services.execution.records import with_task

session: contextvars.ContextVar[str] = contextvars.ContextVar("session", default="none")

pytestmark = pytest.mark.usefixtures("unchecked")


async def ran(url: str, app: Handlers, type: str = "t", **fields: Any) -> Task:
    """What became of one task after one attempt."""
    async with Client(url, size=1) as client, testing.worker(url, app) as worker:
        task = await client.enqueue(type, **fields)
        await worker.run_until_empty()
        return await client.tasks.get(task.id)


async def logged(url: str, task: Task) -> list[tuple[str, str]]:
    async with Client(url, size=1) as client:
        return [(line.level, line.message) for line in await client.tasks.logs(task.id)]


def in_order() -> tuple[Handlers, list[str]]:
    app, seen = Handlers(), list[str]()

    @app.middleware
    async def outer(context: Context, call_next: CallNext) -> Any:
        seen.append(f"outer {context.type}")
        result = await call_next()
        seen.append(f"outer got {result}")
        return result

    @app.middleware
    async def inner(context: Context, call_next: CallNext) -> Any:
        token = session.set(f"session of attempt {context.attempt}")
        try:
            return await call_next(context)
        finally:
            session.reset(token)
            seen.append("inner done")

    return app, seen


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_middleware_runs_around_every_attempt_in_the_order_of_registration(kind: str, url: str) -> None:
    app, seen = in_order()
    if kind == "async":

        @app.handler("t")
        async def handle() -> str:
            return session.get()
    else:

        @app.handler("t")
        def handle_in_thread() -> str:
            return session.get()

    task = await ran(url, app)

    assert task.result == "session of attempt 1"
    assert seen == ["outer t", "inner done", "outer got session of attempt 1"]


async def test_middleware_may_be_registered_after_the_handlers(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle() -> int:
        return 1

    @app.middleware
    async def doubled(context: Context, call_next: CallNext) -> Any:
        return 2 * await call_next()

    assert (await ran(url, app)).result == 2


async def test_an_error_of_a_middleware_is_an_error_of_the_attempt(url: str) -> None:
    app, _ = in_order()
    reached = []

    @app.middleware
    async def refuse(context: Context, call_next: CallNext) -> Any:
        raise Reject("not today")

    @app.handler("t")
    async def handle() -> None:
        reached.append(1)

    task = await ran(url, app)

    assert (task.status, task.error, reached) == ("failed", "not today", [])


async def test_what_a_handler_raises_passes_through_middleware(url: str) -> None:
    app, seen = in_order()

    @app.handler("t")
    async def handle() -> None:
        raise Snooze(3600, "later")

    task = await ran(url, app)

    assert (task.status, task.reason) == ("pending", "later")
    assert seen == ["outer t", "inner done"]


async def test_a_middleware_that_forgets_the_handler_completes_nothing(url: str) -> None:
    app = Handlers()

    @app.middleware
    async def forgetful(context: Context, call_next: CallNext) -> Any:
        return "done"

    @app.handler("t", max_retries=1)
    async def handle() -> None:
        pass

    task = await ran(url, app)

    assert task.status == "failed"
    assert task.error is not None
    assert "forgetful returned without `await call_next()`" in task.error


async def test_middleware_of_an_included_app_is_inside_and_does_not_touch_others(url: str) -> None:
    app, seen = in_order()
    part = Handlers()

    @part.middleware
    async def of_part(context: Context, call_next: CallNext) -> Any:
        seen.append("part")
        return await call_next()

    @part.handler("in_part")
    async def in_part() -> None: ...

    @app.handler("t")
    async def handle() -> None: ...

    app.include(part)

    await ran(url, app, "in_part")
    await ran(url, app, "t")

    assert seen[:2] == ["outer in_part", "part"]
    assert seen.count("part") == 1


def test_what_cannot_be_middleware_or_lifespan_is_refused() -> None:
    app = Handlers()

    with pytest.raises(Invalid, match=r"middleware .*plain: write it as an async def"):

        @app.middleware
        def plain(context: Context, call_next: CallNext) -> Any:
            return call_next()

    with pytest.raises(Invalid, match=r"lifespan .*returns: write it as an async def that yields"):

        @app.lifespan
        async def returns() -> None: ...

    @app.lifespan
    async def first() -> AsyncIterator[None]:
        yield

    with pytest.raises(Invalid, match=r"two lifespans"):
        app.lifespan(first)


async def test_the_lifespan_is_open_from_the_first_task_to_the_last_and_gives_the_state(url: str) -> None:
    app, seen = Handlers(), list[str]()

    @app.lifespan
    async def resources(owner: Handlers) -> AsyncIterator[dict[str, Handlers]]:
        seen.append("opened")
        yield {"owner": owner}
        seen.append("closed")

    @app.handler("t")
    async def handle(context: Context) -> bool:
        seen.append("ran")
        return context.state["owner"] is app

    @app.handler("in_thread")
    def in_thread(context: Context) -> bool:
        return context.state["owner"] is app

    async with Client(url) as client, testing.worker(url, app) as worker:
        await client.enqueue("t")
        await client.enqueue("in_thread")
        ended = await worker.run_until_empty()

    assert [task.result for task in ended] == [True, True]
    assert seen == ["opened", "ran", "closed"]


async def test_each_app_sees_the_state_of_its_own_lifespan(url: str) -> None:
    app, part, plain = Handlers(), Handlers(), Handlers()

    def lifespan(state: str) -> Any:
        async def opened() -> AsyncIterator[str]:
            yield state

        return opened

    async def state(context: Context) -> Any:
        return context.state

    for name, each in [("app", app), ("part", part), ("plain", plain)]:
        each.handler(name)(state)
    app.lifespan(lifespan("of app"))
    part.lifespan(lifespan("of part"))
    app.include(part)
    app.include(plain)

    async with Client(url) as client, testing.worker(url, app) as worker:
        await client.enqueue_many(NewTask(type=name, id=new_id()) for name in ("app", "part", "plain"))
        ended = await worker.run_until_empty()

    assert {task.type: task.result for task in ended} == {"app": "of app", "part": "of part", "plain": "of app"}


async def test_a_lifespan_that_fails_names_its_line_and_starts_nothing() -> None:
    app = Handlers()

    @app.lifespan
    async def broken() -> AsyncIterator[None]:
        raise ValueError("no such host")
        yield

    with pytest.raises(
        Misconfigured, match=rf"the lifespan failed: .*{Path(__file__).name}:\d+: ValueError: no such host"
    ):
        async with opened(app):
            pass


def test_records_inside_a_handler_carry_its_task_and_trace(url: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Handlers()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    caplog.handler.addFilter(with_task)

    @app.handler("t")
    async def handle() -> None:
        logging.getLogger("a.library").warning("hello")

        async def sub() -> None:
            logging.getLogger("a.library").warning("from a sub-task")

        await asyncio.gather(sub(), asyncio.to_thread(logging.getLogger("b").warning, "from a thread"))

    try:
        task = asyncio.run(ran(url, app, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}))
    finally:
        caplog.handler.removeFilter(with_task)

    made = [record for record in caplog.records if record.name in ("a.library", "b")]
    assert {record.getMessage() for record in made} == {"hello", "from a sub-task", "from a thread"}
    assert {(vars(one)["task"], vars(one)["type"], vars(one)["attempt"], vars(one)["trace_id"]) for one in made} == {
        (str(task.id), "t", 1, trace)
    }


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_records_go_to_the_log_of_the_task_too(kind: str, url: str) -> None:
    app = Handlers()
    log = logging.getLogger("shop")

    def work() -> None:
        log.warning("low\x00 stock")
        log.debug("not asked for")
        try:
            raise KeyError("x")
        except KeyError:
            log.exception("failed")

    if kind == "thread":
        app.handler("t")(work)
    else:

        @app.handler("t")
        async def handle() -> None:
            work()

    lines = await logged(url, await ran(url, app))

    assert lines[:2] == [("WARNING", "low� stock"), ("ERROR", "failed")]
    assert lines[-1] == ("ERROR", "KeyError: 'x'")


@pytest.mark.parametrize(
    ("of_app", "of_task", "kept"), [(None, ..., 0), ("WARNING", ..., 1), ("error", 10, 1), (10, None, 0)]
)
async def test_what_is_kept_of_the_records_can_be_chosen(of_app: Any, of_task: Any, kept: int, url: str) -> None:
    app = Handlers(capture_logging=of_app)
    options = {} if of_task is ... else {"capture_logging": of_task}

    @app.handler("t", **options)
    async def handle() -> None:
        logging.getLogger("shop").warning("hello")

    assert len(await logged(url, await ran(url, app))) == kept


def test_a_level_that_does_not_exist_is_refused_with_a_guess() -> None:
    with pytest.raises(Invalid, match="capture_logging: 'WARN1NG' is not a level of logging"):
        Handlers(capture_logging="WARN1NG")
