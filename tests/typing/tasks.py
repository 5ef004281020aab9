"""Right and wrong uses of tasks, as type checkers see them. Never run: `make test` has mypy check it.

A wrong use has a ``type: ignore`` with the error that it must have: one that is not needed is an error itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import assert_type
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from qw import CallNext, Client, Context, Handlers, NewTask, testing
from qw.core.task import Enqueued
from qw.core.task.payload import Json
from qw.dbapi import Connection

app = Handlers()


class Greeting(BaseModel):
    text: str


@app.task()
async def plain(name: str, greeting: str = "Hello") -> Greeting:
    return Greeting(text=f"{greeting}, {name}!")


@app.task(name="greet", queue="mail", priority=3, max_retries=5, timeout=10, strict=True)
async def with_context(context: Context, name: str, *, times: int = 1) -> Greeting:
    return Greeting(text=name * times)


@app.task()
async def with_keyword_context(name: str, *, context: Context) -> Greeting:
    """Types cannot take the context out of this signature: it runs, and is refused where it is enqueued."""
    return Greeting(text=name)


@app.task(process=True)
def blocking(number: int) -> int:
    return number


@app.batch(size=50, wait=0.1)
async def index(items: list[Greeting]) -> list[int | Exception]:
    return [len(item.text) for item in items]


@app.batch(name="index.logged")
async def index_logged(items: list[Greeting], contexts: list[Context]) -> None: ...


@app.batch()
def index_in_thread(items: list[dict[str, int]]) -> None: ...


async def right_batches(client: Client, conn: Connection) -> None:
    assert_type(index.new(Greeting(text="Ada")), NewTask)
    assert_type(await index.enqueue(client, Greeting(text="Ada")), Enqueued)
    assert_type(index_logged.enqueue_sync(conn, Greeting(text="Ada")), UUID)
    await index.options(delay=timedelta(hours=1)).enqueue(client, Greeting(text="Ada"))
    await client.enqueue_many([index_in_thread.new({"n": 1})])


async def wrong_batches(client: Client) -> None:
    index.new("Ada")  # type: ignore[arg-type]
    index.new()  # type: ignore[call-arg]
    await index.enqueue(client, [Greeting(text="Ada")])  # type: ignore[arg-type]
    index_in_thread.new({"n": "many"})  # type: ignore[dict-item]

    @app.batch(size="many")  # type: ignore[arg-type]
    async def sized(items: list[Greeting]) -> None: ...

    @app.batch()  # type: ignore[arg-type]
    async def no_list(item: Greeting) -> None: ...


async def right(client: Client, context: Context, conn: Connection, id: UUID) -> None:
    assert_type(await plain.enqueue(client, "Ada"), Enqueued)
    assert_type(await plain.enqueue(client, name="Ada", greeting="Hi"), Enqueued)
    assert_type(plain.new("Ada"), NewTask)
    assert_type(plain.enqueue_sync(conn, "Ada"), UUID)
    assert_type(await plain("Ada"), Greeting)
    await plain.options(queue="mail", delay=timedelta(hours=1), unique_key="ada").enqueue(client, "Ada")
    await client.enqueue_many([plain.new("Ada"), with_context.new("Ada", times=2)])

    await with_context.enqueue(client, "Ada", times=2)
    assert_type(await with_context(context, "Ada", times=2), Greeting)

    assert_type(await with_keyword_context("Ada", context=context), Greeting)

    assert_type(await client.result(id, type=Greeting), Greeting)
    assert_type(await client.result(id, list[Greeting]), list[Greeting])
    assert_type(await client.result(id), Json)

    assert_type(blocking(1), int)
    blocking.enqueue_sync(conn, number=1)


async def create(user: str, plan: int = 0) -> UUID:
    return UUID(int=plan)


async def right_waits(context: Context) -> None:
    assert_type(await context.step("create", create, "ada", plan=2), UUID)
    assert_type(await context.sleep("nap", timedelta(days=1)), None)
    assert_type(await context.wait_signal("answer"), Json)
    assert_type(await context.wait_signal("answer", Greeting, timeout=3), Greeting)
    assert_type(await context.call(plain, "Ada"), Greeting)
    assert_type(await context.call(plain.options(queue="mail"), "Ada"), Greeting)
    assert_type(await context.call(with_context, "Ada", times=2), Greeting)
    assert_type(await context.call(blocking, 1), int)
    assert_type(await context.call(blocking.new(1)), Json)
    assert_type(await context.gather(context.call(plain, "Ada"), context.call(blocking, 1)), tuple[Greeting, int])
    assert_type(await context.gather(*(context.call(blocking, n) for n in range(3))), tuple[int, ...])


async def wrong_waits(context: Context) -> None:
    await context.step("create", create)  # type: ignore[call-arg]
    await context.sleep("nap", "1d")  # type: ignore[arg-type]
    await context.call(plain)  # type: ignore[call-overload]
    await context.call(plain, 1)  # type: ignore[call-overload]
    await context.call(create, "ada")  # type: ignore[call-overload]


async def wrong(client: Client, context: Context, conn: Connection) -> None:
    await plain.enqueue(client)  # type: ignore[call-arg]
    await plain.enqueue(client, 1)  # type: ignore[arg-type]
    await plain.enqueue(client, "Ada", gretting="Hi")  # type: ignore[call-arg]
    await plain.enqueue("Ada")  # type: ignore[arg-type, call-arg]
    plain.new("Ada", "Hi", "there")  # type: ignore[call-arg]
    plain.enqueue_sync(conn, name=b"Ada")  # type: ignore[arg-type]
    plain.options(queue=1)  # type: ignore[arg-type]
    plain.options(colour="red")  # type: ignore[call-arg]
    await plain.options(priority=1).enqueue(client, times=2)  # type: ignore[call-arg]

    await with_context.enqueue(client, context, "Ada")  # type: ignore[arg-type, call-arg]
    await with_context.enqueue(client, "Ada", times="2")  # type: ignore[arg-type]
    await with_context("Ada")  # type: ignore[call-arg, arg-type]

    await with_keyword_context.enqueue(client, "Ada")  # type: ignore[call-arg]

    blocking.new("1")  # type: ignore[arg-type]
    app.task(name=1)  # type: ignore[arg-type]
    app.task(colour="red")  # type: ignore[call-arg]


async def called_in_tests() -> None:
    context: Context = testing.context()
    assert_type(await with_context(context, "Ada"), Greeting)


@app.middleware
async def passes(context: Context, call_next: CallNext) -> Json:
    result: Json = await call_next()
    return result


@app.lifespan
async def opens() -> AsyncIterator[int]:
    yield 1


@app.periodic("0 4 * * *", timezone="Europe/Berlin")
@app.task()
async def nightly(n: int = 1) -> str:
    return "done"


async def around(client: Client, session: AsyncSession, conn: AsyncConnection, plain_session: Session) -> None:
    await nightly.enqueue(client, 2)
    await client.enqueue("mail", conn=session)
    await client.enqueue_task(nightly.new(2), conn=conn)
    nightly.enqueue_sync(plain_session, 2)
    found = testing.assert_enqueued(client, type="mail")
    assert_type(found, list[testing.Found])


def in_tests(assert_enqueued: testing.AssertEnqueued, url: str) -> None:
    assert_type(assert_enqueued(type="mail", payload={"to": "Ada"}, count=1), list[testing.Found])
    assert_enqueued(url)  # type: ignore[call-arg]
    assert_enqueued(kind="mail")  # type: ignore[call-arg]
    testing.empty(url)


def wrong_around(client: Client) -> None:
    app.middleware(opens)  # type: ignore[type-var]
    app.periodic(4)  # type: ignore[arg-type]
    app.periodic("0 4 * * *")(opens)  # type: ignore[arg-type]
    Handlers(capture_logging=1.5)  # type: ignore[arg-type]
