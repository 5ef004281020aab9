"""Definitions from files into the database: what would change, and the change, whole or not at all.

A set of files has a name, its owner. What it applied before and does not define any more is only removed when asked
for, and only while no other set has applied it since. `qw.client.definition_kinds` has the kinds of definitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from qw.client import Client, admin
from qw.client.definition_kinds import SECTIONS, DesiredDefinitions, Section
from qw.core.errors import Invalid, guess
from qw.core.event.webhook import Webhook
from qw.core.schedule import Schedule, WorkflowTarget
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow
from qw.core.workflow.step_kinds import KINDS
from qw.definitions import Definitions
from qw.store import applied, events, runs, types
from qw.store.applied import Applied, Owned
from qw.store.connection import Connection


class How(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    LEFT = "left"  # no file of the set defines it any more; it stays, since nobody asked to remove it


@dataclass(frozen=True, kw_only=True)
class DefinitionChange:
    """What becomes of one definition. ``before`` and ``after`` are its documents, as far as they are known."""

    kind: str
    name: str
    how: How
    before: Json = None
    after: Json = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """In order of kind and name. ``warnings`` say what will not work yet."""

    changes: list[DefinitionChange]
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
        for section in SECTIONS:
            for change in (one for one in found.changes if one.kind == section.kind):
                await _make(conn, section, change, wanted, by)
        await applied.own(conn, wanted.owned)
        if not found.is_empty:
            said: Json = [{"kind": one.kind, "name": one.name, "how": one.how.value} for one in found.changes]
            await applied.record(conn, owner=owner, by=by, changes=said)
    for change in found.changes:
        if change.kind == "queue" and change.how in (How.ADDED, How.CHANGED, How.REMOVED):
            await admin.follow_limits(client, change.name)
    return found


async def history(client: Client, *, limit: int = 20) -> list[Applied]:
    """Who applied what, the newest first."""
    async with client.connection() as conn:
        return await applied.history(conn, limit=limit)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """What a set of files defines, by kind."""

    owner: str
    of_kind: Mapping[str, DesiredDefinitions]
    left_out: Sequence[str]
    warnings: Sequence[str]

    @classmethod
    def of(cls, files: Sequence[Definitions], owner: str) -> _Set:
        """Raise Invalid for a name that two files define."""
        found = {section.kind: _wanted(section, files) for section in SECTIONS}
        return cls(
            owner=owner,
            of_kind=found,
            left_out=[file.source for file in files if file.remotes],
            warnings=[str(fault) for file in files for fault in file.warnings],
        )

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        return self.of_kind["workflow"].values

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        return self.of_kind["schedule"].values

    @property
    def webhooks(self) -> Mapping[str, Webhook]:
        return self.of_kind["webhook"].values

    @property
    def owned(self) -> list[Owned]:
        return [
            Owned(kind, name, self.owner, document)
            for kind, wanted in self.of_kind.items()
            for name, document in wanted.documents.items()
        ]


def _wanted(section: Section, files: Sequence[Definitions]) -> DesiredDefinitions:
    documents: dict[str, JsonObject] = {}
    values: dict[str, object] = {}
    for file in files:
        said = file.document.get(section.key) or {}
        assert isinstance(said, dict)
        for name, document in said.items():
            if name in documents:
                raise Invalid(f"{file.source}: the {section.kind} {name} is defined in another of these files too")
            documents[name] = document if isinstance(document, dict) else {}
        values |= getattr(file, section.key)
    return DesiredDefinitions(values=values, documents=documents)


async def _changes(conn: Connection, wanted: _Set, *, prune: bool) -> Changes:
    owned = await applied.owned(conn)
    changes: list[DefinitionChange] = []
    for section in SECTIONS:
        one = wanted.of_kind[section.kind]
        ours = {each.name: each for each in owned if each.kind == section.kind}
        known = await section.known(conn, one, {name: each.document for name, each in ours.items()})
        found = [_compared(section.kind, name, known.get(name), after) for name, after in one.documents.items()]
        how = How.REMOVED if prune else How.LEFT
        found += [
            DefinitionChange(kind=section.kind, name=name, how=how, before=each.document)
            for name, each in ours.items()
            if each.owner == wanted.owner and name not in one.documents
        ]
        changes += sorted(found, key=lambda change: change.name)
    await _check_children(conn, wanted, changes)
    return Changes(changes=changes, warnings=await _warnings(conn, wanted))


def _compared(kind: str, name: str, before: Json, after: Json) -> DefinitionChange:
    how = How.ADDED if before is None else How.UNCHANGED if before == after else How.CHANGED
    return DefinitionChange(kind=kind, name=name, how=how, before=before, after=after)


async def _check_children(conn: Connection, wanted: _Set, changes: Sequence[DefinitionChange]) -> None:
    """Every workflow that a step or a schedule starts is there once all is applied."""
    gone = {change.name for change in changes if change.how is How.REMOVED and change.kind == "workflow"}
    known = ({one.name for one in await runs.workflows(conn)} | set(wanted.workflows)) - gone
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
    served = await types.names(conn)
    found = [
        f"workflow {name}: no worker has registered the task type {type!r}{guess(type, [*served, *KINDS])}"
        for name, one in wanted.workflows.items()
        for type in sorted(one.types.difference(served))
    ]
    if wanted.webhooks and not await events.states(conn):
        found.append("webhooks: no running daemon hands over events; one that starts from now on will")
    found += wanted.warnings
    found += [f"{source}: remote: is not applied; each daemon reads it from its own file" for source in wanted.left_out]
    return found


async def _make(conn: Connection, section: Section, change: DefinitionChange, wanted: _Set, by: str) -> None:
    if change.how in (How.ADDED, How.CHANGED):
        await section.put(conn, wanted.of_kind[section.kind].values[change.name], by)
    elif change.how is How.REMOVED:
        assert isinstance(change.before, dict)
        await section.remove(conn, change.name, change.before)
        await applied.disown(conn, section.kind, change.name)


__all__ = ["Changes", "DefinitionChange", "How", "apply", "diff", "history"]
