"""Tables that fit the terminal. Where there is none, they are as wide as they need to be."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.containers import Lines
from rich.text import Text

from qw.cli.output.column import Column
from qw.cli.output.text import printable

GAP = 2
LEAST = 12  # cells that the value of a field gets
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


def has_short_ids() -> bool:
    """Whether tables are for a width: that of the terminal, or of COLUMNS where that is exported."""
    return sys.stdout.isatty() or _columns() is not None


def _columns() -> int | None:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else None


def print_table(columns: Sequence[Column], items: Sequence[Any], *, id_length: int = 36) -> None:
    """Print a row for each of *items*, in the columns that have room and text; with none, the titles of the columns.

    A terminal shows *id_length* characters of ids. So does what else has a width, where the whole ids do not fit.
    """
    out = console()
    width = out.width if out.is_terminal else _columns() or out.width
    lines = table_lines(columns, items, width=width, id_length=id_length, always_short=out.is_terminal)
    out.print(Text("\n").join(lines), soft_wrap=True)


def table_lines(
    columns: Sequence[Column], items: Sequence[Any], *, width: int, id_length: int = 36, always_short: bool = True
) -> list[Text]:
    """The titles and a line for each of *items*. Without *always_short* ids are cut only where they have no room."""
    titles = [Text(column.title, style="bold") for column in columns]
    rows = [[_shown(column, item) for column in columns] for item in items]
    if always_short or _line(_whole(titles, rows)) > width:
        for row in rows:
            for column, cell in zip(columns, row, strict=True):
                if column.is_id:
                    cell.truncate(id_length)
    widths = _widths(columns, titles, rows, width)
    lines = [
        Text(" " * GAP).join(_aligned(columns[index], row[index], width) for index, width in widths.items())
        for row in (titles, *rows)
    ]
    for line in lines:
        line.rstrip()
    return lines


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


def _shown(column: Column, item: Any) -> Text:
    text = printable(column.text(item))
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    style = STYLES.get(text.split(" ")[0], "") if column.is_status else ""
    return Text(text, style=style)


def _aligned(column: Column, text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.align("right" if column.right else "left", width)
    return text


def _widths(
    columns: Sequence[Column], titles: Sequence[Text], rows: Sequence[Sequence[Text]], width: int
) -> dict[int, int]:
    """The columns that have room beside each other, and how much: the least important are left out.

    So are those without text, where there are rows. Loose columns share what is left.
    """
    whole = _whole(titles, rows)
    least = {
        index: min(widest, columns[index].least) if columns[index].loose else widest
        for index, widest in whole.items()
        if not rows or any(row[index] for row in rows)
    }
    while len(least) > 1 and _line(least) > width:
        del least[max(least, key=lambda index: (columns[index].rank, index))]
    growing = sorted(least, key=lambda index: whole[index] - least[index])
    for n, index in enumerate(growing):  # the modest first, so that the others share what they leave
        least[index] += max(min(whole[index] - least[index], (width - _line(least)) // (len(growing) - n)), 0)
    return least


def _whole(titles: Sequence[Text], rows: Sequence[Sequence[Text]]) -> dict[int, int]:
    return {index: max(row[index].cell_len for row in (titles, *rows)) for index in range(len(titles))}


def _line(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)
