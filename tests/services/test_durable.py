"""Durable functions: handlers that sleep, wait for signals and call other tasks, over many attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from qw.core.errors import Conflict, Invalid, NotFound, TaskCancelled, TaskFailed, TimedOut
from qw.core.task import Task
from qw.core.task.handler_api import Context
from qw.core.why import reasons
from qw.handlers import Handlers
from qw.services.upkeep.promoter import LONG_AGO
from qw.store import checkpoints, claims, tasks, why
from qw.store.connection import connect, translated
from qw.store.ids import new_id
from tests.given import column, expect_whole, homes, new_task, value
from tests.services.workshop import Workshop, workshop

Body = Callable[[Context], Awaitable[Any]]
DAY = timedelta(days=1)


class Account(BaseModel):
    id: int
    owner: str


class Rig:
    """A workshop whose tasks are moved on until nothing can go on without a time, a signal or a hand."""

    def __init__(self, shop: Workshop) -> None:
        self.shop, self.conn = shop, shop.conn

    async def go_on(self) -> None:
        """Claim, run, resume, until nothing is ready."""
        for _ in range(100):
            await claims.promote(self.conn, cursor=LONG_AGO, limit=100)
            while (await checkpoints.resume(self.conn, limit=100))[0]:
                pass
            if not await value(self.conn, "select exists (select 1 from qw.ready)"):
                return
            await self.shop.claim()
            await self.shop.settle()
        raise AssertionError("it never comes to rest")

    async def start(self, *new: Any) -> list[UUID]:
        ids = await self.shop.enqueue(*new)
        await self.go_on()
        return ids

    async def pass_time(self, time: timedelta) -> None:
        """Make everything that waits *time* older."""
        await self.conn.execute(
            "update qw.checkpoint set due_at = due_at - %s, at = at - %s where outcome is null", [time, time]
        )
        await self.conn.execute("update qw.scheduled set run_at = run_at - %s where isfinite(run_at)", [time])
        await self.go_on()

    async def signal(self, id: UUID, name: str, payload: Any = None) -> None:
        await checkpoints.signal(self.conn, id, name, payload, by="test")
        await self.go_on()

    async def task(self, id: UUID) -> Task:
        return await self.shop.task(id)

    async def why(self, id: UUID) -> list[str]:
        facts = await why.facts(self.conn, id)
        assert facts is not None
        return [reason.code for reason in reasons(facts)]


@asynccontextmanager
async def rig(url: str, app: Handlers) -> AsyncIterator[Rig]:
    async with workshop(url, app) as shop:
        yield Rig(shop)
        await expect_whole(shop.conn)


def handling(body: Body, **policy: Any) -> Handlers:
    """An app whose type ``t`` does *body*; beside it ``double``, and ``bad``, which fails."""
    app = Handlers()

    @app.handler("t", **policy)
    async def handle(context: Context) -> Any:
        return await body(context)

    @app.handler("double")
    async def double(n: int) -> int:
        return 2 * n

    @app.handler("bad", max_retries=1)
    async def bad() -> None:
        raise RuntimeError("no")

    return app


async def test_steps_are_done_once_across_sleeps_signals_and_calls(url: str) -> None:
    app, done = Handlers(), []

    @app.task()
    async def bill(account: int) -> str:
        return f"invoice {account}"

    async def create(owner: str) -> Account:
        done.append(owner)
        return Account(id=7, owner=owner)

    @app.task(max_retries=1)
    async def onboard(context: Context, owner: str) -> list[Any]:
        account = await context.step("create", create, owner)
        await context.sleep("trial", timedelta(days=14))
        answer = await context.wait_signal("answer", timeout=3 * DAY)
        invoice = await context.call(bill, account.id)
        return [account.owner, answer, invoice]

    async with rig(url, app) as it:
        [id] = await it.start(onboard.new("ada"))
        assert (await it.task(id)).reason == "sleep trial"
        assert await it.why(id) == ["sleeps"]

        await it.pass_time(14 * DAY)
        assert await it.why(id) == ["waits_for_signal"]

        await it.signal(id, "answer", {"yes": True})

        task = await it.task(id)
        assert (task.status, task.result) == ("completed", ["ada", {"yes": True}, "invoice 7"])
        assert (done, task.retries) == (["ada"], 0)


async def test_a_suspended_task_holds_no_slot_and_no_claim(url: str) -> None:
    async def body(context: Context) -> None:
        await context.wait_signal("go")

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))

        task = await it.task(id)
        assert (task.status, task.run_at, await homes(it.conn, id)) == ("pending", None, ["scheduled"])
        assert not it.shop.slots.taken
        assert await tasks.find(it.conn, tasks.Filter(suspended=True)) == [id]


async def test_suspended_tasks_leave_their_slot_of_a_limit(url: str) -> None:
    async def body(context: Context) -> None:
        await context.wait_signal("go")

    async with rig(url, handling(body)) as it:
        await it.conn.execute("select qw.set_limits('default', 1, null, null, null, null, null, null)")
        first, second = await it.shop.enqueue(new_task("t"), new_task("t"))
        for _ in range(2):
            await it.conn.execute("select qw.admit('default', 10, '')")
            await it.shop.claim()
            await it.shop.settle()

        assert {first, second} == set(await tasks.find(it.conn, tasks.Filter(suspended=True)))


async def test_a_signal_that_comes_before_the_wait_is_kept_for_it(url: str) -> None:
    async def body(context: Context) -> list[Any]:
        return [await context.wait_signal("go"), await context.wait_signal("go")]

    async with rig(url, handling(body)) as it:
        [id] = await it.shop.enqueue(new_task("t"))
        for n in range(2):
            await checkpoints.signal(it.conn, id, "go", n, by=None)
        await it.go_on()

        task = await it.task(id)
        assert (task.result, task.attempt) == ([0, 1], 1)
        assert await column(it.conn, "select id from qw.task_signal") == []


async def test_a_signal_between_the_wait_and_the_suspension_resumes_it(url: str) -> None:
    async def body(context: Context) -> Any:
        try:
            return await context.wait_signal("go")
        finally:
            if context.attempt == 1:
                async with await connect(url) as other:
                    await checkpoints.signal(other, context.task_id, "go", 5, by=None)
                    await checkpoints.resume(other, limit=10)

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))

        assert (await it.task(id)).result == 5


async def test_a_wait_that_begins_with_the_suspension_sees_the_signals_before_it(url: str) -> None:
    async def body(context: Context) -> Any:
        await context.sleep("nap", DAY)
        try:
            return await context.wait_signal("go", timeout=DAY)
        finally:
            if context.attempt == 2:
                stored = await checkpoints.of_task(it.conn, context.task_id)
                assert [one.name for one in stored] == ["nap"]
                await checkpoints.signal(it.conn, context.task_id, "go", 5, by=None)
                await checkpoints.resume(it.conn, limit=10)

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)

        assert (await it.task(id)).result == 5
        assert [one.outcome for one in await checkpoints.of_task(it.conn, id)] == ["completed", "completed"]


async def test_a_wait_that_begins_with_the_suspension_has_its_timeout(url: str) -> None:
    async def body(context: Context) -> str:
        await context.sleep("nap", DAY)
        try:
            await context.wait_signal("go", timeout=DAY)
        except TimedOut as error:
            return str(error)
        return "signalled"

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)
        assert await it.why(id) == ["waits_for_signal"]
        await it.pass_time(DAY)

        assert (await it.task(id)).result == "signal go did not come within 1d"


async def test_a_child_that_ends_before_the_wait_is_stored_resumes_its_caller(url: str) -> None:
    async def body(context: Context) -> Any:
        try:
            return await context.call(new_task("double", payload={"n": 2}))
        finally:
            if context.attempt == 1:
                it.shop.worker.woken(await claims.lanes(it.conn))
                await it.shop.worker.step()
                while not await value(it.conn, "select exists (select 1 from qw.finished)"):
                    await it.shop.outcomes.step()
                    await asyncio.sleep(0)
                await checkpoints.resume(it.conn, limit=10)

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))

        assert (await it.task(id)).result == 4


async def test_a_wait_that_times_out_raises_and_stays_so(url: str) -> None:
    async def body(context: Context) -> str:
        try:
            await context.wait_signal("go", timeout=DAY)
        except TimedOut as error:
            await context.sleep("later", DAY)
            return str(error)
        return "came"

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)
        await it.signal(id, "go")
        await it.pass_time(DAY)

        assert (await it.task(id)).result == "signal go did not come within 1d"


async def test_a_wait_that_timed_out_and_failed_its_task_begins_anew_with_a_retry(url: str) -> None:
    async def body(context: Context) -> Any:
        return await context.wait_signal("go", timeout=DAY)

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)
        failed = await it.task(id)
        await tasks.retry(it.conn, [id])
        await it.go_on()
        await it.signal(id, "go", 1)

        assert (failed.status, failed.error) == ("failed", "signal go did not come within 1d")
        assert (await it.task(id)).result == 1


async def test_what_failed_or_was_cancelled_below_is_raised_in_the_caller(url: str) -> None:
    async def body(context: Context) -> list[str]:
        errors = []
        for type in ("bad", "double"):
            try:
                await context.call(new_task(type, payload={"n": 1}, delay=DAY if type == "double" else None))
            except (TaskFailed, TaskCancelled) as error:
                errors.append(type_name(error))
        return errors

    def type_name(error: Exception) -> str:
        return f"{type(error).__name__} {str(error).split(') ')[1]}"

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        [child] = await column(it.conn, "select child_id from qw.checkpoint where outcome is null")
        await tasks.cancel(it.conn, [child], running=False, reason="not now")
        await it.go_on()

        assert (await it.task(id)).result == [
            "TaskFailed failed after 1 attempt: no",
            "TaskCancelled was cancelled: not now",
        ]


async def test_a_failure_below_that_nobody_catches_is_retried_with_its_caller(url: str) -> None:
    app, is_mended = Handlers(), False

    @app.task(max_retries=1)
    async def fragile() -> str:
        if not is_mended:
            raise RuntimeError("no")
        return "fine"

    @app.task(max_retries=5)
    async def caller(context: Context) -> str:
        return await context.call(fragile)

    async with rig(url, app) as it:
        [id] = await it.start(caller.new())
        failed = await it.task(id)
        is_mended = True
        await tasks.retry(it.conn, [id])
        await it.go_on()

        assert (failed.status, failed.retries) == ("failed", 1)
        assert (await it.task(id)).result == "fine"


async def test_a_gather_of_calls_resumes_once_when_all_have_ended(url: str) -> None:
    app, attempts = Handlers(), []

    @app.task()
    async def resize(n: int) -> int:
        return n * 10

    @app.task()
    async def story(context: Context) -> list[int]:
        attempts.append(context.attempt)
        return list(await context.gather(*(context.call(resize, n) for n in range(5))))

    async with rig(url, app) as it:
        [id] = await it.start(story.new())

        assert (await it.task(id)).result == [0, 10, 20, 30, 40]
        assert attempts == [1, 2]


async def test_branches_of_a_gather_have_steps_of_their_own_whoever_is_first(url: str) -> None:
    app = Handlers()

    @app.task()
    async def part(n: int) -> int:
        return n

    async def branch(context: Context, n: int) -> list[int]:
        first = await context.call(part.options(delay=(2 - n) * DAY), n)
        await context.sleep("pause", (1 + n) * DAY)
        return [first, await context.call(part, 10 + n)]

    @app.task()
    async def story(context: Context) -> list[list[int]]:
        return list(await context.gather(*(branch(context, n) for n in range(3))))

    async with rig(url, app) as it:
        [id] = await it.start(story.new())
        for _ in range(5):
            await it.pass_time(DAY)

        assert (await it.task(id)).result == [[0, 10], [1, 11], [2, 12]]
        assert len(await checkpoints.of_task(it.conn, id)) == 9


async def test_a_cancelled_task_takes_what_it_called_with_it(url: str) -> None:
    async def body(context: Context) -> Any:
        return await context.call(new_task("nested"))

    app = handling(body)

    @app.handler("nested")
    async def nested(context: Context) -> None:
        await context.call(new_task("double", payload={"n": 1}, delay=DAY))

    async with rig(url, app) as it:
        [id] = await it.start(new_task("t"))
        await tasks.cancel(it.conn, [id], running=False, reason="enough")
        await it.go_on()

        assert await column(it.conn, "select distinct status from qw.tasks") == ["cancelled"]
        assert await value(it.conn, "select count(*) from qw.tasks") == 3


async def test_what_is_called_after_the_request_to_stop_is_cancelled_too(url: str) -> None:
    async def body(context: Context) -> Any:
        await tasks.cancel(it.conn, [context.task_id], running=True, reason="enough")
        it.shop.worker.interrupt({context.task_id: "enough"})
        return await context.call(new_task("double", payload={"n": 1}, delay=DAY))

    async with rig(url, handling(body)) as it:
        await it.start(new_task("t"))

        assert await column(it.conn, "select distinct status from qw.tasks") == ["cancelled"]


async def test_a_signal_to_a_task_that_is_over_or_unknown_is_refused(url: str) -> None:
    async def body(context: Context) -> None: ...

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))

        for unknown, error in ((id, Conflict), (new_id(), NotFound)):
            with pytest.raises(error), translated():
                await checkpoints.signal(it.conn, unknown, "go", None, by=None)


async def test_steps_in_another_order_are_refused_with_their_place(url: str) -> None:
    order = ["a", "b"]

    async def body(context: Context) -> None:
        for name in order:
            await context.step(name, step)
        await context.wait_signal("go")

    async def step() -> None: ...

    async with rig(url, handling(body, max_retries=1)) as it:
        [id] = await it.start(new_task("t"))
        order.reverse()
        await it.signal(id, "go")

        error = (await it.task(id)).error or ""
        assert "step a at test_durable.py:" in error
        assert "comes after step b now, and came before it in an earlier attempt" in error


async def test_steps_may_be_added_and_removed_between_attempts(url: str) -> None:
    order = ["a", "b", "c"]
    done: list[str] = []

    async def body(context: Context) -> list[str]:
        for name in order:
            await context.step(name, step, name)
        await context.wait_signal("go")
        return done

    async def step(name: str) -> None:
        done.append(name)

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        for new in (["a", "x", "c"], ["y", "a", "x", "b", "z", "c"], ["a", "b", "c"]):
            order[:] = new
            await it.conn.execute("update qw.scheduled set run_at = now()")
            await it.go_on()
        await it.signal(id, "go")

        assert (await it.task(id)).result == ["a", "b", "c", "x", "y", "z"]


async def test_a_name_that_was_another_kind_is_refused(url: str) -> None:
    async def body(context: Context) -> None:
        if context.attempt == 1:
            await context.sleep("x", DAY)
        await context.wait_signal("x")

    async with rig(url, handling(body, max_retries=1)) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)

        assert "signal x at test_durable.py" in ((await it.task(id)).error or "")
        assert "was a sleep in an earlier attempt" in ((await it.task(id)).error or "")


async def test_a_handler_that_swallows_its_suspension_fails_with_the_reason(url: str) -> None:
    async def body(context: Context) -> str:
        try:
            await context.sleep("nap", DAY)
        except BaseException:
            return "went on"
        return "slept"

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))

        assert (await it.task(id)).status == "failed"
        assert "at sleep nap; let it pass" in ((await it.task(id)).error or "")


async def test_a_handler_goes_on_where_it_was_after_a_failure(url: str) -> None:
    done: list[str] = []

    async def body(context: Context) -> list[str]:
        await context.step("once", note, "once")
        await context.sleep("nap", 0)
        if context.attempt < 3:
            raise RuntimeError("shaky")
        return done

    async def note(word: str) -> None:
        done.append(word)

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))
        for _ in range(2):
            await it.pass_time(DAY)

        task = await it.task(id)
        assert (task.result, task.retries) == (["once"], 2)


async def test_failures_and_crashes_before_a_suspension_count_no_more(url: str) -> None:
    async def body(context: Context) -> None:
        if context.attempt == 1:
            raise RuntimeError("shaky")
        await context.wait_signal("go")

    async with rig(url, handling(body, max_retries=2)) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)

        task = await it.task(id)
        assert (task.status, task.retries, task.reason) == ("pending", 0, "signal go")


async def test_a_plain_function_sleeps_waits_and_calls_too(url: str) -> None:
    app = Handlers()

    @app.task()
    async def double(n: int) -> int:
        return 2 * n

    @app.handler("t")
    def handle(context: Any) -> list[Any]:
        first = context.step("first", lambda: 1)
        context.sleep("nap", DAY)
        answer = context.wait_signal("go")
        called = context.call(double, 4)
        return [first, answer, called, *context.gather(double.new(5), double.new(6))]

    async with rig(url, app) as it:
        [id] = await it.start(new_task("t"))
        await it.pass_time(DAY)
        await it.signal(id, "go", "now")

        task = await it.task(id)
        assert (task.error, task.result) == (None, [1, "now", 8, 10, 12])


async def test_a_result_that_is_too_large_is_refused_by_name(url: str) -> None:
    async def body(context: Context) -> None:
        await context.step("big", big)

    async def big() -> str:
        return "x" * 300_000

    async with rig(url, handling(body, max_retries=1)) as it:
        [id] = await it.start(new_task("t"))

        error = (await it.task(id)).error or ""
        assert error.startswith("step big returned ")
        assert "at most 262,144 are stored" in error


async def test_wrong_names_times_and_keys_are_refused(url: str) -> None:
    async def body(context: Context) -> list[str]:
        said = []
        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda: context.sleep("", 1),
            lambda: context.sleep("x", -1),
            lambda: context.step("x" * 201, nothing),
            lambda: call(context),
        ]
        for attempt in attempts:
            try:
                await attempt()
            except Invalid as error:
                said.append(str(error)[:40])
        return said

    async def call(context: Context) -> None:
        await context.call(new_task("double", unique_key="k"))

    async def nothing() -> None: ...

    async with rig(url, handling(body)) as it:
        [id] = await it.start(new_task("t"))

        assert (await it.task(id)).result == [
            "the name of a step must be text of 1 to ",
            "sleep 'x' must be from 0 to 36,500 days,",
            "the name of a step must be text of 1 to ",
            "context.call: a called task has no uniqu",
        ]


async def test_a_name_that_two_asyncio_tasks_use_at_once_is_refused(url: str) -> None:
    async def body(context: Context) -> None:
        await asyncio.gather(context.step("same", pause), context.step("same", pause))

    async def pause() -> None:
        await asyncio.sleep(0)

    async with rig(url, handling(body, max_retries=1)) as it:
        [id] = await it.start(new_task("t"))

        assert "step 'same'" in ((await it.task(id)).error or "")
        assert "is used by two asyncio tasks at once" in ((await it.task(id)).error or "")


async def test_an_attempt_that_lost_its_task_stores_nothing_more(url: str) -> None:
    seen: list[str] = []

    async def body(context: Context) -> None:
        await it.conn.execute("update qw.running set fence = nextval('qw.fence_seq')")
        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda: context.step("s", nothing),
            lambda: context.wait_signal("go"),
            lambda: context.call(new_task("double", payload={"n": 1})),
        ]
        for attempt in attempts:
            try:
                await attempt()
            except Conflict as error:
                seen.append(str(error))

    async def nothing() -> None: ...

    async with rig(url, handling(body)) as it:
        [id] = await it.shop.enqueue(new_task("t"))
        await it.shop.claim()
        await it.shop.settle()

        assert seen == [f"task {id} is not this attempt's any more: its lease was lost"] * 3
        assert await checkpoints.of_task(it.conn, id) == []
        assert await value(it.conn, "select count(*) from qw.task") == 1
