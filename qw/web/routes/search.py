"""Task search, and bulk operations on all matching tasks, in the background."""

from __future__ import annotations

from typing import Any, Literal, NotRequired
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

from qw.client.search import Acting
from qw.core.errors import TimedOut
from qw.core.search import FIELDS
from qw.core.task import Status
from qw.store.bulk import BulkState
from qw.store.tasks import LAST_ID
from qw.web.errors import RETRY_AFTER, Problem
from qw.web.fields import Form, Id, Limit, Stamp, Switch
from qw.web.json import JsonResponse
from qw.web.route import Request, get, post
from qw.web.routes.tasks import MessageAnswer
from qw.web.serializers import TaskEntity, entities, stamp, stamp_or_none
from qw.web.shown import brief

Action = Literal["retry", "cancel", "requeue", "compensate"]
MOST_IDS = 10_000


class SearchQuery(Form):
    """``q``: terms that must all match, as ``status:failed type:send_email queue:mail since:2h run:ID id:0192
    payload.customerId:zoe "text in error"``. ``count``: whether to count. ``after``: also say how many are newer.
    ``brief``: shorten payloads and leave out results.
    """

    q: str = ""
    limit: Limit = 100
    cursor: UUID = LAST_ID
    count: bool = True
    after: UUID | None = None
    brief: bool = False


class BulkActForm(Form):
    """``q``: a search as in ``/api/search/tasks``; without a status, all statuses to which the action applies. Or
    ``ids``.

    ``running``: also cancel running tasks. ``dryRun``: only count.
    """

    action: Action
    q: str | None = None
    ids: list[UUID] | None = Field(default=None, max_length=MOST_IDS)
    running: Switch = False
    reason: str = Field(default="", max_length=200)
    dry_run: Switch = False


class BulkQuery(Form):
    limit: Limit = 100


class TermEntity(TypedDict):
    field: str
    value: str
    text: str


class SearchPage(TypedDict):
    tasks: list[TaskEntity]
    nextCursor: Id | None
    terms: list[TermEntity]
    count: NotRequired[int]
    countIsEstimate: NotRequired[bool]
    newer: NotRequired[int]


class FieldEntity(TypedDict):
    name: str
    about: str
    values: list[str]


class SearchFields(TypedDict):
    fields: list[FieldEntity]


class BulkEntity(TypedDict):
    id: int
    action: Action
    q: str | None
    ids: int | None
    by: str
    state: Literal["running", "done", "stopped", "failed", "interrupted"]
    matched: int
    isEstimate: bool
    done: int
    skipped: dict[str, int]
    startedAt: Stamp
    finishedAt: Stamp | None
    error: str | None


class BulkCount(TypedDict):
    matched: int
    isEstimate: bool


class Bulks(TypedDict):
    bulks: list[BulkEntity]


async def find(call: Request[None, SearchQuery]) -> SearchPage:
    """Search tasks, newest first; ``nextCursor`` is the cursor of the next page.

    A search that takes longer than three seconds is stopped: 503 with the code ``search_timeout``. The count is exact
    to 10,000 and estimated beyond, or where counting takes too long.
    """
    query, search = call.query, call.client.search
    try:
        wanted, tasks = await search.find(query.q, limit=query.limit, before=query.cursor)
        found = await entities(call.client, tasks, shown=call.shown)
        if query.brief:
            for task in found:
                task["payload"], task["result"] = brief(task["payload"]), None
        page: SearchPage = {
            "tasks": found,
            "nextCursor": str(tasks[-1].id) if len(tasks) == query.limit else None,
            "terms": [{"field": term.field, "value": term.value, "text": term.text} for term in wanted.terms],
        }
        if query.count:
            total = await search.count(wanted)
            page["count"], page["countIsEstimate"] = total.count, total.is_estimate
        if query.after is not None:
            page["newer"] = await search.newer(wanted, query.after)
    except TimedOut as error:
        raise Problem(503, str(error), code="search_timeout", headers={"Retry-After": RETRY_AFTER}) from None
    return page


async def fields(call: Request[None, None]) -> SearchFields:
    """List the fields of a search with their possible values, for completion."""
    queues = [stat.queue for stat in await call.client.queues.stats()]
    values: dict[str, list[str]] = {
        "status": list(Status),
        "type": sorted(await call.client.tasks.types()),
        "queue": queues,
    }
    return {
        "fields": [{"name": name, "about": about, "values": [*values.get(name, [])]} for name, about in FIELDS.items()]
    }


async def start(call: Request[BulkActForm, None]) -> Any:
    """Retry, cancel, requeue or compensate all tasks that match, in the background (202); with ``dryRun`` count them.

    The operation runs in this process, in batches of 500, and can be followed and stopped.
    """
    form = call.body
    acting = Acting(action=form.action, search=form.q, ids=form.ids, running=form.running, reason=form.reason)
    if form.dry_run:
        total = await call.client.search.matched(acting)
        return JsonResponse({"matched": total.count, "isEstimate": total.is_estimate}, 200)
    id = await call.client.search.start(acting, by=call.caller.name)
    call.site.in_background(call.client.search.act(id, acting))
    return _bulk(await call.client.search.bulk(id))


async def show_all(call: Request[None, BulkQuery]) -> Bulks:
    """List bulk operations, newest first."""
    return {"bulks": [_bulk(bulk) for bulk in await call.client.search.bulks(limit=call.query.limit)]}


async def show(call: Request[None, None]) -> BulkEntity:
    """Get the progress of a bulk operation."""
    return _bulk(await call.client.search.bulk(_number(call)))


async def stop(call: Request[None, None]) -> MessageAnswer:
    """Stop a bulk operation after its current batch."""
    await call.client.search.stop(_number(call))
    return {"message": f"Bulk operation {_number(call)} is stopping"}


def _number(call: Request[Any, Any]) -> int:
    text = call.path["number"]
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise Problem(400, f"{text[:60]!r} is not the number of a bulk operation")
    return int(text)


def _bulk(state: BulkState) -> BulkEntity:
    document: Any = {
        "id": state.id,
        "action": state.action,
        "q": state.search,
        "ids": state.ids,
        "by": state.by,
        "state": state.state,
        "matched": state.matched,
        "isEstimate": state.is_estimate,
        "done": state.done,
        "skipped": {**state.skipped},
        "startedAt": stamp(state.started_at),
        "finishedAt": stamp_or_none(state.finished_at),
        "error": state.error,
    }
    entity: BulkEntity = document
    return entity


ROUTES = (
    get("/api/search/tasks", find, SearchPage, query=SearchQuery),
    get("/api/search/fields", fields, SearchFields),
    post("/api/bulk", start, BulkEntity, status=202, body=BulkActForm, also={200: BulkCount}),
    get("/api/bulk", show_all, Bulks, query=BulkQuery),
    get("/api/bulk/{number}", show, BulkEntity, errors=(404,)),
    post("/api/bulk/{number}/stop", stop, MessageAnswer, status=200, errors=(404,)),
)
