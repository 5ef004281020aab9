"""`Client.audit`: who did what."""

from __future__ import annotations

from datetime import datetime

from qw.client.acting import note
from qw.client.connections import Namespace, check_limit
from qw.store import audit
from qw.store.audit import LAST_ENTRY, AuditEntry


class Audit(Namespace):
    """Operator actions made through the command line, HTTP, the dashboard, Python and SQL. Kept for 90 days."""

    async def find(
        self,
        *,
        before: int = LAST_ENTRY,
        limit: int = 100,
        actor: str | None = None,
        verb: str | None = None,
        via: str | None = None,
        since: datetime | None = None,
    ) -> list[AuditEntry]:
        """Return audit entries, newest first, at most 1,000. For the next page pass the last id as *before*.

        *verb* is named as on the command line: ``task retry``, or ``task`` for all verbs of tasks.
        """
        check_limit(limit, 1000)
        async with self._db.connection() as conn:
            return await audit.find(conn, before=before, limit=limit, actor=actor, verb=verb, via=via, since=since)

    async def note(self, verb: str, target: str) -> None:
        """Record an action that changes nothing, such as showing secrets."""
        await note(self, verb, target)
