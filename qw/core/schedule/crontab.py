"""A crontab, read as schedules that run its commands the way cron would."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from qw.core.errors import Fault, Invalid
from qw.core.schedule.document import parse_schedule
from qw.core.schedule.schedule import Schedule
from qw.core.task.payload import JsonObject

_SETTING = re.compile(r"""([A-Za-z_]\w*)\s*=\s*(?:"([^"]*)"|'([^']*)'|(.*?))\s*""", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PERCENT = re.compile(r"(?<!\\)%")
_OURS = ("MAILTO", "MAILFROM", "SHELL", "CRON_TZ", "TZ", "HOME", "LOGNAME", "USER")
_NOT_FREE = re.compile(r"QW_|LD_")


@dataclass(kw_only=True)
class Crontab:
    """``schedules`` in the order of the lines. ``notes`` are for people: what cannot be taken over, by line."""

    schedules: list[Schedule] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parse_crontab(text: str, *, timezone: str, home: str, prefix: str = "", taken: Collection[str] = ()) -> Crontab:
    """The schedules in a user's crontab. Raise Invalid with every line that cannot be read.

    *timezone* and *home* are those of the machine and the user, unless the crontab sets its own. Names come from the
    commands, after *prefix*; those *taken* are avoided.
    """
    reading = _Reading(timezone=timezone, home=home, prefix=prefix, taken=set(taken))
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            reading.take(number, line.strip())
    if reading.faults:
        raise Invalid(*reading.faults)
    return reading.crontab


class _Reading:
    """What stands further up counts for what comes below: settings, and names that are in use."""

    def __init__(self, *, timezone: str, home: str, prefix: str, taken: set[str]) -> None:
        self._settings = {"SHELL": "/bin/sh", "CRON_TZ": timezone, "HOME": home}
        self._prefix = prefix
        self._taken = taken
        self.crontab = Crontab()
        self.faults: list[Fault] = []

    def take(self, number: int, line: str) -> None:
        if setting := _SETTING.fullmatch(line):
            self._set(number, setting[1], next(value for value in setting.groups()[1:] if value is not None))
            return
        expression, command = _split(line)
        if expression.lower() == "@reboot":
            self.crontab.notes.append(f"line {number}: @reboot is no time; let the service manager start it")
        elif not command or command.startswith("%"):
            self.faults.append(
                Fault(path=f"line {number}", message="needs five fields, or a word such as @daily, and a command")
            )
        else:
            self._add(number, expression, command)

    def _set(self, number: int, name: str, value: str) -> None:
        if name in ("MAILTO", "MAILFROM"):
            self.crontab.notes.append(f"line {number}: {name} is left out; what a command prints is its task's log")
        elif _NOT_FREE.match(name):
            self.crontab.notes.append(f"line {number}: {name} cannot be set by a task; left out")
        else:
            self._settings[name] = value

    def _add(self, number: int, expression: str, command: str) -> None:
        program, given = _unescaped(command)
        payload: JsonObject = {
            "argv": [self._settings["SHELL"], "-c", program],
            "cwd": self._settings["HOME"],
            "input": given,
        }
        if env := {name: value for name, value in self._settings.items() if name not in _OURS}:
            payload["env"] = dict(env)
        document: JsonObject = {
            "cron": expression,
            "timezone": self._settings.get("CRON_TZ") or "UTC",
            "type": "command",
            "with": payload,
            "max_retries": 1,  # cron never tries again
            "description": f"crontab: {program[:200]}",
        }
        try:
            self.crontab.schedules.append(parse_schedule(self._name(program), document))
        except Invalid as error:
            self.faults += [Fault(path=f"line {number}", message=str(fault)) for fault in error.faults]

    def _name(self, program: str) -> str:
        """The last part of the path of what runs; numbered where there are more of it."""
        words = _WORD.findall(program.split()[0].rpartition("/")[2])
        base = f"{self._prefix}{words[0][:60] if words else 'command'}"
        name, n = base, 1
        while name in self._taken:
            n += 1
            name = f"{base}-{n}"
        self._taken.add(name)
        return name


def _split(line: str) -> tuple[str, str]:
    """The expression and the command; either empty when it is not there."""
    fields = 1 if line.startswith("@") else 5
    if line.lower().startswith("@every"):
        fields = 2
    words = line.split(None, fields)
    return " ".join(words[:fields]), words[fields] if len(words) > fields else ""


def _unescaped(command: str) -> tuple[str, str]:
    """The command, and after the first bare ``%`` what it is given on stdin, each further one a new line."""
    program, *given = _PERCENT.split(command)
    text = "\n".join(part.replace("\\%", "%") for part in given)
    return program.replace("\\%", "%").strip(), f"{text}\n" if given else ""
