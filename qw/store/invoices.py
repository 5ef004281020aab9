"""Numbers of invoices and credit notes, without gaps within a series and year."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from qw import sql
from qw.store.connection import Connection, query

_SQL = sql.statements("invoice")


class NumberRow(NamedTuple):
    year: int
    number: int
    given_at: datetime


async def take(conn: Connection, task: UUID, *, series: str, zone: str) -> NumberRow:
    """Return the number of the invoice of *task*, assigned in the transaction of *conn*; a rollback releases it."""
    await query(conn, _SQL["limit_idle"])
    row = await (await query(conn, _SQL["take"], {"task": task, "series": series, "zone": zone})).fetchone()
    assert row is not None
    return NumberRow(*row)


async def credit(conn: Connection, invoiced: UUID, *, by: UUID, zone: str) -> NumberRow | None:
    """Return the number of the credit note for the last invoice of a task; None: no invoice. Safe to repeat."""
    row = await (await query(conn, _SQL["credit"], {"invoiced": invoiced, "by": by, "zone": zone})).fetchone()
    return NumberRow(*row) if row else None
