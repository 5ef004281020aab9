"""The audit: who changed what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from qw.store.audit import LAST_ENTRY, AuditEntry
from qw.web.fields import Form, Limit, QueryMoment, Stamp
from qw.web.route import Request, get
from qw.web.serializers import stamp

Via = Literal["cli", "http", "dashboard", "python", "sql"]


class AuditQuery(Form):
    """``verb``: a command, such as ``task retry``, or all of a group: ``task``. ``before``: only entries with a
    lower id.
    """

    actor: str | None = None
    verb: str | None = None
    via: Via | None = None
    since: QueryMoment = None
    before: Annotated[int, Field(ge=1, le=LAST_ENTRY)] = LAST_ENTRY
    limit: Limit = 100


class AuditEntity(TypedDict):
    id: int
    at: Stamp
    actor: str
    via: str
    verb: str
    target: str
    count: int | None
    outcome: str
    detail: str | None


class AuditPage(TypedDict):
    entries: list[AuditEntity]
    nextCursor: int | None


async def find(call: Request[None, AuditQuery]) -> AuditPage:
    """List changes made through the command line, HTTP, the dashboard, Python and SQL, newest first."""
    query = call.query
    entries = await call.client.audit.find(
        before=query.before, limit=query.limit, actor=query.actor, verb=query.verb, via=query.via, since=query.since
    )
    return {
        "entries": [_entry(entry) for entry in entries],
        "nextCursor": entries[-1].id if len(entries) == query.limit else None,
    }


def _entry(entry: AuditEntry) -> AuditEntity:
    return {
        "id": entry.id,
        "at": stamp(entry.at),
        "actor": entry.actor,
        "via": entry.via,
        "verb": entry.verb,
        "target": entry.target,
        "count": entry.count,
        "outcome": entry.outcome,
        "detail": entry.detail,
    }


ROUTES = (get("/api/audit", find, AuditPage, query=AuditQuery),)
