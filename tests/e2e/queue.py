"""The queue from outside: SQL only, so that nothing of qw's own Python is trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

from tests.databases import wait_until
from tests.given import HOMES

# Ends the sessions of all daemons.
SESSIONS = """
    select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and application_name like 'qw %'"""


class Queue:
    def __init__(self, connection: psycopg.Connection[Any], url: str) -> None:
        self.connection = connection
        self.url = url

    def put(self, type: str, count: int = 1, **payload: object) -> list[UUID]:
        return [self.value("select qw.enqueue(%s, %s)", type, json.dumps(payload)) for _ in range(count)]

    def put_one(self, type: str, **payload: object) -> UUID:
        return self.put(type, 1, **payload)[0]

    def value(self, query: str, *params: object) -> Any:
        row = self.connection.execute(query.encode(), params or None).fetchone()
        return row[0] if row else None

    def column(self, query: str, *params: object) -> list[Any]:
        return [row[0] for row in self.connection.execute(query.encode(), params or None).fetchall()]

    def status(self, id: UUID) -> str:
        return str(self.value("select status from qw.tasks where id = %s", id))

    def field(self, id: UUID, name: str) -> Any:
        return self.value(f"select {name} from qw.tasks where id = %s", id)

    def outcomes(self, id: UUID) -> list[str]:
        """What the history calls the attempts that were not the last."""
        return self.column("select outcome from qw.attempt where task_id = %s order by ended_at, fence", id)

    def wait_for(self, ids: Sequence[UUID], status: str, seconds: float = 60) -> None:
        ids = list(ids)
        count = "select count(*) from qw.tasks where id = any(%s) and status = %s"
        wait_until(lambda: self.value(count, ids, status) == len(ids), seconds)

    def expect_whole(self) -> None:
        """Every task has exactly one home."""
        state = " union all ".join(f"select task_id from qw.{home}" for home in HOMES)
        query = f"select id from qw.task where (select count(*) from ({state}) s where s.task_id = task.id) <> 1"
        assert self.column(query) == []
