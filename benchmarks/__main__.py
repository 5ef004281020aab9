"""Prints the performance of qw on this machine, one line per figure.

    python -m benchmarks [NAME…]      NAME is the name of a line; default: all

The database is QW_BENCH_DATABASE_URL (a server on which databases can be created), otherwise the private PostgreSQL in
a temporary home. Figures are medians. Ratios are taken within one run, since a shared machine varies between runs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import commands, durable, enqueueing, growth, relaying, running, workflows
from benchmarks.place import Place, named_server, private_server

MEASURES = {
    "single": enqueueing.single,
    "callers": enqueueing.callers,
    "bulk": enqueueing.bulk,
    "drain": running.drain,
    "pickup": running.pickup,
    "idle": running.idle,
    "events": relaying.events,
    "steps": workflows.steps,
    "handover": workflows.hand_over,
    "call": durable.call,
    "suspensions": durable.suspensions,
    "waiting": durable.waiting,
    "snapshot": growth.snapshot,
    "million": growth.million,
    "looks": commands.looks,
    "verbs": commands.bulk_verbs,
}


def main(names: list[str]) -> None:
    unknown = set(names) - MEASURES.keys()
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    with (
        tempfile.TemporaryDirectory(prefix="qw-bench-") as home,
        named_server() or private_server(Path(home)) as server,
    ):
        for name in names or MEASURES:
            asyncio.run(_measure(name, server))


async def _measure(name: str, server: str) -> None:
    started = time.monotonic()
    async with Place.fresh(server) as place:
        async for line in MEASURES[name](place):
            print(f"{name:10} {line}", flush=True)
    print(f"{name:10} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
