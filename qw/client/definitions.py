"""`Client.definitions`: compare definition files with the database (diff) and apply them, in one transaction.

A set of files has a name, its owner. Applying a definition that another set owns is refused unless it is taken over.
A definition that the set applied before and no longer defines is deleted only with *prune*; if runs, schedules or
workflows still use it, only with *force*. `qw.client.definition_kinds` defines the kinds of definitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qw.client.acting import audited
from qw.client.connections import Namespace
from qw.client.definition_kinds import SECTIONS, DesiredDefinitions, Section
from qw.client.queues import Queues
from qw.core.errors import Conflict, Invalid, guess
from qw.core.event.webhook import Webhook
from qw.core.schedule import Schedule, TaskTarget, WorkflowTarget
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow
from qw.core.workflow.references import Reference, references
from qw.core.workflow.step_kinds import KINDS
from qw.core.workflow.task_template import COMMAND
from qw.definitions import Definitions
from qw.store import applied, events, runs, types
from qw.store.applied import Applied, How, Owned
from qw.store.connection import Connection

if TYPE_CHECKING:
    from qw.client.schedule_import import ImportedSchedule
    from qw.core.schedule.crontab import CronJob


@dataclass(frozen=True, kw_only=True)
class DefinitionChange:
    """The change of one definition. ``before`` and ``after``: its documents; None if it does not exist then.

    ``taken_from``: the other set that owns the definition now. ``needed_by``: users of a definition to be deleted.
    """

    kind: str
    name: str
    how: How
    before: Json = None
    after: Json = None
    taken_from: str | None = None
    needed_by: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes ordered by kind and name. ``warnings``: what the definitions need and the database lacks."""

    changes: list[DefinitionChange]
    warnings: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return all(change.how in (How.UNCHANGED, How.LEFT) and not change.taken_from for change in self.changes)


class DefinitionSets(Namespace):
    async def diff(self, files: Sequence[Definitions], *, owner: str, prune: bool = False) -> Changes:
        """Return the changes that `apply` would make. Raise Invalid as `apply` does."""
        async with self._db.connection() as conn:
            return await _changes(conn, _Set.of(files, owner), prune=prune)

    @audited("apply")
    async def apply(
        self,
        files: Sequence[Definitions],
        *,
        owner: str,
        by: str,
        prune: bool = False,
        take_over: bool = False,
        force: bool = False,
    ) -> Changes:
        """Apply *files* in one transaction and record *by* in the history. Return the changes. Idempotent.

        *prune* also deletes definitions that *owner* applied before and no longer defines; their runs continue.
        Raise Invalid for faulty definitions; Conflict for definitions of another owner (unless *take_over*) and for
        deleting definitions still in use (unless *force*).
        """
        wanted = _Set.of(files, owner)
        async with self._db.operating() as conn, conn.transaction():
            await applied.lock(conn)
            changes = await _changes(conn, wanted, prune=prune)
            _check_owners(changes, owner, take_over=take_over)
            _check_needed(changes, force=force)
            for section in SECTIONS:
                for change in (candidate for candidate in changes.changes if candidate.kind == section.kind):
                    await _make(conn, section, change, wanted, by)
            await applied.own(conn, wanted.owned)
            if not changes.is_empty:
                said: Json = [
                    {"kind": candidate.kind, "name": candidate.name, "how": candidate.how.value}
                    for candidate in changes.changes
                ]
                await applied.record(conn, owner=owner, by=by, changes=said)
        for change in changes.changes:
            if change.kind == "queue" and change.how in (How.ADDED, How.CHANGED, How.REMOVED):
                await Queues(self._db).follow_limits(change.name)
        return changes

    @audited("schedule import crontab")
    async def import_crontab(
        self,
        jobs: Sequence[CronJob],
        owner: str,
        *,
        by: str,
        prefix: str = "",
        prune: bool = False,
        replace: bool = False,
    ) -> list[ImportedSchedule]:
        """Add or update one schedule of *owner* for each job of a crontab, in one transaction. Idempotent.

        *prune* deletes schedules whose job is no longer in the crontab. Raise Conflict for names that another owner
        has (unless *replace*), Invalid for jobs that cannot be schedules; in both cases nothing is changed.
        """
        from qw.client.schedule_import import import_crontab

        return await import_crontab(self._db, jobs, owner=owner, by=by, prefix=prefix, prune=prune, replace=replace)

    async def history(self, *, limit: int = 20) -> list[Applied]:
        """Return the last *limit* applies, newest first: who applied what, and when."""
        async with self._db.connection() as conn:
            return await applied.history(conn, limit=limit)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """The definitions of a set of files, by kind."""

    owner: str
    of_kind: Mapping[str, DesiredDefinitions]
    left_out: Sequence[str]
    warnings: Sequence[str]

    @classmethod
    def of(cls, files: Sequence[Definitions], owner: str) -> _Set:
        """Merge the files. Raise Invalid for a name that two files define."""
        by_kind = {section.kind: _wanted(section, files) for section in SECTIONS}
        return cls(
            owner=owner,
            of_kind=by_kind,
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
                raise Invalid(f"{file.source}: the {section.kind} {name} is also defined in another of these files")
            documents[name] = document if isinstance(document, dict) else {}
        values |= getattr(file, section.key)
    return DesiredDefinitions(values=values, documents=documents)


async def _changes(conn: Connection, wanted: _Set, *, prune: bool) -> Changes:
    owned = await applied.owned(conn)
    changes: list[DefinitionChange] = []
    for section in SECTIONS:
        desired = wanted.of_kind[section.kind]
        ours = {definition.name: definition for definition in owned if definition.kind == section.kind}
        known = await section.known(conn, desired, {name: definition.document for name, definition in ours.items()})
        found = [
            _compared(section.kind, name, known.get(name), after, _other_owner(ours.get(name), wanted.owner))
            for name, after in desired.documents.items()
        ]
        how = How.REMOVED if prune else How.LEFT
        found += [
            DefinitionChange(kind=section.kind, name=name, how=how, before=definition.document)
            for name, definition in ours.items()
            if definition.owner == wanted.owner and name not in desired.documents
        ]
        changes += sorted(found, key=lambda change: change.name)
    await _check_children(conn, wanted, changes)
    changes = await _with_needs(conn, wanted, changes)
    return Changes(changes=changes, warnings=await _warnings(conn, wanted))


def _compared(kind: str, name: str, before: Json, after: Json, taken_from: str | None) -> DefinitionChange:
    how = How.ADDED if before is None else How.UNCHANGED if before == after else How.CHANGED
    return DefinitionChange(kind=kind, name=name, how=how, before=before, after=after, taken_from=taken_from)


def _other_owner(owned: Owned | None, owner: str) -> str | None:
    return owned.owner if owned and owned.owner != owner else None


def _check_owners(planned: Changes, owner: str, *, take_over: bool) -> None:
    foreign = [
        f"{change.kind} {change.name} belongs to {change.taken_from}" for change in planned.changes if change.taken_from
    ]
    if foreign and not take_over:
        raise Conflict(
            f"{'; '.join(foreign)}; this set is {owner}. Nothing was changed: rename it, give both sets the same "
            "owner (owner: or --owner), or take it over with --take-over"
        )


def _check_needed(planned: Changes, *, force: bool) -> None:
    needed = [
        f"{change.kind} {change.name} is needed by {', '.join(change.needed_by)}"
        for change in planned.changes
        if change.needed_by
    ]
    if needed and not force:
        raise Conflict(f"{'; '.join(needed)}. Nothing was changed; --force removes it anyway, and active runs continue")


async def _with_needs(conn: Connection, wanted: _Set, changes: Sequence[DefinitionChange]) -> list[DefinitionChange]:
    """Return *changes*; each deletion also lists what still uses the definition."""
    gone = {
        (change.kind, change.name)
        for change in changes
        if change.how is How.REMOVED and change.kind in ("workflow", "command")
    }
    if not gone:
        return list(changes)
    users: dict[Reference, list[str]] = {removed: [] for removed in gone}
    for user, reference in await _users(conn, wanted, changes):
        if reference in users:
            users[reference].append(user)
    return [replace(change, needed_by=tuple(users.get((change.kind, change.name), ()))) for change in changes]


async def _users(conn: Connection, wanted: _Set, changes: Sequence[DefinitionChange]) -> list[tuple[str, Reference]]:
    """Return what will use each workflow and command after the apply, including open runs."""
    gone = {(change.kind, change.name) for change in changes if change.how is How.REMOVED}
    documents = {stored.name: stored.document for stored in await runs.workflows(conn)}
    documents |= wanted.of_kind["workflow"].documents
    kept = [(name, document) for name, document in sorted(documents.items()) if ("workflow", name) not in gone]
    uses = [(f"workflow {name}", used) for name, document in kept for used in sorted(references(document))]
    for name, workflow, command in await applied.schedules(conn):
        if ("schedule", name) not in gone and name not in wanted.schedules:
            uses += [(f"schedule {name}", ("workflow", workflow))] if workflow else []
            uses += [(f"schedule {name}", ("command", command))] if command else []
    for name, schedule in sorted(wanted.schedules.items()):
        if isinstance(schedule.target, TaskTarget) and schedule.target.type == COMMAND:
            uses.append((f"schedule {name}", ("command", str(schedule.target.payload.get("command")))))
    counts: Counter[tuple[str, Reference]] = Counter()
    for name, count, document in await applied.open_runs(conn):
        for used in {("workflow", name), *references(document)}:
            counts[name, used] += count
    for (name, used), count in sorted(counts.items()):
        uses.append((f"{count} run{'s' if count > 1 else ''} of {name} in progress", used))
    return uses


async def _check_children(conn: Connection, wanted: _Set, changes: Sequence[DefinitionChange]) -> None:
    """Check that every workflow started by a step or a schedule exists after the apply."""
    gone = {change.name for change in changes if change.how is How.REMOVED and change.kind == "workflow"}
    known = ({workflow.name for workflow in await runs.workflows(conn)} | set(wanted.workflows)) - gone
    faults = [
        f"step {step} of workflow {name} starts {child!r}, which does not exist{guess(child, known)}"
        for name, document in wanted.workflows.items()
        for step, child in document.children.items()
        if child not in known
    ]
    faults += [
        f"schedule {name} starts {target.workflow!r}, which does not exist{guess(target.workflow, known)}"
        for name, schedule in wanted.schedules.items()
        if isinstance(target := schedule.target, WorkflowTarget) and target.workflow not in known
    ]
    if faults:
        raise Invalid(*faults)


async def _warnings(conn: Connection, wanted: _Set) -> list[str]:
    served = await types.names(conn)
    warnings = [
        f"workflow {name}: no worker has registered the task type {type!r}{guess(type, [*served, *KINDS])}"
        for name, workflow in wanted.workflows.items()
        for type in sorted(workflow.types.difference(served))
    ]
    if wanted.webhooks and not await events.states(conn):
        warnings.append("webhooks: no running daemon delivers events yet; daemons started from now on will")
    warnings += wanted.warnings
    warnings += [
        f"{source}: remote: is not applied; each daemon reads this section from its own file"
        for source in wanted.left_out
    ]
    return warnings


async def _make(conn: Connection, section: Section, change: DefinitionChange, wanted: _Set, by: str) -> None:
    if change.how in (How.ADDED, How.CHANGED):
        await section.put(conn, wanted.of_kind[section.kind].values[change.name], by)
    elif change.how is How.REMOVED:
        assert isinstance(change.before, dict)
        await section.remove(conn, change.name, change.before)
        await applied.disown(conn, section.kind, change.name)


__all__ = ["Changes", "DefinitionChange", "DefinitionSets", "How"]
