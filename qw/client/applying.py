"""Definitions from files into the database: what would change, and the change, whole or not at all.

A set of files has a name, its owner. What it applied before and does not define any more is only removed when asked
for, and only while no other set has applied it since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from qw.client import Client
from qw.client.schedules import put
from qw.core.errors import Invalid, guess
from qw.core.payload import Json, JsonObject
from qw.core.schedule import Schedule, WorkflowTarget
from qw.core.workflow import Workflow
from qw.definitions import Definitions
from qw.store import applied, runs, schedules, workers
from qw.store.applied import Applied, Owned
from qw.store.connection import Connection


class How(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    LEFT = "left"  # no file of the set defines it any more; it stays, since nobody asked to remove it


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of one definition. ``before`` and ``after`` are its documents, as far as they are known."""

    kind: str
    name: str
    how: How
    before: Json = None
    after: Json = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """In order of kind and name. ``warnings`` say what will not work yet."""

    changes: list[Change]
    warnings: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return all(change.how in (How.UNCHANGED, How.LEFT) for change in self.changes)


async def diff(client: Client, files: Sequence[Definitions], *, owner: str, prune: bool = False) -> Changes:
    """What `apply` would do. Raise Invalid where it would."""
    async with client.connection() as conn:
        return await _changes(conn, _Set.of(files, owner), prune=prune)


async def apply(client: Client, files: Sequence[Definitions], *, owner: str, by: str, prune: bool = False) -> Changes:
    """Make the database say what *files* say, in one transaction, and keep who did it. Safe to repeat.

    With *prune* definitions are removed that this owner applied before and does not define any more; their runs go on.
    """
    wanted = _Set.of(files, owner)
    async with client.connection() as conn, conn.transaction():
        await applied.lock(conn)
        found = await _changes(conn, wanted, prune=prune)
        for change in found.changes:
            await _make(conn, change, wanted)
        await applied.own(conn, [Owned(kind, name, owner, one) for (kind, name), one in wanted.documents.items()])
        if not found.is_empty:
            said: Json = [{"kind": one.kind, "name": one.name, "how": one.how.value} for one in found.changes]
            await applied.record(conn, owner=owner, by=by, changes=said)
    return found


async def history(client: Client, *, limit: int = 20) -> list[Applied]:
    """Who applied what, the newest first."""
    async with client.connection() as conn:
        return await applied.history(conn, limit=limit)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """What a set of files defines, by name."""

    owner: str
    workflows: Mapping[str, Workflow]
    schedules: Mapping[str, Schedule]
    documents: Mapping[tuple[str, str], JsonObject]

    @classmethod
    def of(cls, files: Sequence[Definitions], owner: str) -> _Set:
        """Raise Invalid for a name that two files define."""
        workflows: dict[str, Workflow] = {}
        known: dict[str, Schedule] = {}
        documents: dict[tuple[str, str], JsonObject] = {}
        for file in files:
            workflows |= file.workflows
            known |= file.schedules
            for kind, names in (("workflow", file.workflows), ("schedule", file.schedules)):
                for name in names:
                    if (kind, name) in documents:
                        raise Invalid(f"{file.source}: the {kind} {name} is defined in another of these files too")
                    said = file.document[f"{kind}s"]
                    assert isinstance(said, dict)
                    document = said[name]
                    assert isinstance(document, dict)
                    documents[kind, name] = document
        return cls(owner=owner, workflows=workflows, schedules=known, documents=documents)


async def _changes(conn: Connection, wanted: _Set, *, prune: bool) -> Changes:
    stored: dict[str, JsonObject] = {one.name: one.document for one in await runs.workflows(conn)}
    owned = {(one.kind, one.name): one for one in await applied.owned(conn)}
    changes = [_compared("workflow", name, stored.get(name), one.document) for name, one in wanted.workflows.items()]
    for name, schedule in wanted.schedules.items():
        known = await schedules.get(conn, name)
        said = owned.get(("schedule", name))
        before: Json = None if known is None else said.document if said else {}
        if known and replace(known.schedule, paused=False) == replace(schedule, paused=False):
            before = wanted.documents["schedule", name]
        changes.append(_compared("schedule", name, before, wanted.documents["schedule", name]))
    for key, one in owned.items():
        if one.owner == wanted.owner and key not in wanted.documents:
            how = How.REMOVED if prune else How.LEFT
            changes.append(Change(kind=one.kind, name=one.name, how=how, before=one.document))
    changes.sort(key=lambda change: (change.kind != "workflow", change.name))
    gone = {change.name for change in changes if change.how is How.REMOVED and change.kind == "workflow"}
    _check_children(wanted, (set(stored) | set(wanted.workflows)) - gone)
    return Changes(changes=changes, warnings=await _warnings(conn, wanted))


def _compared(kind: str, name: str, before: Json, after: Json) -> Change:
    how = How.ADDED if before is None else How.UNCHANGED if before == after else How.CHANGED
    return Change(kind=kind, name=name, how=how, before=before, after=after)


def _check_children(wanted: _Set, known: set[str]) -> None:
    """Every workflow that a step or a schedule starts is there once all is applied."""
    faults = [
        f"step {step} of workflow {name} starts {child!r}, which is not a workflow{guess(child, known)}"
        for name, one in wanted.workflows.items()
        for step, child in one.children.items()
        if child not in known
    ]
    faults += [
        f"schedule {name} starts {target.workflow!r}, which is not a workflow{guess(target.workflow, known)}"
        for name, one in wanted.schedules.items()
        if isinstance(target := one.target, WorkflowTarget) and target.workflow not in known
    ]
    if faults:
        raise Invalid(*faults)


async def _warnings(conn: Connection, wanted: _Set) -> list[str]:
    served = await workers.types(conn)
    return [
        f"workflow {name}: nobody has ever served the type {type!r}{guess(type, served)}"
        for name, one in wanted.workflows.items()
        for type in sorted(one.types.difference(served))
    ]


async def _make(conn: Connection, change: Change, wanted: _Set) -> None:
    match change.kind, change.how:
        case "workflow", How.ADDED | How.CHANGED:
            await runs.keep_workflow(conn, change.name, wanted.workflows[change.name].document)
        case "schedule", How.ADDED | How.CHANGED:
            await put(conn, wanted.schedules[change.name])
        case "workflow", How.REMOVED:
            await applied.remove_workflows(conn, [change.name])
            await applied.disown(conn, [Owned(change.kind, change.name, wanted.owner, {})])
        case "schedule", How.REMOVED:
            if known := await schedules.lock(conn, change.name):
                await schedules.remove(conn, known.id)
            await applied.disown(conn, [Owned(change.kind, change.name, wanted.owner, {})])


__all__ = ["Change", "Changes", "How", "apply", "diff", "history"]
