"""A crontab from a file or stdin, and what it will become."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qw.cli.output.records import Column, OutputFormat, say, show_records
from qw.core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from qw.core.schedule import Schedule
    from qw.core.schedule.crontab import Crontab

_ZONES = "zoneinfo/"


def read(file: str) -> str:
    """The text of *file*, or of stdin for ``-``."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except FileNotFoundError:
        raise NotFound(f"no such file: {file}") from None
    except UnicodeDecodeError as error:
        raise Invalid(f"{file}: not UTF-8 at byte {error.start}") from None


def local_zone() -> str:
    """The time zone of this machine; UTC where it does not say."""
    name = os.environ.get("TZ", "").lstrip(":")
    if not name:
        _, found, name = os.path.realpath("/etc/localtime").rpartition(_ZONES)
        name = name if found else ""
    return name or "UTC"


def show(crontab: Crontab, output: OutputFormat) -> None:
    for note in crontab.notes:
        say(note)
    if output is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(_COLUMNS, crontab.schedules)
    else:
        from qw.cli.output.schedule_views import definition

        show_records([definition(schedule) for schedule in crontab.schedules], output)


def _command(schedule: Schedule) -> str:
    return schedule.description.removeprefix("crontab: ")


def _when(schedule: Schedule) -> str:
    from qw.core.schedule.describe import describe

    return describe(schedule)


_COLUMNS = (
    Column(title="name", text=lambda schedule: schedule.name),
    Column(title="when", text=_when, rank=1),
    Column(title="command", text=_command, loose=True, rank=2),
)
