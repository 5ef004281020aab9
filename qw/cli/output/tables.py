"""Tables that fit the terminal. Without a terminal they are as wide as their contents."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.containers import Lines
from rich.text import Text

from qw.cli.output.column import Column
from qw.cli.output.text import printable

GAP = 2
LEAST = 12  # cells for the value of a field
LONGEST = 200  # characters of a cell without a width limit
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
    """Return a console on stdout: in colour on a terminal unless NO_COLOR is set. Without a terminal it does not
    wrap lines.
    """
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
    """Whether tables have a width limit: that of the terminal, or COLUMNS if exported."""
    return sys.stdout.isatty() or _columns() is not None


def _columns() -> int | None:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else None


def print_table(columns: Sequence[Column], items: Sequence[Any], *, id_length: int = 36) -> None:
    """Print a row for each of *items*, in the columns that fit and have text. Without items, print the column titles.

    On a terminal, ids have *id_length* characters. With COLUMNS but no terminal, only if the full ids do not fit.
    """
    out = console()
    width = out.width if out.is_terminal else _columns() or out.width
    lines = table_lines(columns, items, width=width, id_length=id_length, always_short=out.is_terminal)
    out.print(Text("\n").join(lines), soft_wrap=True)


def table_lines(
    columns: Sequence[Column], items: Sequence[Any], *, width: int, id_length: int = 36, always_short: bool = True
) -> list[Text]:
    """Return the title line and one line per item. Without *always_short*, ids are cut only if they do not fit."""
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
    """Print *value* after *title*. On a terminal it is wrapped between words, and truncated after `LONGEST_VALUE`
    characters.
    """
    out = console()
    lines = Lines([value]) if out.soft_wrap else _wrapped(value, out, max(out.width - title.cell_len, LEAST))
    for number, line in enumerate(lines):
        out.print(Text.assemble(" " * title.cell_len if number else title, line), soft_wrap=True)


def _wrapped(value: Text, out: Console, width: int) -> Lines:
    if len(value) > LONGEST_VALUE:
        rest = len(value) - LONGEST_VALUE
        value = Text.assemble(value[:LONGEST_VALUE], (f"… and {rest:,} characters; -o json has all", "italic"))
    lines = Lines()
    for line in value.split("\n", allow_blank=True):
        lines.extend(line.divide(_breaks(line.plain, width)))
    for line in lines:
        line.rstrip()
    return lines


def _breaks(line: str, width: int) -> list[int]:
    """Return where *line* is broken: between words only, so that a path can be copied and a command repeated."""
    breaks: list[int] = []
    used = 0
    for word in re.finditer(r"\s*\S+\s*", line):
        if used and used + cell_len(word[0].rstrip()) > width:
            breaks.append(word.start())
            used = 0
        used += cell_len(word[0])
    return breaks


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
    """Return the columns that fit and their widths; the least important columns are left out first.

    If there are rows, columns without text are left out too. Loose columns share the remaining width.
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
    for n, index in enumerate(growing):  # narrow needs first; the other columns share the rest
        least[index] += max(min(whole[index] - least[index], (width - _line(least)) // (len(growing) - n)), 0)
    return least


def _whole(titles: Sequence[Text], rows: Sequence[Sequence[Text]]) -> dict[int, int]:
    return {index: max(row[index].cell_len for row in (titles, *rows)) for index in range(len(titles))}


def _line(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)
