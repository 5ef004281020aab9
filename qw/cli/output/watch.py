"""``--watch``: redraws a view until ^C."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from qw.cli.output.text import clock
from qw.core.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from qw.client import Client

T = TypeVar("T")

Watch = Annotated[bool, typer.Option("--watch", help="Refresh the list every 2 seconds until ^C.")]

_EVERY = 2.0  # seconds
_CLEAR = "\x1b[2J\x1b[3J\x1b[H"


def show_or_watch(read: Callable[[Client], Awaitable[T]], show: Callable[[T], None], *, watch: bool) -> None:
    """Show the result of *read*; with *watch*, refresh it until an interrupt. While the database is unavailable,
    wait.
    """
    from qw.cli.session import with_client

    if not watch:
        show(with_client(read))
        return
    if not sys.stdout.isatty():
        raise Invalid("--watch needs a terminal; for programs: qw events tail --follow -o jsonl")

    import asyncio

    async def refresh(client: Client) -> None:
        while True:
            try:
                shown = await read(client)
            except Unavailable as error:
                print(f"{_CLEAR}{error}", flush=True)
            else:
                print(f"{_CLEAR}{clock(datetime.now(UTC))}, every {_EVERY:g} s; end with ^C\n")
                show(shown)
                sys.stdout.flush()
            await asyncio.sleep(_EVERY)

    with_client(refresh)


def rows_that_fit(limit: int, *, watch: bool) -> int:
    """Return the number of rows of a list; with *watch* at most the height of the terminal."""
    import shutil

    return min(limit, max(shutil.get_terminal_size().lines - 5, 1)) if watch else limit
