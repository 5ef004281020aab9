from __future__ import annotations

import asyncio

from qw.core.errors import Unavailable
from qw.daemon.loops import keep_running


class Deaf:
    """A service whose library says that a connection broke when it is cancelled."""

    name = "deaf"

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self.began = asyncio.Event()
        self.steps = 0

    def patience(self) -> float:
        return 0.0

    async def step(self) -> bool:
        self.steps += 1
        self.began.set()
        try:
            await asyncio.Event().wait()  # until it is cancelled
        except asyncio.CancelledError:
            raise Unavailable("the connection broke") from None
        return True


async def test_a_cancel_that_a_library_swallows_ends_the_loop_all_the_same() -> None:
    service = Deaf()
    loop = asyncio.create_task(keep_running(service))
    await service.began.wait()

    loop.cancel()
    await asyncio.wait([loop], timeout=5)

    assert loop.done()
    assert service.steps == 1
