"""Creation of tasks by HTTP: the checks before it, and the headers that a task keeps of its request."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import Field, create_model, model_validator

from qw.core.errors import Invalid, guess
from qw.core.task import FIELDS, JSON_KEYS, key_faults
from qw.core.task.new_task import SqlType
from qw.core.task.payload import JsonObject, raise_faults
from qw.store.ids import new_id
from qw.web.errors import Problem
from qw.web.fields import Duration, Form, Moment, Whole
from qw.web.route import Request
from qw.web.serializers import FILED_UNDER, SCHEDULED_AT, stamp

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_KEYS = UUID("5b2c4c1e-6a7e-4d0e-9d54-0f3a5c7e9b11")  # the UUID namespace of idempotency keys


class NewTaskForm(Form):
    """A new task."""

    type: Annotated[str, Field(min_length=1)]
    payload: dict[str, Any]
    workflow_id: UUID | None = None

    @model_validator(mode="before")
    @classmethod
    def _both_given(cls, value: Any) -> Any:
        if isinstance(value, dict) and (value.get("type") in (None, "") or value.get("payload") is None):
            raise Problem(400, "Task type and payload are required")
        return value


_TYPES: dict[SqlType, Any] = {
    "text": Annotated[str, Field(min_length=1)] | None,
    "smallint": Whole | None,
    "timestamptz": Moment,
    "interval": Duration,
}

_OPTIONS: dict[str, Any] = {key: (_TYPES[FIELDS[name]], None) for name, key in JSON_KEYS.items()}

TaskForm = create_model(
    "TaskForm",
    __base__=NewTaskForm,
    __doc__="A new task with all its options.",
    **_OPTIONS,
    id=(UUID | None, None),
)


async def enqueued(
    call: Request[Any, Any], form: NewTaskForm, *, run_at: datetime | None = None, **options: Any
) -> UUID:
    """Enqueue a task for *form* and return its id; committed when this returns."""
    await check(call, form)
    done = await call.client.enqueue(
        form.type,
        form.payload,
        run_at=due(run_at),
        idempotency_key=call.header(b"idempotency-key"),
        headers=_headers(call, form.workflow_id, run_at),
        **options,
    )
    return done.id


def due(at: datetime | None) -> datetime | None:
    """Return the time at which a task for *at* runs. A past time, however long ago, means at once."""
    return max(at, _LONG_AGO) if at else None


async def check(call: Request[Any, Any], form: NewTaskForm) -> None:
    """Raise Invalid for an unknown type or a payload that cannot run, NotFound for an unknown workflow."""
    if call.site.settings.check_tasks:
        await call.site.check_type(form.type)
    check_payload(call, form.type, form.payload)
    if form.workflow_id:
        await call.client.workflows.by_id(form.workflow_id)


async def enqueued_task(call: Request[NewTaskForm, Any]) -> UUID:
    """Enqueue a task for a `TaskForm` as `enqueued` does."""
    values = call.body.model_dump(exclude={*NewTaskForm.model_fields})
    options = {name: values[key] for name, key in JSON_KEYS.items()}
    return await enqueued(call, call.body, id=values["id"], **options)


def id_of_key(call: Request[Any, Any]) -> UUID:
    """Return the id for what a request creates: always the same id for the same ``Idempotency-Key``."""
    key = call.header(b"idempotency-key")
    raise_faults(iter(key_faults("idempotency_key", key)))
    return uuid5(_KEYS, key) if key else new_id()


def _headers(call: Request[Any, Any], workflow: UUID | None, run_at: datetime | None) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    traceparent = call.header(b"traceparent")
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        headers["traceparent"] = traceparent
        if state := call.header(b"tracestate"):
            headers["tracestate"] = state[:512]
    if workflow:
        headers[FILED_UNDER] = str(workflow)
    if run_at:
        headers[SCHEDULED_AT] = stamp(run_at)
    return headers or None


def check_payload(call: Request[Any, Any], type: str, payload: JsonObject) -> None:
    """Raise Invalid for a payload that cannot run, so that the caller gets the error instead of a failed task."""
    if type == "command" and not payload.keys().isdisjoint(("argv", "run")):
        raise Invalid("Over HTTP, only declared commands can be run: argv, run and shell are not accepted")
    if type == "data_processing":
        _check_operation(payload.get("operation"))
    if type == "http_request" and not call.site.settings.http_base_url:
        url = payload.get("url")
        if isinstance(url, str) and not _SCHEME.match(url):
            raise Invalid(f"url: {url[:60]!r} is relative, which requires QW_HTTP_BASE_URL on the server")


def _check_operation(operation: object) -> None:
    from qw.handlers.data import OPERATIONS

    if operation is None or operation in ("", *OPERATIONS):
        return
    shown = str(operation)[:60]
    raise Invalid(f"operation: {shown!r} is unknown; known are {', '.join(OPERATIONS)}{guess(shown, OPERATIONS)}")
