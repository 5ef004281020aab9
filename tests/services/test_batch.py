"""Batches: one call of the handler for many tasks, and an end of its own for each of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from qw import BatchFunction, Client, Context, Handlers, Invalid, Reject, Retry, Snooze
from qw.core.task import Attempt, NewTask, Status, Task
from qw.daemon.threads import CountingExecutor
from qw.handlers import HandlerKind
from qw.services.execution.in_flight import Stop
from qw.store import tasks
from tests.given import new_task
from tests.services.workshop import Workshop, workshop


class Item(BaseModel):
    n: int


def items(*numbers: int, **fields: Any) -> list[NewTask]:
    return [new_task("index", payload={"n": n}, **fields) for n in numbers]


async def attempts(shop: Workshop, task: Task) -> list[Attempt]:
    return await tasks.attempts(shop.conn, task.id)


class Indexed:
    """An application whose batches do what *answer* says; ``calls``: the items of each call."""

    def __init__(self, answer: Callable[[list[int]], Any] = lambda numbers: None, **options: Any) -> None:
        self.calls: list[list[int]] = []
        self.app = Handlers()

        @self.app.batch(**{"size": 4, "wait": 0.05, **options})
        async def index(items: list[Item]) -> Any:
            self.calls.append([item.n for item in items])
            return answer([item.n for item in items])


def results(ended: list[Task]) -> list[Any]:
    return [(task.status, task.result) for task in ended]


async def test_tasks_run_together_and_each_has_its_result(url: str) -> None:
    indexed = Indexed(lambda numbers: [n * 2 for n in numbers])

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))

    assert indexed.calls == [[1, 2, 3, 4]]
    assert results(ended) == [(Status.COMPLETED, n * 2) for n in (1, 2, 3, 4)]


async def test_batches_have_at_most_their_size_and_the_rest_comes_after_the_wait(url: str) -> None:
    indexed = Indexed()

    async with workshop(url, indexed.app) as shop:
        await shop.run(*items(*range(10)))
        assert shop.slots.taken == 0

    assert [len(call) for call in indexed.calls] == [4, 4, 2]
    assert sorted(n for call in indexed.calls for n in call) == list(range(10))


async def test_a_batch_does_not_wait_for_one_of_another_type_that_waits_longer(url: str) -> None:
    app, calls = Handlers(), list[str]()

    @app.batch(size=10, wait=60)
    async def slow(items: list[Item]) -> None:
        calls.append("slow")

    @app.batch(size=10, wait=0.01)
    async def quick(items: list[Item]) -> None:
        calls.append("quick")

    async with workshop(url, app) as shop:
        for type in ("slow", "quick"):
            await shop.enqueue(new_task(type, payload={"n": 1}))
            await shop.claim()
        await shop.until(lambda: calls)
        shop.worker.return_unstarted()
        await shop.settle()

    assert calls == ["quick"]


async def test_a_batch_takes_one_slot(url: str) -> None:
    app, taken = Handlers(), []

    async with workshop(url, app, {HandlerKind.ASYNC: 1, HandlerKind.THREAD: 1, HandlerKind.PROCESS: 1}) as shop:

        @app.batch(size=3, wait=0.01)
        async def index(items: list[Item]) -> None:
            taken.append((len(items), shop.slots.taken))

        ids = await shop.enqueue(*items(1, 2, 3))
        while not taken or sum(count for count, _ in taken) < len(ids):
            await shop.claim()
            await shop.settle()

    assert {slots for _, slots in taken} == {1}


async def test_an_exception_among_the_answers_is_of_its_item_alone(url: str) -> None:
    answers: dict[int, Any] = {1: "fine", 2: ValueError("no such index"), 3: Reject("never"), 4: Snooze(60)}
    indexed = Indexed(lambda numbers: [answers[n] for n in numbers])

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))
        (spent,) = await attempts(shop, ended[1])
        log = await tasks.read_logs(shop.conn, ended[1].id)

    assert [task.status for task in ended] == [Status.COMPLETED, Status.RETRYING, Status.FAILED, Status.PENDING]
    assert (spent.attempt, spent.error) == (1, "no such index")
    assert any("ValueError: no such index" in line.message for line in log)
    assert ended[2].error == "never"
    assert [len(call) for call in indexed.calls] == [4]


async def test_one_poison_item_fails_alone(url: str) -> None:
    def answer(numbers: list[int]) -> None:
        if 3 in numbers:
            raise ZeroDivisionError("3 cannot be indexed")

    indexed = Indexed(answer, size=8, max_retries=1)

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(*range(8)))

    assert {task.payload["n"]: task.status for task in ended if task.status is not Status.COMPLETED} == {
        3: Status.FAILED
    }
    assert next(task for task in ended if task.payload["n"] == 3).error == "3 cannot be indexed"
    assert indexed.calls[0] == list(range(8))
    assert len(indexed.calls) <= 7  # halves, and not one by one


async def test_a_payload_that_does_not_fit_stays_out_of_the_batch(url: str) -> None:
    indexed = Indexed(strict=True)

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1), new_task("index", payload={"n": "many"}), *items(2, 3))

    assert [task.status for task in ended] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED, Status.COMPLETED]
    assert "n: Input should be a valid integer" in (ended[1].error or "")
    assert indexed.calls == [[1, 2, 3]]


@pytest.mark.parametrize("answers", [[1], "abcd", 5, {1: 2}])
async def test_answers_must_be_as_many_as_the_items(url: str, answers: Any) -> None:
    indexed = Indexed(lambda numbers: answers, max_retries=1)

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))

    assert {task.status for task in ended} == {Status.FAILED}
    assert "for 4 items; return one for each, or None" in (ended[0].error or "")
    assert len(indexed.calls) == 1


async def test_retry_and_snooze_raised_are_about_the_whole_batch(url: str) -> None:
    def answer(numbers: list[int]) -> None:
        raise Retry("the index is being rebuilt", after=60) if 1 in numbers else Snooze(60)

    indexed = Indexed(answer, size=2)

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))

    assert [task.status for task in ended] == [Status.RETRYING] * 2 + [Status.PENDING] * 2
    assert len(indexed.calls) == 2


async def test_each_item_has_its_context(url: str) -> None:
    app = Handlers()

    @app.batch(size=4, wait=0.05)
    async def index(items: list[Item], contexts: list[Context]) -> list[Any]:
        for item, context in zip(items, contexts, strict=True):
            await context.log(f"indexing {item.n}")
            await context.progress(0.5)
        with pytest.raises(Invalid, match="a task of a batch has no steps"):
            await contexts[0].sleep("nap", 1)
        return [str(context.task_id) for context in contexts]

    async with workshop(url, app) as shop:
        ended = await shop.run(*items(1, 2))
        logs = [[line.message for line in await tasks.read_logs(shop.conn, task.id)] for task in ended]

    assert [task.result for task in ended] == [str(task.id) for task in ended]
    assert logs == [["indexing 1"], ["indexing 2"]]


async def test_a_plain_function_runs_in_a_thread(url: str) -> None:
    app, threads = Handlers(), []

    @app.batch(size=2, wait=0.05)
    def index(items: list[dict[str, Any]], contexts: list[Context]) -> list[Any]:
        threads.append(threading.current_thread() is threading.main_thread())
        contexts[1].log("from a thread")  # type: ignore[unused-coroutine]
        return [item["n"] for item in items]

    async with workshop(url, app) as shop:
        ended = await shop.run(*items(1, 2))
        log = await tasks.read_logs(shop.conn, ended[1].id)

    assert results(ended) == [(Status.COMPLETED, 1), (Status.COMPLETED, 2)]
    assert threads == [False]
    assert [line.message for line in log] == ["from a thread"]


async def test_middleware_runs_around_each_call(url: str) -> None:
    indexed, around = Indexed(), []

    @indexed.app.middleware
    async def note(context: Context, call_next: Any) -> Any:
        around.append(context.type)
        return await call_next()

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))

    assert around == ["index"]
    assert {task.status for task in ended} == {Status.COMPLETED}


@pytest.mark.parametrize("is_before", [True, False])
async def test_what_only_middleware_raises_is_about_the_whole_batch(url: str, is_before: bool) -> None:
    indexed, around = Indexed(max_retries=1), []

    @indexed.app.middleware
    async def failing(context: Context, call_next: Any) -> Any:
        around.append(context.type)
        if not is_before:
            await call_next()
        raise ConnectionError("no token")

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))

    assert [(task.status, task.error) for task in ended] == [(Status.FAILED, "no token")] * 4
    assert around == ["index"]
    assert indexed.calls == ([] if is_before else [[1, 2, 3, 4]])


async def test_an_item_at_fault_is_found_though_middleware_turns_its_error_into_another(url: str) -> None:
    def answer(numbers: list[int]) -> None:
        if 3 in numbers:
            raise ValueError("3")

    indexed = Indexed(answer, max_retries=1)

    @indexed.app.middleware
    async def renaming(context: Context, call_next: Any) -> Any:
        try:
            return await call_next()
        except ValueError as error:
            raise RuntimeError("renamed") from error

    async with workshop(url, indexed.app) as shop:
        ended = await shop.run(*items(1, 2, 3, 4))

    failed = {task.payload["n"]: task.error for task in ended if task.status is Status.FAILED}
    assert failed == {3: "renamed"}


class Hanging:
    """An application whose batches hang until they are cancelled or ``go`` is set."""

    def __init__(self, **options: Any) -> None:
        self.app = Handlers()
        self.started = 0
        self.go = asyncio.Event()

        @self.app.batch(**{"size": 2, "wait": 0.01, **options})
        async def index(items: list[Item]) -> list[int]:
            self.started += 1
            await self.go.wait()
            return [item.n for item in items]

    async def begun(self, shop: Workshop, *new: NewTask) -> None:
        await shop.enqueue(*new)
        await shop.claim()
        await shop.until(lambda: self.started)


async def test_a_batch_that_takes_too_long_times_out(url: str) -> None:
    hanging = Hanging(timeout=0.05, max_retries=1)

    async with workshop(url, hanging.app) as shop:
        ended = await shop.run(*items(1, 2))

    assert [(task.status, task.error) for task in ended] == [(Status.FAILED, "timed out after 50ms")] * 2


async def test_who_waits_with_a_task_that_times_out_early_runs_again_at_no_cost(url: str) -> None:
    hanging = Hanging(max_retries=1)
    early = items(1, timeout=timedelta(milliseconds=50))

    async with workshop(url, hanging.app) as shop:
        timed_out, other = await shop.run(*early, *items(2))
        spent = await attempts(shop, other)

    assert timed_out.status is Status.FAILED
    assert other.status is Status.PENDING
    assert [attempt.outcome for attempt in spent] == []


async def test_a_cancelled_item_leaves_the_others_running(url: str) -> None:
    hanging = Hanging()
    one, two = items(1, 2)

    async with workshop(url, hanging.app) as shop:
        await hanging.begun(shop, one, two)
        await tasks.cancel(shop.conn, [one.id], running=True, reason="not wanted")
        shop.worker.interrupt({one.id: "not wanted"})
        await asyncio.sleep(0)
        assert all(holding.task is not None and not holding.task.cancelling() for holding in shop.in_flight)
        shop.worker.interrupt({two.id: "nor this"})
        await shop.settle()
        ended = await tasks.get(shop.conn, [one.id, two.id])

    assert [(task.status, task.error) for task in ended] == [
        (Status.CANCELLED, "not wanted"),
        (Status.CANCELLED, "nor this"),
    ]


async def test_an_item_that_was_done_before_its_cancellation_counts(url: str) -> None:
    hanging = Hanging()
    one, two = items(1, 2)

    async with workshop(url, hanging.app) as shop:
        await hanging.begun(shop, one, two)
        shop.worker.interrupt({one.id: "not wanted"})
        hanging.go.set()
        await shop.settle()
        ended = await tasks.get(shop.conn, [one.id, two.id])

    assert [task.status for task in ended] == [Status.COMPLETED] * 2


async def test_items_of_a_stopping_worker_are_handed_back(url: str) -> None:
    hanging = Hanging()
    new = items(1, 2)

    async with workshop(url, hanging.app) as shop:
        await hanging.begun(shop, *new)
        shop.worker.draining = True
        shop.worker.interrupt_all(Stop.DRAIN, "")
        await shop.until(lambda: len(shop.worker.interrupted) == 2)
        shop.worker.return_interrupted()
        await shop.settle()
        ended = await tasks.get(shop.conn, [task.id for task in new])

    assert [(task.status, task.retries) for task in ended] == [(Status.PENDING, 0)] * 2


@pytest.mark.parametrize("stop", [Stop.DRAIN, Stop.LEASE])
async def test_a_batch_of_a_worker_that_stops_waits_for_no_thread(url: str, stop: Stop) -> None:
    asyncio.get_running_loop().set_default_executor(CountingExecutor())
    app, release = Handlers(), threading.Event()

    @app.batch(size=2, wait=60)
    async def index(items: list[Item]) -> None:
        await asyncio.to_thread(release.wait, 30)

    async with workshop(url, app) as shop:
        await shop.enqueue(*items(1, 2))
        await shop.claim()
        holding = next(iter(shop.in_flight))
        await shop.until(lambda: holding.in_executor)

        shop.worker.interrupt_all(stop, "")
        await shop.until(lambda: not shop.slots.taken)

        assert not release.is_set()
        assert holding.in_executor
        release.set()
        shop.worker.return_interrupted()
        await shop.settle()


async def test_a_lost_claim_cannot_write_and_the_others_can(url: str) -> None:
    hanging = Hanging()
    one, two = items(1, 2)

    async with workshop(url, hanging.app) as shop:
        await hanging.begun(shop, one, two)
        await shop.conn.execute("update qw.running set fence = fence + 1000000 where task_id = %s", [one.id])
        hanging.go.set()
        await shop.settle()
        lost, other = await tasks.get(shop.conn, [one.id, two.id])
        (spent,) = await attempts(shop, lost)

    assert (lost.status, spent.outcome) == (Status.PROCESSING, "lease_lost")
    assert other.status is Status.COMPLETED


async def test_waiting_items_are_handed_back_by_a_drain(url: str) -> None:
    indexed = Indexed(wait=60)

    async with workshop(url, indexed.app) as shop:
        ids = await shop.enqueue(*items(1, 2))
        await shop.claim()
        assert len(shop.in_flight) == 2
        shop.worker.return_unstarted()
        await shop.settle()
        ended = await tasks.get(shop.conn, ids)

    assert [(task.status, task.attempt) for task in ended] == [(Status.PENDING, 0)] * 2
    assert indexed.calls == []


async def test_items_are_enqueued_one_by_one(url: str) -> None:
    app = Handlers()

    @app.batch(queue="search", priority=7)
    async def index(items: list[Item]) -> None: ...

    async with Client(url) as client:
        task = await index.enqueue(client, Item(n=1))
        await client.enqueue_many([index.new(Item(n=n)) for n in (2, 3)])
        stored = await client.tasks.get(task.id)

    assert (stored.type, stored.queue, stored.priority, stored.payload) == ("index", "search", 7, {"n": 1})
    assert isinstance(index, BatchFunction)
    with pytest.raises(Invalid, match=r"index\.n: Input should be a valid integer"):
        index.new({"n": "many"})  # type: ignore[arg-type]


def no_list(items: Item) -> None: ...
def numbers(items: list[int]) -> None: ...
def too_many(items: list[Item], context: Context) -> None: ...
def none_at_all() -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (no_list, {}, "no_list has a parameter 'items' that is not a list; a batch is a list of payloads"),
        (numbers, {}, "numbers has items that are not objects, as payloads must be; use a model or dict"),
        (too_many, {}, "too_many must have one parameter for the list of items, and no others except 'contexts'"),
        (none_at_all, {}, "none_at_all must have one parameter for the list of items"),
        (no_list, {"size": 0}, "size: 0 is out of range; it may be 1 to 10,000"),
        (no_list, {"wait": 61}, "wait: 0:01:01 is out of range; it may be 0 to 0:01:00"),
    ],
)
def test_what_cannot_be_a_batch_is_refused_at_import(function: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid) as refused:
        Handlers().batch(**options)(function)

    assert message in str(refused.value)
