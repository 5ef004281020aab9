"""`Handlers.task`: the arguments of a call become a payload, and the handler gets them back."""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, computed_field

from qw.core.errors import Invalid
from qw.core.task.handler_api import Context, Misfit, Reject
from qw.handlers import Handlers, TaskFunction
from qw.handlers.process import run_in_process
from tests.handlers.context import MemoryContext, run

app = Handlers()
ID = UUID("01a20c90-d33f-79f9-940d-9081ef355e8e")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Order(BaseModel):
    number: int = Field(alias="no")
    at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def year(self) -> int:
        return self.at.year


@app.task()
async def greet(name: str, greeting: str = "Hello", *, context: Context) -> str:
    return f"{greeting}, {name}, at attempt {context.attempt}"


@app.task()
async def welcome(context: Context, name: str) -> str:
    return f"{name}, at attempt {context.attempt}"


@app.task()
async def keep(
    at: datetime,
    id: UUID,
    colour: Colour,
    point: Point,
    order: Order,
    price: Decimal,
    day: date,
    pause: timedelta,
    numbers: dict[int, float],
    points: list[Point],
    _odd: str | None = None,
) -> Any:
    return [at, id, colour, point, order, price, day, pause, numbers, points, _odd]


@app.task()
async def ship(order: Order) -> Any:
    return order


@app.task()
async def whole(payload: dict[str, Any]) -> Any:
    return payload


@app.task()
async def rest(first: int, *args: int, context: Context, **others: Any) -> Any:
    return [first, others]


@app.task()
async def unnamed(first: int = 1, /, second: int = 2) -> Any:
    return [first, second]


@app.task(process=True)
def square(number: int) -> int:
    return number * number


def untyped(task: object) -> TaskFunction[..., ..., Any]:
    """*task* without its types: what they refuse must be refused at run time too."""
    assert isinstance(task, TaskFunction)
    return task


GREET, KEEP, SHIP, REST, UNNAMED = map(untyped, (greet, keep, ship, rest, unnamed))


async def test_arguments_by_position_and_name_become_the_payload() -> None:
    assert GREET.new("Ada", "Hi").payload == {"name": "Ada", "greeting": "Hi"}
    assert GREET.new(name="Ada").payload == {"name": "Ada"}
    assert welcome.new("Ada").payload == {"name": "Ada"}
    assert GREET.new("Ada").type == "greet"


async def test_a_handler_gets_values_back_as_they_were_given() -> None:
    given: list[Any] = [
        *(NOON, ID, Colour.RED, Point(1, 2), Order(no=1, at=NOON), Decimal("1.10"), date(2026, 1, 1)),
        *(timedelta(days=1, seconds=1.5), {1: 0.5, 2: float("inf")}, [Point(3)], "odd"),
    ]

    payload = KEEP.new(*given).payload

    assert await run(app, "keep", payload) == given


async def test_a_single_model_is_the_whole_payload() -> None:
    order = Order(no=1, at=NOON)
    payload = SHIP.new(order).payload

    assert payload == {"no": 1, "at": "2026-01-01T12:00:00Z"}
    assert await run(app, "ship", payload) == order
    assert whole.new({"a": [1]}).payload == {"a": [1]}
    assert await run(app, "rest", REST.new(1, colour="red").payload) == [1, {"colour": "red"}]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: GREET.new(), TypeError, "greet: missing a required argument: 'name'"),
        (lambda: GREET.new("a", "b", "c"), TypeError, "greet: too many positional arguments"),
        (lambda: GREET.new("a", nmae="b"), TypeError, "greet: got an unexpected keyword argument 'nmae'"),
        (lambda: GREET.new("a", context=1), TypeError, "greet: the argument 'context' is given by the worker"),
        (lambda: REST.new(1, context=1), TypeError, "rest: the argument 'context' is given by the worker"),
        (lambda: REST.new(1, 2), TypeError, "rest: 'args' takes positional arguments only"),
        (lambda: UNNAMED.new(5), TypeError, "unnamed: 'first' takes positional arguments only"),
        (lambda: GREET.new(1), Invalid, "greet.name: Input should be a valid string"),
        (lambda: KEEP.new(*[None] * 10), Invalid, "keep.at: Input should be a valid datetime.*keep.points: "),
        (lambda: SHIP.new({"no": "x", "at": NOON}), Invalid, "ship.order.no: Input should be a valid integer"),
        (lambda: REST.new(1, odd=object()), Invalid, "rest.odd: cannot be stored as JSON"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call_naming_the_parameter(
    call: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call()


async def test_a_task_is_still_a_plain_function() -> None:
    context: Any = MemoryContext(attempt=2)

    assert await greet("Ada", context=context) == "Hello, Ada, at attempt 2"
    assert await welcome(context, "Ada") == "Ada, at attempt 2"
    assert greet.__name__ == "greet"
    assert square(3) == 9


async def test_a_worker_runs_it_with_its_context() -> None:
    for task in (GREET, untyped(welcome)):
        assert "at attempt 4" in await run(app, task.type, task.new("Ada").payload, MemoryContext(attempt=4))


def test_one_for_a_process_is_sent_there_by_its_name() -> None:
    handler = app.get("square")

    assert handler is not None
    assert pickle.loads(pickle.dumps(handler.function)) is square


def test_options_change_the_task_and_not_the_function() -> None:
    app = Handlers()

    @app.task(queue="mail", priority=2)
    async def send(to: str) -> None: ...

    later = send.options(delay=timedelta(hours=1), unique_key="u").options(priority=0, headers={"a": "b"}, id=ID)
    new = later.new("Ada")

    assert (new.queue, new.priority, new.delay, new.unique_key) == ("mail", 0, timedelta(hours=1), "u")
    assert (new.headers, new.id, new.payload) == ({"a": "b"}, ID, {"to": "Ada"})
    assert (send.new("Ada").priority, send.new("Ada").delay) == (2, None)


def test_a_function_without_a_name_needs_one() -> None:
    app = Handlers()
    nameless: Any = functools.partial(greet.function, greeting="Hi")

    with pytest.raises(Invalid, match=r"give the task one, @app\.task\(name=…\)"):
        app.task()(nameless)
    with pytest.raises(Invalid, match="'<lambda>' is not a name"):
        app.task()(lambda: None)
    assert app.task(name="hi")(nameless).new("Ada").payload == {"name": "Ada"}


def test_the_policy_is_that_of_the_decorator() -> None:
    app = Handlers()

    @app.task(name="other", max_retries=7, timeout=2.5)
    async def task() -> None: ...

    handler = app.get("other")
    assert handler is not None
    assert (handler.policy.max_retries, handler.policy.timeout) == (7, timedelta(seconds=2.5))
    with pytest.raises(Invalid, match="two handlers for the type 'other'"):
        app.handler("other")(task.function)


@pytest.mark.parametrize(
    "register", [lambda app: app.task(name="t", strict=True), lambda app: app.handler("t", strict=True)]
)
async def test_a_strict_handler_rejects_an_unfitting_payload_at_once(register: Any) -> None:
    app = Handlers()
    register(app)(greet.function)

    with pytest.raises(Reject, match="name: Field required") as caught:
        await run(app, "t", {})
    assert not isinstance(caught.value, Misfit)


async def test_one_for_a_process_runs_there() -> None:
    handler = app.get("square")

    assert handler is not None
    assert await run_in_process(handler.function, {"number": 3}) == 9
