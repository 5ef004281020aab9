"""Converts a crontab to schedules that run its commands as Debian's cron (3.0pl1) would.

Behaviour that its manual page does not describe was found by tests: assignments apply to the lines after them, a
backslash in a command escapes ``%`` and itself, stdin gets a final newline only if it is not empty, and no command
begins with ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count

from qw.core.errors import Invalid
from qw.core.schedule.document import parse_schedule
from qw.core.schedule.schedule import Schedule, TaskTarget
from qw.core.schedule.zones import zone
from qw.core.task.payload import JsonObject

PATH = "/usr/bin:/bin"  # the default of cron
SYSTEM_CRONTABS = ("/etc/crontab", "/etc/cron.d/")

_SETTING = re.compile(r"""(?:"([^"]+)"|'([^']+)'|([^\s="']+))[ \t]*=[ \t]*(.*)""", re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NOT_FREE = re.compile(r"QW_|LD_")
_MAIL = ("MAILTO", "MAILFROM")
_TIME = re.compile(r"[*?\d][\d*,/?-]*|(?:sun|mon|tue|wed|thu|fri|sat)(?:[,-]\w+)*", re.IGNORECASE)
_FIELDS = 5


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user in the passwd file of this machine. ``is_program``: a program has the same name, such as ``mail``."""

    name: str
    home: str
    is_program: bool = False


@dataclass(frozen=True, kw_only=True)
class CronJob:
    """One command of a crontab. ``schedule`` has a placeholder name; ``document`` is what it was parsed from."""

    line: int
    schedule: Schedule
    document: JsonObject


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A line that cannot be converted."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(kw_only=True)
class Crontab:
    """A converted crontab, in the order of its lines. ``notes``: where converted lines differ from cron."""

    is_system: bool = False
    jobs: list[CronJob] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parse_crontab(
    text: str,
    *,
    timezone: str,
    account: Account,
    accounts: Mapping[str, Account] | None = None,
    system: bool | None = None,
) -> Crontab:
    """Parse the crontab in *text*, for *account*, and in *timezone* unless the crontab sets another.

    *system*: whether lines name a user after the times, who must be *account*; None: detect it from the *accounts* of
    this machine. Bytes that are not UTF-8 may be surrogates in *text*. Raise Invalid for an unknown *timezone*.
    """
    zone(timezone)
    known = {account.name: account, **(accounts or {})}
    lines = [(n, line.strip(" \t\r")) for n, line in enumerate(text.split("\n"), start=1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    is_system = _names_users([line for _, line in lines], known) if system is None else system
    reading = _Reading(timezone, account, known, is_system=is_system, looks=system is None)
    for number, line in lines:
        reading.take(number, line)
    if "\r\n" in text:
        reading.crontab.notes.append("lines end with CR LF; the CR is ignored")
    return reading.crontab


def named(
    jobs: Sequence[CronJob], *, prefix: str = "", known: Sequence[Schedule] = (), reuse: bool = False
) -> list[Schedule]:
    """Return the schedules of *jobs* with names. A job with the same command as a schedule of *known* (imported
    earlier) keeps its name, so that editing one line does not rename the others.

    A new job is named after its program, with *prefix*; if that name is taken, a digest of the command is added.
    *reuse*: names of *known* schedules that are not in *jobs* may be used again.
    """
    names = _kept_names(jobs, known)
    taken = set(names.values()) | (set() if reuse else {schedule.name for schedule in known})
    for n, job in enumerate(jobs):
        if n not in names:
            names[n] = next(name for name in _names(job.schedule, prefix) if name not in taken)
            taken.add(names[n])
    return [replace(job.schedule, name=names[n]) for n, job in enumerate(jobs)]


def _kept_names(jobs: Sequence[CronJob], known: Sequence[Schedule]) -> dict[int, str]:
    """Return names by index of the job. Among equal commands, those with equal times are matched first."""
    names: dict[int, str] = {}
    for key in (_line, command_of):
        free: dict[Hashable, list[str]] = {}
        for schedule in known:
            if schedule.name not in names.values():
                free.setdefault(key(schedule), []).append(schedule.name)
        for n, job in enumerate(jobs):
            if n not in names and (same := free.get(key(job.schedule))):
                names[n] = same.pop(0)
    return names


def command_of(schedule: Schedule) -> tuple[str, str]:
    """Return the command of an imported schedule, and its stdin."""
    payload = schedule.target.payload if isinstance(schedule.target, TaskTarget) else {}
    argv = payload.get("argv")
    return str(argv[-1]) if isinstance(argv, list) and argv else "", str(payload.get("input", ""))


def _line(schedule: Schedule) -> Hashable:
    return schedule.cron, schedule.every, schedule.timezone, command_of(schedule)


def _names(schedule: Schedule, prefix: str) -> Iterator[str]:
    program, stdin = command_of(schedule)
    words = _WORD.findall(program.split()[0].rpartition("/")[2])
    base = f"{prefix}{words[0][:60] if words else 'command'}"
    digest = blake2b(f"{program}\0{stdin}".encode(), digest_size=3).hexdigest()
    yield base
    yield f"{base}-{digest}"
    yield from (f"{base}-{digest}-{n}" for n in count(2))


def _names_users(lines: Sequence[str], accounts: Mapping[str, Account]) -> bool:
    """Whether the word before each command is a user of this machine, and at least one is not also a program."""
    words = [_split(line)[1].split(None, 1) for line in lines if _setting(line) is None]
    users = [accounts.get(word[0]) if len(word) == 2 else None for word in words]
    return bool(users) and None not in users and any(user and not user.is_program for user in users)


def _setting(line: str) -> tuple[str, str] | None:
    """Return name and value of an assignment; None if it is not one. Quotes around the value must match."""
    if (match := _SETTING.fullmatch(line)) is None:
        return None
    name, value = next(group for group in match.groups()[:3] if group is not None), match[4]
    if value[:1] in ('"', "'"):
        return (name, value[1:-1]) if len(value) > 1 and value.find(value[0], 1) == len(value) - 1 else None
    return name, value


class _Reading:
    """The state while reading: settings apply to the lines below them."""

    def __init__(
        self, timezone: str, account: Account, accounts: Mapping[str, Account], *, is_system: bool, looks: bool
    ) -> None:
        self._timezone = timezone
        self._account = account
        self._accounts = accounts
        self._looks = looks  # detect whether users stand before commands
        self._settings: dict[str, str] = {}
        self.crontab = Crontab(is_system=is_system)

    def take(self, number: int, line: str) -> None:
        try:
            if any("\ud800" <= sign <= "\udfff" for sign in line):
                raise ValueError("is not UTF-8")
            if setting := _setting(line):
                self._set(number, *setting)
            else:
                self._add(number, line)
        except Invalid as error:
            self.crontab.left_out += [LeftOut(line=number, reason=str(fault)) for fault in error.faults]
        except ValueError as error:
            self.crontab.left_out.append(LeftOut(line=number, reason=str(error)))

    def _set(self, number: int, name: str, value: str) -> None:
        if _NOT_FREE.match(name):
            raise ValueError(f"a task cannot set {name}")
        if name in _MAIL:
            self._note(number, f"{name} is ignored; the output of a command is in the log of its task (qw logs)")
        elif name == "LOGNAME":
            self._note(number, f"LOGNAME is always the name of the user, as under cron: {self._account.name}")
        else:
            if name == "CRON_TZ":
                zone(value, path=name)
                self._timezone = value
            elif name == "TZ":
                self._note(
                    number, f"TZ applies only to commands, as under cron; times are in {self._timezone} (set CRON_TZ)"
                )
            self._settings[name] = value

    def _note(self, number: int, text: str) -> None:
        self.crontab.notes.append(f"line {number}: {text}")

    def _add(self, number: int, line: str) -> None:
        expression, command = _split(line)
        _check_expression(expression)
        if self.crontab.is_system:
            command = self._of_this_user(command)
        else:
            self._check_first_word(command)
        program, stdin = _unescaped(command)
        if not program:
            raise ValueError("no command: a line has five time fields, or a word such as @daily, and then a command")
        if expression == "@reboot":
            raise ValueError("@reboot is not a time; let the service manager start it (systemctl enable)")
        env = {"SHELL": "/bin/sh", "HOME": self._account.home, "PATH": PATH, "USER": self._account.name}
        env |= self._settings | {"LOGNAME": self._account.name}
        document: JsonObject = {
            "cron": expression,
            "timezone": self._timezone,
            "type": "command",
            "with": {
                "argv": [env["SHELL"], "-c", program],
                "cwd": env["HOME"],
                "env": dict(env),
                "input": stdin,
                "background": "keep",  # as cron does
            },
            "max_retries": 1,  # cron never retries
            "description": f"crontab: {program[:200]}",
        }
        self.crontab.jobs.append(CronJob(line=number, schedule=parse_schedule("job", document), document=document))

    def _of_this_user(self, rest: str) -> str:
        user, command = _first_word(rest)
        if user not in self._accounts:
            raise ValueError(f"{user[:60]!r} is not a user of this machine; in a system crontab the user comes first")
        if user != self._account.name:
            raise ValueError(
                f"it runs as {user}, but a daemon runs commands as its own user; import it as {user}, "
                f"for a daemon of {user}"
            )
        return command

    def _check_first_word(self, command: str) -> None:
        """Reject a command that starts with a sixth time field, or with the user of a system crontab."""
        word, rest = _first_word(command)
        if command.startswith("*") or (rest and _TIME.fullmatch(word)):
            raise ValueError(
                f"{word[:60]!r} is where the command must begin: a crontab has five time fields, without seconds and "
                "years (seconds: qw schedule add --seconds)"
            )
        account = self._accounts.get(word)
        if self._looks and rest and account and not account.is_program:
            raise ValueError(
                f"{word!r} is a user of this machine and not a program: is it a system crontab (--system)?"
            )


def _split(line: str) -> tuple[str, str]:
    """Return the expression and the rest; either is empty if it is missing."""
    fields = 1 if line.startswith("@") else _FIELDS
    if line.lower().startswith("@every "):
        fields = 2
    words = line.split(None, fields)
    return " ".join(words[:fields]), words[fields] if len(words) > fields else ""


def _first_word(text: str) -> tuple[str, str]:
    word, *rest = text.split(None, 1) or [""]
    return word, rest[0] if rest else ""


def _check_expression(expression: str) -> None:
    """Reject syntax of other crons that Debian's cron lacks or reads differently; `parse_schedule` checks the rest."""
    if expression.startswith("-"):
        raise ValueError("a - before the times (do not log it) is not supported by Debian's cron; remove it")
    if expression.startswith("@"):
        return
    fields = expression.split()
    if "~" in expression:
        raise ValueError(
            "a ~ (a random time in a range) is not supported by Debian's cron; use a fixed time, or --jitter"
        )
    if len(fields) < _FIELDS:
        raise ValueError("needs five time fields, or a word such as @daily, and a command")
    if alone := re.search(r"(?:^|[\s,])(\d+/\d+)", expression):
        raise ValueError(f"a step needs * or a range: {alone[1]!r} has neither")
    if "#" in fields[4] or fields[4].upper().endswith("L") or "L" in fields[2].upper():
        raise ValueError("L and # are not supported by Debian's cron; add it with: qw schedule add --cron")


def _unescaped(command: str) -> tuple[str, str]:
    """Return the command, and its stdin after the first unescaped ``%``."""
    program, stdin = [], ""
    signs = enumerate(command)
    for place, sign in signs:
        if sign == "%":
            stdin = _stdin(command[place + 1 :])
            break
        following = command[place + 1 : place + 2]
        if sign == "\\" and following:
            program.append(following if following in "%\\" else sign + following)
            next(signs)
        else:
            program.append(sign)
    return "".join(program).strip(), stdin


def _stdin(text: str) -> str:
    """Replace each unescaped ``%`` by a newline; add a final newline unless it is empty."""
    said = re.sub(r"(\\?)%", lambda match: "%" if match[1] else "\n", text)
    return said if not said or said.endswith("\n") else f"{said}\n"
