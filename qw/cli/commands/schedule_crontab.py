"""Reads a crontab from a file or stdin and shows what an import does."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qw.cli.output.column import Column
from qw.cli.output.records import OutputFormat, say, show_records
from qw.cli.output.text import counted
from qw.core.errors import Invalid, NotFound
from qw.core.schedule.crontab import SYSTEM_CRONTABS, Account, Crontab, named, parse_crontab

if TYPE_CHECKING:
    from qw.client.schedule_import import ImportedSchedule
    from qw.core.schedule import Schedule

_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_ALL = 1  # exit code: some lines could not be converted


@dataclass(frozen=True, kw_only=True)
class CrontabFile:
    """A parsed crontab, the owner of its schedules, and notes for the user."""

    crontab: Crontab
    owner: str
    prefix: str
    notes: Sequence[str]


def read_crontab(
    file: str, *, timezone: str | None, system: bool | None, owner: str | None, prefix: str
) -> CrontabFile:
    """Read the crontab in *file*, or on stdin for ``-``."""
    if system is None and file.startswith(SYSTEM_CRONTABS):
        system = True
    zone, of_zone = (timezone, "") if timezone else _zone()
    account = _me()
    crontab = parse_crontab(_text(file), timezone=zone, account=account, accounts=_accounts(), system=system)
    of_users = ""
    if crontab.is_system:
        of_users = f"read as a system crontab, with a user before each command; those of {account.name} are taken"
    source = f"crontab:{os.path.abspath(file)}" if crontab.is_system and file != "-" else f"crontab:{account.name}"
    default = f"{source}@{socket.gethostname()}{f':{prefix}' if prefix else ''}"
    notes = [note for note in (of_users, of_zone, *crontab.notes) if note]
    return CrontabFile(crontab=crontab, owner=owner or default, prefix=prefix, notes=notes)


def preview(read: CrontabFile, output: OutputFormat) -> int:
    """Show what would be imported. Return the exit code."""
    schedules = named(read.crontab.jobs, prefix=read.prefix)
    _show([(schedule, "") for schedule in schedules], output)
    code = _tell_lines(read)
    if schedules:
        say(f"nothing was added; add {counted(len(schedules), 'schedule')} with --yes")
    else:
        say("there is nothing to add")
    return code


def report(read: CrontabFile, made: Sequence[ImportedSchedule], output: OutputFormat) -> int:
    """Show what was imported. Return the exit code."""
    _show([(change.schedule, change.how.value) for change in made if change.how != "left"], output)
    if left := [change.schedule.name for change in made if change.how == "left"]:
        say(f"not in the crontab any more, and left as they are: {', '.join(left)}; remove them with --prune")
    for how in ("added", "changed", "unchanged", "removed"):
        if count := sum(change.how == how for change in made):
            say(f"{counted(count, 'schedule')} {how}")
    return _tell_lines(read)


def _tell_lines(read: CrontabFile) -> int:
    for note in read.notes:
        say(note)
    for line in read.crontab.left_out:
        say(f"qw: not converted: {line}")
    return NOT_ALL if read.crontab.left_out else 0


def _text(file: str) -> str:
    """Return the text. Bytes that are not UTF-8 become surrogates and are a fault only of the lines that contain
    them.
    """
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no such file: {file}") from None
    except IsADirectoryError:
        raise Invalid(f"{file} is a directory; name a crontab") from None
    return content.decode(errors="surrogateescape")


def _zone() -> tuple[str, str]:
    """Return this machine's time zone, and a note for the user if it is unknown; otherwise an empty note."""
    from qw.cli.options.local_zone import local_zone

    name, found_in = local_zone()
    if not found_in:
        return name, "this machine does not say its time zone: times are in UTC; name another with --timezone"
    return name, ""


def _me() -> Account:
    """Return the user of this process. HOME is used only if the user owns it: under sudo it may be another user's."""
    try:
        entry = pwd.getpwuid(os.getuid())
        name, home = entry.pw_name, entry.pw_dir
    except KeyError:
        name, home = str(os.getuid()), "/"
    home_directory = os.environ.get("HOME", "")
    return Account(name=name, home=home_directory if _is_mine(home_directory) else home)


def _is_mine(folder: str) -> bool:
    try:
        return os.path.isabs(folder) and os.stat(folder).st_uid == os.getuid()
    except OSError:
        return False


def _accounts() -> dict[str, Account]:
    return {
        entry.pw_name: Account(
            name=entry.pw_name,
            home=entry.pw_dir,
            is_program=shutil.which(entry.pw_name, path=_PROGRAMS) is not None,
        )
        for entry in pwd.getpwall()
    }


def _show(rows: Sequence[tuple[Schedule, str]], output: OutputFormat) -> None:
    if output is OutputFormat.TABLE:
        from qw.cli.output.tables import print_table

        print_table(_COLUMNS if any(change for _, change in rows) else _COLUMNS[:-1], rows)
        return
    from qw.cli.output.schedule_views import definition

    show_records([definition(schedule) | ({"change": change} if change else {}) for schedule, change in rows], output)


def _command(row: tuple[Schedule, Any]) -> str:
    return row[0].description.removeprefix("crontab: ")


def _when(row: tuple[Schedule, Any]) -> str:
    from qw.core.schedule.describe import describe

    return describe(row[0])


_COLUMNS = (
    Column(title="name", text=lambda row: row[0].name),
    Column(title="when", text=_when, rank=1),
    Column(title="command", text=_command, loose=True, rank=2),
    Column(title="change", text=lambda row: row[1], is_status=True),
)
