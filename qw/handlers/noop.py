"""`noop`: accepts any payload and does nothing. For measurements, tests, and as a join in workflows."""

from __future__ import annotations

from qw.handlers.registry import Handlers


def add_noop(app: Handlers) -> None:
    app.handler("noop")(_noop)


async def _noop() -> None:
    return None
