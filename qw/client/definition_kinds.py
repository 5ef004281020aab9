"""The kinds of definitions in files, with the functions that read, store and delete each kind in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qw.client.schedules import drop as drop_schedule
from qw.client.schedules import put as put_schedule
from qw.core.queue import Queue
from qw.core.queue.limits import FIELDS, Limits
from qw.core.schedule import Schedule
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow
from qw.store import applied, queues, runs, schedules
from qw.store.connection import Connection

Documents: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class DesiredDefinitions:
    """The definitions of one kind in a set of files, by name: parsed values and source documents."""

    values: Mapping[str, Any]
    documents: Mapping[str, JsonObject]


@dataclass(frozen=True, kw_only=True)
class Section:
    """How one kind of definition is read, stored and deleted. ``key`` is its section in a file.

    ``known`` takes the desired definitions and the documents applied before, and returns the current documents of
    those that exist; if a current definition equals the desired one, it returns the desired document. ``put`` takes
    name, value and who applies; ``remove`` takes the name and the document that was applied.
    """

    kind: str
    key: str
    known: Callable[[Connection, DesiredDefinitions, Mapping[str, JsonObject]], Awaitable[Documents]]
    put: Callable[[Connection, Any, str], Awaitable[None]]
    remove: Callable[[Connection, str, JsonObject], Awaitable[None]]


async def _known_workflows(conn: Connection, wanted: DesiredDefinitions, owned: Mapping[str, JsonObject]) -> Documents:
    return {workflow.name: workflow.document for workflow in await runs.workflows(conn)}


async def _put_workflow(conn: Connection, workflow: Workflow, by: str) -> None:
    await runs.save_workflow(conn, workflow.name, workflow.document)


async def _remove_workflow(conn: Connection, name: str, document: JsonObject) -> None:
    await applied.remove_workflow(conn, name)


async def _known_schedules(conn: Connection, wanted: DesiredDefinitions, owned: Mapping[str, JsonObject]) -> Documents:
    """Ignores ``paused``, which operators set. A schedule that exists but was never applied has an empty document."""
    documents: dict[str, Json] = {}
    for name, schedule in wanted.values.items():
        if known := await schedules.get(conn, name):
            is_same = replace(known.schedule, paused=False) == replace(schedule, paused=False)
            documents[name] = wanted.documents[name] if is_same else owned.get(name, {})
    return documents


async def _put_schedule(conn: Connection, schedule: Schedule, by: str) -> None:
    await put_schedule(conn, schedule)


async def _remove_schedule(conn: Connection, name: str, document: JsonObject) -> None:
    if known := await schedules.lock(conn, name):
        await drop_schedule(conn, known)


async def _known_queues(conn: Connection, wanted: DesiredDefinitions, owned: Mapping[str, JsonObject]) -> Documents:
    """For queues applied before: the current values of the settings that the files define."""
    paused, limits = {queue.name for queue in await queues.paused(conn)}, await queues.limits(conn)
    return {
        name: _standing(wanted.values[name], document, owned[name], name in paused, limits.get(name))
        for name, document in wanted.documents.items()
        if name in owned
    }


def _standing(
    queue: Queue, document: JsonObject, owned: JsonObject, is_paused: bool, limits: Limits | None
) -> JsonObject:
    said = document | owned
    standing = {key: is_paused if key == "paused" else value for key, value in said.items() if key not in FIELDS}
    if queue.limits is not None and queue.limits == limits:  # equal, even if written differently
        return standing | {key: value for key, value in document.items() if key in FIELDS}
    return standing | (limits.document() if limits and not said.keys().isdisjoint(FIELDS) else {})


async def _put_queue(conn: Connection, queue: Queue, by: str) -> None:
    if queue.paused:
        await queues.pause(conn, queue.name, by=by)
    elif queue.paused is False:
        await queues.resume(conn, queue.name)
    if queue.limits is not None:
        await queues.set_limits(conn, queue.name, queue.limits)


async def _remove_queue(conn: Connection, name: str, document: JsonObject) -> None:
    if document.get("paused"):
        await queues.resume(conn, name)
    if not document.keys().isdisjoint(FIELDS):
        await queues.set_limits(conn, name, None)


def _kept(kind: str, key: str) -> Section:
    """A kind that is stored only as its document."""

    async def known(conn: Connection, wanted: DesiredDefinitions, owned: Mapping[str, JsonObject]) -> Documents:
        return owned

    async def put(conn: Connection, value: object, by: str) -> None:
        """Nothing more to store: the ownership row holds the document."""

    async def remove(conn: Connection, name: str, document: JsonObject) -> None:
        """Nothing more to delete; see `put`."""

    return Section(kind=kind, key=key, known=known, put=put, remove=remove)


SECTIONS = (
    Section(kind="workflow", key="workflows", known=_known_workflows, put=_put_workflow, remove=_remove_workflow),
    Section(kind="schedule", key="schedules", known=_known_schedules, put=_put_schedule, remove=_remove_schedule),
    Section(kind="queue", key="queues", known=_known_queues, put=_put_queue, remove=_remove_queue),
    _kept("command", "commands"),
    _kept("webhook", "webhooks"),
)
