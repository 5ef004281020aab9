"""Metrics of daemons: add and read."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from qw import sql
from qw.core.task.measure import Measure, by_queue
from qw.store.connection import Connection, query

_SQL = sql.statements("measure")


async def add(conn: Connection, measures: Sequence[Measure]) -> None:
    """Add to the stored sums. Each combination of name and labels must occur once."""
    params = {"measures": _rows(measures), "history": _rows(by_queue(measures))}
    await query(conn, _SQL["add"], params)


async def find(conn: Connection) -> list[Measure]:
    """Return all metrics, by name and labels."""
    rows = await (await query(conn, _SQL["find"])).fetchall()
    return [Measure(name, tuple(labels), tuple(counts), total) for name, labels, counts, total in rows]


def _rows(measures: Sequence[Measure]) -> Jsonb:
    return Jsonb([measure._asdict() for measure in measures])
