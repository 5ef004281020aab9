"""Whatever a handler returns or raises: its attempt ends within its time-out, with exactly one recorded outcome."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qw.core.task.handler_api import Failure, Reject, Retry, Snooze
from qw.handlers import Handlers
from tests.given import expect_whole, new_task, value
from tests.services.workshop import workshop


class Speechless:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Model:
    def model_dump(self) -> object:
        return self


class Colour(enum.Enum):
    RED = object()


class Text(str):
    def isascii(self) -> bool:
        raise ValueError


@dataclass
class Record:
    below: Any = field(default_factory=Speechless)


class Bare(Retry):
    def __init__(self, *args: object) -> None:
        """Sets nothing."""


class Panic(BaseException):
    """As a library of Rust raises."""


class Secretive(Exception):
    def __str__(self) -> str:
        raise Panic

    __cause__ = property(lambda self: 1 / 0)


def cyclic() -> object:
    value: dict[str, Any] = {}
    value["below"] = [value, value]
    return value


def deep() -> object:
    value: object = None
    for _ in range(3000):
        value = (value, value)
    return value


MAKERS: list[Callable[[], object]] = [
    Speechless,
    Model,
    Record,
    cyclic,
    deep,
    lambda: Colour.RED,
    lambda: Text("text"),
    lambda: Model,
    lambda: iter([1]),
    lambda: 10**5000,
    lambda: "\ud800\0",
    lambda: float("nan"),
    lambda: {Speechless(): 1},
    lambda: {(1, 2): {3}},
    lambda: "x" * 300_000,
    lambda: UUID(int=1),
    lambda: datetime.now(UTC),
    lambda: b"\xff",
    lambda: print,
]
ODD = st.sampled_from(MAKERS).map(lambda make: make())
VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ODD,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), below, max_size=3),
    max_leaves=4,
)
DELAYS = st.sampled_from([0, -1, 1e9, 1e300, float("nan"), timedelta.max, timedelta.min, "soon", None, Speechless()])


def carrying(make: Callable[[], Exception], name: str, delay: object) -> Exception:
    error = make()
    setattr(error, name, delay)
    return error


KINDS: list[Callable[..., BaseException]] = [
    ValueError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
    RecursionError,
    asyncio.CancelledError,
    TimeoutError,
    Panic,
    Secretive,
    Bare,
    Failure,
    Reject,
]
LONE_ERRORS: st.SearchStrategy[BaseException] = (
    st.sampled_from(KINDS).flatmap(lambda kind: VALUES.map(kind))
    | DELAYS.map(lambda delay: carrying(lambda: Retry("busy"), "after", delay))
    | DELAYS.map(lambda delay: carrying(lambda: Snooze(1), "delay", delay))
)
ERRORS = st.recursive(
    LONE_ERRORS,
    lambda below: st.lists(below, min_size=1, max_size=3).map(lambda errors: BaseExceptionGroup("several", errors)),
    max_leaves=4,
)


@dataclass(frozen=True)
class Act:
    in_thread: bool
    result: object = None
    error: BaseException | None = None

    def do(self) -> object:
        if self.error is not None:
            raise self.error
        return self.result


ACTS = st.builds(Act, st.booleans(), result=VALUES) | st.builds(Act, st.booleans(), error=ERRORS)


def handler(act: Act) -> Callable[[], object]:
    async def in_loop() -> object:
        return act.do()

    def in_thread() -> object:
        return act.do()

    return in_thread if act.in_thread else in_loop


async def ends(url: str, acts: list[Act]) -> None:
    app = Handlers()
    for number, act in enumerate(acts):
        app.handler(f"act_{number}", max_retries=1, timeout=5)(handler(act))
    async with workshop(url, app) as shop:
        done = await shop.run(*(new_task(f"act_{number}") for number in range(len(acts))))

        for act, task in zip(acts, done, strict=True):
            assert task.status in ("failed", "pending") if act.error else task.status in ("completed", "failed"), act
            assert task.status != "failed" or task.error
        assert shop.worker.running == 0
        assert await value(shop.conn, "select count(*) from qw.running") == 0
        await expect_whole(shop.conn)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(ACTS, min_size=1, max_size=10))
def test_whatever_a_handler_does_its_attempt_has_one_outcome(url: str, acts: list[Act]) -> None:
    asyncio.run(ends(url, acts))
