"""The search syntax for tasks: ``status:failed type:send_email since:2h payload.customerId:zoe "no such"``.

Terms are separated by spaces and must all match. A qualifier with several values, repeated or separated by commas,
matches any of them. A term without a qualifier searches the error text. Quotes protect spaces, also in values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from qw.core.duration import parse_duration
from qw.core.errors import Fault, Invalid, guess
from qw.core.task.task import Status

FIELDS = {
    "status": "pending, processing, retrying, completed, failed, cancelled",
    "type": "a task type",
    "queue": "a queue",
    "since": "created since then: 2h, 3d, yesterday or 2026-11-24T18:00Z",
    "until": "created before then",
    "run": "the id of a workflow run",
    "id": "the beginning of an id",
    "payload.": "a value in the payload: payload.customerId:zoe",
}
MOST_TERMS = 20
_TERM = re.compile(r'(?:([A-Za-z][\w.-]*):)?("(?:[^"\\]|\\.)*"|[^\s"]+)', re.ASCII)
_EMPTY = re.compile(r"[A-Za-z][\w.-]*:", re.ASCII)
_PAYLOAD = "payload."
_STATUSES = {"running": Status.PROCESSING, "waiting": Status.PENDING}


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of a search: ``text`` as typed; ``field`` is empty if the term searches the error text."""

    field: str
    value: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """The conditions on tasks; an empty search matches all. ``payload``: paths without ``payload.``, with text values.

    ``low`` and ``high`` are the bounds of matching ids if the search has the beginning of an id.
    """

    statuses: tuple[Status, ...] = ()
    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    run_id: UUID | None = None
    low: UUID | None = None
    high: UUID | None = None
    payload: tuple[tuple[str, str], ...] = ()
    errors: tuple[str, ...] = ()
    terms: tuple[Term, ...] = field(default=(), compare=False)

    def of_statuses(self, statuses: Sequence[Status]) -> Search:
        """Return a search for the *statuses*, or this search if it already names statuses."""
        return self if self.statuses else replace(self, statuses=tuple(statuses))


def parse_search(text: str, now: datetime) -> Search:
    """Parse *text*. Raise Invalid, with a suggestion if possible, for a term that makes no sense."""
    terms = _terms(text)
    if len(terms) > MOST_TERMS:
        raise Invalid(Fault(path="q", message=f"has {len(terms)} terms; at most {MOST_TERMS} are possible"))
    low, high = _ids(_only(terms, "id"))
    return Search(
        statuses=tuple(dict.fromkeys(map(_status, _values(terms, "status")))),
        types=_values(terms, "type"),
        queues=_values(terms, "queue"),
        since=_time(_only(terms, "since"), now),
        until=_time(_only(terms, "until"), now),
        run_id=_run(_only(terms, "run")),
        low=low,
        high=high,
        payload=tuple((t.field.removeprefix(_PAYLOAD), t.value) for t in terms if t.field.startswith(_PAYLOAD)),
        errors=tuple(term.value for term in terms if not term.field),
        terms=tuple(terms),
    )


def _terms(text: str) -> list[Term]:
    terms, place, known = [], 0, [name for name in FIELDS if name != _PAYLOAD]
    for match in _TERM.finditer(text):
        if text[place : match.start()].strip():
            raise _wrong(text[place : match.end()], "a quote is not closed")
        place = match.end()
        name, value = match[1] or "", _unquoted(match[2])
        if name and not (name in known or (name.startswith(_PAYLOAD) and name != _PAYLOAD)):
            raise _wrong(match[0], f"there is no field {name!r}{guess(name, known)}; there are {', '.join(FIELDS)}")
        if not value or (not name and _EMPTY.fullmatch(match[2])):
            raise _wrong(match[0], "the value is empty, or its quote is not closed")
        terms.append(Term(field=name, value=value, text=match[0]))
    if text[place:].strip():
        raise _wrong(text[place:].strip(), "a quote is not closed, or a value is missing")
    return terms


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _values(terms: Sequence[Term], field: str) -> tuple[str, ...]:
    values = [value for term in terms if term.field == field for value in term.value.split(",") if value]
    return tuple(dict.fromkeys(values))


def _only(terms: Sequence[Term], field: str) -> Term | None:
    matching = [term for term in terms if term.field == field]
    if len(matching) > 1:
        raise _wrong(matching[1].text, f"{field} is there twice")
    return matching[0] if matching else None


def _status(text: str) -> Status:
    try:
        return _STATUSES.get(text.lower()) or Status(text.lower())
    except ValueError:
        raise _wrong(
            f"status:{text}", f"{text[:60]!r} is not one of {', '.join(Status)}{guess(text, Status)}"
        ) from None


def _time(term: Term | None, now: datetime) -> datetime | None:
    if term is None:
        return None
    if term.value in ("today", "yesterday"):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=term.value == "yesterday")
    try:
        return now - parse_duration(term.value)
    except (Invalid, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(term.value)
        return at.replace(tzinfo=now.tzinfo) if at.tzinfo is None else at
    except (ValueError, OverflowError):
        raise _wrong(
            term.text, f"{term.value[:60]!r} is not an age such as 2h or a time such as 2026-11-24T18:00Z"
        ) from None


def _run(term: Term | None) -> UUID | None:
    try:
        return UUID(term.value) if term else None
    except ValueError:
        assert term is not None
        raise _wrong(term.text, f"{term.value[:60]!r} is not the id of a run") from None


def _ids(term: Term | None) -> tuple[UUID | None, UUID | None]:
    if term is None:
        return None, None
    digits = term.value.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise _wrong(term.text, f"{term.value[:60]!r} is not the beginning of an id")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def _wrong(term: str, why: str) -> Invalid:
    return Invalid(Fault(path="q", message=f"{term[:100]} ({why})"))
