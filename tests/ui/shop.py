"""The work of a small shop, to look at the dashboard with: some is quick, some fails, some takes long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from qw import Context, Handlers, Reject
from qw.core.task import Backoff

app = Handlers()

SLOWLY = Backoff(delay=timedelta(seconds=40))


@app.handler("resize_image")
async def resize_image(width: int = 800, **rest: Any) -> dict[str, Any]:
    """Quick work that always goes well."""
    return {"width": width, "bytes": width * 310}


@app.handler("charge_card", backoff=SLOWLY)
async def charge_card(
    customerId: str = "", amount: float = 0, decline: bool = False, context: Context | None = None, **rest: Any
) -> dict[str, Any]:
    """Fails where it is told to."""
    assert context is not None
    await context.log(f"charging {customerId} {amount:.2f} EUR")
    if decline:
        raise Reject(f"card of {customerId} was declined: insufficient funds")
    if amount > 10_000:
        raise ConnectionError("payments.example.com: connection reset by peer")
    return {"payment": 9007199254740993123, "amount": amount}


@app.handler("sync_crm")
async def sync_crm(pages: int = 5, pause: float = 0.02, context: Context | None = None) -> dict[str, Any]:
    """Logs with colours and tells its progress."""
    assert context is not None
    for page in range(1, pages + 1):
        await context.log(f"\x1b[32m✓\x1b[0m page \x1b[1m{page}\x1b[0m of {pages}: 50 contacts <b>merged</b>")
        if page % 4 == 0:
            await context.log("\x1b[33mrate limit near\x1b[0m, waiting", level="WARNING")
        await asyncio.sleep(pause)
    return {"contacts": pages * 50}


@app.handler("wait_for_import")
async def wait_for_import(seconds: float = 600) -> None:
    """Takes long."""
    await asyncio.sleep(seconds)
