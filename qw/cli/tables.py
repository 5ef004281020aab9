"""Tables that fit the terminal. Where there is none, they are as wide as they need to be."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.containers import Lines
from rich.table import Table
from rich.text import Text

from qw.cli.output import Column
from qw.cli.text import printable

GAP = 2
SHORT_ID = 18  # of a UUIDv7: its time and 12 bits of chance; `qw` takes it for the whole
LEAST = 12  # cells that a loose column keeps
_TRAILING = re.compile(r" +((?:\x1b\[[\d;]*m)*)$", re.MULTILINE)  # spaces, also where a colour ends after them
LONGEST = 200  # characters of a cell where no width is given
LONGEST_VALUE = 4000  # characters of a field, on a terminal

STYLES: Mapping[str, str] = {
    "completed": "green",
    "failed": "red",
    "cancelled": "bright_black",
    "skipped": "bright_black",
    "processing": "cyan",
    "running": "cyan",
    "retrying": "yellow",
    "paused": "yellow",
    "problem": "red",
    "down": "red",
    "held": "yellow",
    "up": "green",
    "ok": "green",
}


def console() -> Console:
    """Writes to the terminal there is, in colour if it may; without one, lines are not broken."""
    is_terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not is_terminal,
        width=None if is_terminal else 100_000,
        color_system="auto" if is_terminal and not os.environ.get("NO_COLOR") else None,
    )


def print_table(columns: Sequence[Column], items: Sequence[Any]) -> None:
    """Print a row for each of *items*; with none, only what the columns are called."""
    out = console()
    rows = [[_cell(column, item) for column in columns] for item in items]
    kept = _fitting(columns, rows, out.width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for index in kept:
        column = columns[index]
        table.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column.loose else _width(columns, rows, index, out.width),
        )
    for row in rows:
        table.add_row(*(_styled(columns[index], row[index], out.width) for index in kept))
    with out.capture() as written:
        out.print(table)
    out.file.write(_TRAILING.sub(r"\1", written.get()))


def print_value(title: Text, value: Text) -> None:
    """*value* behind *title*. On a terminal it is broken into lines below each other, and cut in the end."""
    out = console()
    lines = Lines([value]) if out.soft_wrap else _wrapped(value, out, max(out.width - title.cell_len, LEAST))
    for number, line in enumerate(lines):
        out.print(Text.assemble(" " * title.cell_len if number else title, line), soft_wrap=True)


def _wrapped(value: Text, out: Console, width: int) -> Lines:
    if len(value) > LONGEST_VALUE:
        rest = len(value) - LONGEST_VALUE
        value = Text.assemble(value[:LONGEST_VALUE], (f"… and {rest:,} characters; -o json has all", "italic"))
    return value.wrap(out, width, overflow="fold")


def _cell(column: Column, item: Any) -> str:
    text = printable(column.text(item))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _is_narrow(width: int) -> bool:
    return width < 70


def _short(column: Column, text: str, width: int) -> str:
    return text[:SHORT_ID] if column.is_id and _is_narrow(width) else text


def _styled(column: Column, text: str, width: int) -> Text:
    style = STYLES.get(text.split(" ")[0], "") if column.is_status else ""
    return Text(_short(column, text, width), style=style)


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], index: int, width: int) -> int:
    column = columns[index]
    cells = [column.title, *(_short(column, row[index], width) for row in rows)]
    widest = max(map(cell_len, cells))
    return min(widest, LEAST) if column.loose else widest


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The columns that have room beside each other: the least important are left out, and loose ones without text."""
    kept = [index for index, column in enumerate(columns) if not column.loose or any(row[index] for row in rows)]
    while len(kept) > 1 and sum(_width(columns, rows, index, width) + GAP for index in kept) - GAP > width:
        kept.remove(max(kept, key=lambda index: (columns[index].rank, index)))
    return kept
