"""`Handlers`: how a function's signature turns a payload into arguments."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from qw.core.errors import Invalid
from qw.core.task import Backoff
from qw.core.task.handler_api import Context, Reject
from qw.handlers import HandlerKind, Handlers
from qw.handlers.command import CommandOptions, add_command
from qw.handlers.data import DataOptions, add_data_processing
from qw.handlers.http_request import HttpOptions, add_http_request
from qw.handlers.noop import add_noop
from tests.handlers.context import MemoryContext, run


class Picture(BaseModel):
    path: str
    width: int = 100


async def by_keyword(path: str, width: int = 100) -> Any:
    return [path, width]


async def by_model(picture: Picture) -> Any:
    return [picture.path, picture.width]


async def by_dict(payload: dict[str, Any]) -> Any:
    return payload


async def with_context(path: str, context: Context) -> Any:
    return [path, context.attempt]


async def with_the_rest(path: str, **rest: Any) -> Any:
    return [path, rest]


async def by_path(path: Path) -> Any:
    return type(path).__name__


async def of_nothing() -> Any:
    return "ran"


def registered(function: Any, **options: Any) -> Handlers:
    app = Handlers()
    app.handler("resize", **options)(function)
    return app


@pytest.mark.parametrize(
    ("function", "payload", "result"),
    [
        (by_keyword, {"path": "a.png"}, ["a.png", 100]),
        (by_keyword, {"path": "a.png", "width": "7"}, ["a.png", 7]),
        (by_model, {"path": "a.png", "width": 7}, ["a.png", 7]),
        (by_dict, {"anything": [1]}, {"anything": [1]}),
        (with_context, {"path": "a.png"}, ["a.png", 4]),
        (of_nothing, {"ignored": 1}, "ran"),
        (by_path, {"path": "a.png"}, "PosixPath"),
    ],
)
async def test_a_payload_becomes_arguments(function: Any, payload: dict[str, Any], result: Any) -> None:
    assert await run(registered(function), "resize", payload, MemoryContext(attempt=4)) == result


@pytest.mark.parametrize(
    ("function", "payload", "place"),
    [
        (by_keyword, {}, "path: Field required"),
        (by_keyword, {"path": "a", "width": "wide"}, "width: Input should be a valid integer"),
        (by_keyword, {"path": "a", "widht": 7}, "widht: Extra inputs are not permitted"),
        (by_model, {"path": 3}, "path: Input should be a valid string"),
    ],
)
async def test_a_payload_that_does_not_fit_is_rejected_with_its_place(
    function: Any, payload: dict[str, Any], place: str
) -> None:
    with pytest.raises(Reject, match=place):
        await run(registered(function), "resize", payload)


def test_the_schema_of_the_payload_is_known() -> None:
    for function in (by_keyword, by_model):
        handler = registered(function).get("resize")
        assert handler is not None
        assert handler.schema is not None
        assert handler.schema["required"] == ["path"]


def plain() -> None:
    return None


@pytest.mark.parametrize(
    ("function", "process", "kind"),
    [
        (of_nothing, False, HandlerKind.ASYNC),
        (plain, False, HandlerKind.THREAD),
        (plain, True, HandlerKind.PROCESS),
    ],
)
def test_the_kind_says_which_slots_it_takes(function: Any, process: bool, kind: HandlerKind) -> None:
    handler = registered(function, process=process).get("resize")

    assert handler is not None
    assert handler.kind is kind


class Callee:
    """An object with an async call."""

    async def __call__(self, path: str) -> Any:
        return [path, "called"]

    async def method(self, path: str, **rest: Any) -> Any:
        return [path, rest]

    def blocking(self, path: str) -> Any:
        return [path]

    @staticmethod
    async def static(path: str) -> Any:
        return [path]


async def with_odd_names(_id: str, json: str, model_config: int, copy: bool = True) -> Any:
    return [_id, json, model_config, copy]


async def with_context_and_the_rest(context: Context, **rest: Any) -> Any:
    return [context.attempt, rest]


async def with_what_cannot_be_named(path: str, /, *args: Any) -> Any:
    return [path, args]


async def with_defaults_that_cannot_be_named(n: int = 3, /, *args: Any, path: str) -> Any:
    return [n, args, path]


@pytest.mark.parametrize(
    ("function", "payload", "result"),
    [
        (Callee(), {"path": "a"}, ["a", "called"]),
        (Callee().method, {"path": "a", "b": 1}, ["a", {"b": 1}]),
        (functools.partial(by_keyword, width=3), {"path": "a"}, ["a", 3]),
        (functools.partial(Callee()), {"path": "a"}, ["a", "called"]),
        (Callee.__dict__["static"], {"path": "a"}, ["a"]),
        (with_odd_names, {"_id": "i", "json": "j", "model_config": 1}, ["i", "j", 1, True]),
        (with_context_and_the_rest, {"self": 1, "payload": 2}, [4, {"self": 1, "payload": 2}]),
        (with_defaults_that_cannot_be_named, {"path": "a"}, [3, (), "a"]),
    ],
)
async def test_whatever_can_be_called_with_names_is_a_handler(
    function: Any, payload: dict[str, Any], result: Any
) -> None:
    app = registered(function)

    assert app.get("resize").kind is HandlerKind.ASYNC  # type: ignore[union-attr]
    assert await run(app, "resize", payload, MemoryContext(attempt=4)) == result


def test_odd_names_stand_in_the_schema_as_they_are() -> None:
    schema = registered(with_odd_names).get("resize").schema  # type: ignore[union-attr]

    assert schema is not None
    assert list(schema["properties"]) == ["_id", "json", "model_config", "copy"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "key"), [(with_context_and_the_rest, "context"), (Callee().method, "self")], ids=["context", "self"]
)
async def test_a_key_that_names_a_parameter_of_the_handlers_own_is_rejected(function: Any, key: str) -> None:
    with pytest.raises(Reject, match=f"the payload has the key '{key}'"):
        await run(registered(function), "resize", {"path": "a", key: "x"})


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


async def with_the_context_as_the_rest(**context: Any) -> None: ...


async def with_an_unknown_annotation(path: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def with_what_is_no_json(path: Callable[[], int]) -> None: ...


def blocking_with_context(context: Context) -> None: ...


@pytest.mark.parametrize(
    ("function", "process", "said"),
    [
        (generator, False, "generator is a generator"),
        (async_generator, False, "async_generator is a generator"),
        (functools.partial(generator), False, "generator is a generator"),
        (generator, True, "is a generator"),
        (of_nothing, True, "of_nothing is async, but process=True"),
        (Callee(), True, "is async, but process=True"),
        (blocking_with_context, True, "cannot have a context"),
        (Callee, False, "Callee is a class"),
        ("text", False, "cannot be called"),
        (with_what_cannot_be_named, False, "positional-only parameter 'path'"),
        (with_the_context_as_the_rest, False, "must accept its parameter 'context'"),
        (with_an_unknown_annotation, False, "cannot be resolved: name 'Nowhere' is not defined"),
        (with_what_is_no_json, False, "JSON cannot represent"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_by_name(function: Any, process: bool, said: str) -> None:
    with pytest.raises(Invalid, match=f"^handler of the type 'resize': .*{re.escape(said)}"):
        registered(function, process=process)


def test_the_policy_is_kept() -> None:
    backoff = Backoff(delay=timedelta(seconds=9))
    handler = registered(of_nothing, max_retries=7, timeout=90, backoff=backoff).get("resize")

    assert handler is not None
    assert (handler.policy.max_retries, handler.policy.timeout, handler.policy.backoff) == (
        7,
        timedelta(seconds=90),
        backoff,
    )


def test_a_type_has_one_handler() -> None:
    with pytest.raises(Invalid, match="two handlers for the type 'resize'"):
        registered(of_nothing).handler("resize")(of_nothing)


async def test_included_handlers_win() -> None:
    app, mine = registered(by_keyword), registered(of_nothing)

    app.include(mine)

    assert len(app) == 1
    assert await run(app, "resize", {}) == "ran"


def test_the_handler_of_an_unknown_type_is_none() -> None:
    assert Handlers().get("resize") is None


async def test_noop_takes_anything_and_returns_nothing() -> None:
    app = Handlers()
    add_noop(app)

    assert await run(app, "noop", {"any": {"thing": [1]}}) is None


def test_the_built_in_types_register_together() -> None:
    app = Handlers()
    add_noop(app)
    add_command(app, CommandOptions())
    add_http_request(app, HttpOptions())
    add_data_processing(app, DataOptions())

    assert [handler.type for handler in app] == ["noop", "command", "http_request", "data_processing"]
    assert all(handler.schema for handler in app if handler.type != "noop")
