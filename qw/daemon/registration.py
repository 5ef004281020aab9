"""Registers what a daemon serves: task types, and the workflows in its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from qw.client.connections import Connections
from qw.client.definitions import DefinitionSets, How
from qw.core.errors import LacksRight
from qw.core.schedule.document import parse_schedule
from qw.core.task.command import CommandSpec
from qw.core.task.payload import JsonObject
from qw.definitions import Definitions
from qw.handlers import Handlers
from qw.store import applied, claims, runs, types
from qw.store.connection import Connection
from qw.store.pool import Pool

log = logging.getLogger(__name__)


async def offer_types(conn: Connection, handlers: Handlers) -> None:
    """Register the types of these handlers and release their parked tasks."""
    served = {handler.type: (handler.schema, handler.policy) for handler in handlers}
    await types.serve(conn, served)
    await claims.release_unserved(conn, sorted(served))


async def offer_workflows(conn: Connection, definitions: Sequence[Definitions], *, again: bool = False) -> None:
    """Store workflows, each version once. It becomes the current version unless it was so before.

    Workflows that were applied with `qw apply` are left unchanged. Everything else in a file belongs to this daemon,
    or needs `qw apply`; the log says so, unless this is done *again*.
    """
    kept = await applied.of_kind(conn, "workflow")
    for definition in definitions:
        if (definition.schedules or definition.queues) and not again:
            log.warning("schedules and queues are ignored here; use qw apply", extra={"file": definition.source})
        for name, workflow in definition.workflows.items():
            if name in kept:
                if kept[name] != workflow.document and not again:
                    log.warning(
                        "workflow not stored: it is managed by qw apply",
                        extra={"workflow": name, "file": definition.source},
                    )
            elif await runs.offer_workflow(conn, name, workflow.document):
                log.info("workflow stored", extra={"workflow": name})


async def offer_schedules(pool: Pool, handlers: Handlers, *, owner: str, by: str) -> None:
    """Store the schedules that the application declares, and remove those of *owner* that it no longer declares.

    A role with only the right to work cannot store schedules; this is logged, and the daemon runs without them.
    """
    document: JsonObject = {"schedules": dict(handlers.schedules)}
    declared = {name: parse_schedule(name, schedule) for name, schedule in handlers.schedules.items()}
    wanted = [Definitions(workflows={}, commands={}, schedules=declared, source=owner, document=document)]
    sets = DefinitionSets(Connections(pool))
    if (await sets.diff(wanted, owner=owner, prune=True)).is_empty:
        return
    try:
        changes = await sets.apply(wanted, owner=owner, by=by, prune=True)
    except LacksRight as error:
        log.error("schedules of the application not stored", extra={"app": owner, "error": str(error)})
        return
    for change in changes.changes:
        if change.how is not How.UNCHANGED:
            log.info("schedule of the application stored", extra={"schedule": change.name, "how": change.how.value})


def commands_of(definitions: Sequence[Definitions]) -> dict[str, CommandSpec]:
    """The declared commands, by name."""
    return {name: command for definition in definitions for name, command in definition.commands.items()}
