"""Output of commands: records for programs (JSON with stable names), tables for people, ids for shells."""

from __future__ import annotations

import contextlib
import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import typer

from qw.cli.output.column import Column
from qw.cli.output.text import iso, printable, printable_json

Record: TypeAlias = Mapping[str, Any]


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="Output format.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only ids.")]


def record(value: Any) -> Any:
    """Convert *value* to JSON: ids and times to text, durations to numbers named ``…_seconds``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {_name(field): record(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: record(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [record(item) for item in value]
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value) if isinstance(value, (UUID, StrEnum)) else value


def _name(field: Field[Any]) -> str:
    """Return the JSON name of *field*. It depends on the type, not the value, and is the same for None."""
    return f"{field.name}_seconds" if "timedelta" in str(field.type) else field.name


def show_all(
    items: Sequence[Any], columns: Sequence[Column], form: OutputFormat, *, quiet: bool = False, id_length: int = 36
) -> None:
    """Print *items* as ids, JSON or a table; on a terminal the table shows the first *id_length* characters of each
    id.
    """
    if quiet:
        print_lines(str(item.id) for item in items)
    elif form is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(columns, items, id_length=id_length)
    else:
        show_records([record(item) for item in items], form)


def show_records(records: Sequence[Any], form: OutputFormat) -> None:
    """Print a JSON list, or one JSON value per line."""
    if form is OutputFormat.JSONL:
        print_lines(dumped(record) for record in records)
    else:
        print(dumped(records, indent=2))


def show_record(value: Any, form: OutputFormat) -> None:
    """Print one JSON value, on one line for ``jsonl``."""
    print(dumped(record(value), indent=None if form is OutputFormat.JSONL else 2))


def dumped(value: Any, *, indent: int | None = None) -> str:
    is_unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")
    return printable_json(json.dumps(value, indent=indent, ensure_ascii=not is_unicode))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def say(message: str) -> None:
    """Print a message for people on stderr. If stderr is closed, the command continues."""
    with contextlib.suppress(OSError):
        print(printable(message), file=sys.stderr)
