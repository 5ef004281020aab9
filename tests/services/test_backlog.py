from __future__ import annotations

from typing import Any

from qw.core.suspects import CrashRecord
from qw.core.task import Claim
from qw.handlers import Handlers
from qw.services.execution.backlog import Backlog
from qw.services.execution.in_flight import ClaimInFlight, HandlerSlots
from tests.services.workshop import SLOTS


def test_a_suspect_waits_for_a_slot_and_not_for_its_batch() -> None:
    app = Handlers()

    @app.batch(size=10, wait=60)
    async def later(items: list[dict[str, Any]]) -> None: ...

    @app.handler("now")
    async def now() -> None: ...

    backlog = Backlog(HandlerSlots(SLOTS))
    claim = Claim(*[None] * len(Claim._fields))  # type: ignore[arg-type]
    suspects = [
        ClaimInFlight(claim._replace(type=type), app.get(type), 0.0, record=CrashRecord(crashes=2))
        for type in ("later", "now")
    ]
    for suspect in suspects:
        backlog.add(suspect)

    assert backlog.stale(2.0, 1.0) == suspects
