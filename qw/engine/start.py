"""Starts runs of workflows with their first tasks, in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from uuid import UUID

import orjson

from qw.core.errors import Conflict, NotFound, among
from qw.core.task import key_faults, run_at_faults
from qw.core.task.payload import JsonObject, raise_faults
from qw.core.workflow import Workflow, check_input, parse_workflow
from qw.engine.advance import advance_new
from qw.store import runs, workflows
from qw.store.connection import Connection
from qw.store.grants import access


async def start_run(
    conn: Connection,
    id: UUID,
    workflow: str,
    input: JsonObject,
    *,
    run_at: datetime | None = None,
    filed_under: UUID | None = None,
    idempotency_key: str | None = None,
) -> UUID:
    """Start a run of the newest version. Return its id, or the id of the run that already has the key.

    Safe to repeat with the same *id* or *idempotency_key*; raise Conflict if the workflow or the input differ. Raise
    the errors of `checked_input`. The first tasks wait until *run_at*. *filed_under*: the workflow under which the run
    is shown, if not its own.
    """
    raise_faults(iter([*run_at_faults(run_at), *key_faults("idempotency_key", idempotency_key)]))
    if not (await access(conn)).writes:
        return await runs.start_checked(conn, id, workflow, input, key=idempotency_key, run_at=run_at)
    checked = await checked_input(conn, workflow, input)
    if idempotency_key is not None:
        holder = await runs.take_key(conn, idempotency_key, id, f"run {workflow}", checked)
        if holder != id:
            return holder
    if await runs.start(conn, id, workflow, checked):
        await advance_new(conn, id, run_at=run_at)
        if filed_under:
            await workflows.file_run(conn, id, filed_under)
    elif not (known := await runs.get(conn, [id])):
        raise _inactive(workflow)
    elif known[0].workflow != workflow or any(known[0].input.get(key) != checked[key] for key in input):
        raise Conflict(f"run {id} exists with another workflow or input: it is a run of {known[0].workflow}", holder=id)
    return id


async def checked_input(conn: Connection, workflow: str, input: JsonObject) -> JsonObject:
    """Return the input of a run with defaults added. Raise NotFound, Conflict or Invalid if the run cannot start."""
    stored = await runs.workflows(conn, workflow)
    if not stored:
        known = [stored.name for stored in await runs.workflows(conn)]
        raise NotFound(f"there is no workflow {workflow!r}{among(workflow, known)}")
    if not stored[0].is_active:
        raise _inactive(workflow)
    return check_input(_parsed(workflow, orjson.dumps(stored[0].document)), input)


@lru_cache(maxsize=64)
def _parsed(name: str, document: bytes) -> Workflow:
    return parse_workflow(name, orjson.loads(document))


def _inactive(workflow: str) -> Conflict:
    return Conflict(f"workflow {workflow} is not active; activate it first")
