"""`command`: run an executable. What it prints is the task's log, how it exits is the task's outcome.

``{"command": "name"}`` runs what the operator declared and takes nothing from the payload but data. Free commands,
``{"argv": […]}`` and ``{"run": "shell text"}``, run only where the daemon allows them: who can write a row could
otherwise start any program.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, model_validator

from qw.core.duration import format_duration
from qw.core.errors import Invalid, guess
from qw.core.task.command import Command, Exit
from qw.core.task.handler_api import Context, Failure, Reject, Retry
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, parse
from qw.handlers.child import ExitStatus, Program, started
from qw.handlers.output import Output, follow
from qw.handlers.registry import Handlers

MAX_IN_ENVIRONMENT = 64 * 1024  # bytes of payload; a longer one comes on stdin only

_SHELL = ("/bin/sh", "-eu", "-c")
_SECRET = re.compile(
    r"QW_|PG|DB_|DATABASE_URL$|LD_(PRELOAD|AUDIT)$|.*(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY)", re.IGNORECASE
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s@]*:[^/\s@]+@")
_NOT_FREE = re.compile(r"QW_|LD_|.*[=\0]|$", re.DOTALL)
_LAST_OUTPUT_SECONDS = 1.0


EXIT_CODES: Mapping[int, Exit] = {0: Exit.DONE, 75: Exit.RETRY, 65: Exit.REJECT, 78: Exit.REJECT}


class CommandFailed(Failure):
    """The command exited with ``exit_code``; 128 + n where signal n killed it."""

    def __init__(self, exit_code: int, message: str) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class CommandTimedOut(CommandFailed):
    """The command took longer than its declaration allows."""


class CommandKilled(CommandFailed):
    """A signal ended the command."""


async def _none_stored(name: str) -> Command | None:
    return None


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """*commands*: those that the operator declared for this daemon, by name.

    *allowed*: also run what stands in the database, in a payload or *stored* by its name.
    """

    allowed: bool = False
    commands: Mapping[str, Command] = field(default_factory=dict)
    stored: Callable[[str], Awaitable[Command | None]] = _none_stored


class CommandPayload(BaseModel):
    """One of ``argv``, ``run`` and ``command``. ``input`` replaces the payload on stdin: text as it is, or JSON."""

    argv: list[str] | None = None
    run: str | None = None
    command: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    input: Any = None
    exit_codes: dict[int, Exit] = {}

    @model_validator(mode="after")
    def _one_command(self) -> CommandPayload:
        given = [name for name in ("argv", "run", "command") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs one of argv, run and command, not {' and '.join(given) or 'none'}")
        if bad := next((name for name in self.env if _NOT_FREE.match(name)), None):
            raise ValueError(f"env: {bad!r} cannot be set by a task")
        return self


def add_command(app: Handlers, options: CommandOptions) -> None:
    @app.handler("command", process=True)
    async def command(payload: CommandPayload, context: Context) -> Json:
        declared = await _declared(payload, options)
        with tempfile.TemporaryDirectory(prefix="qw-command-") as private, _stdin(payload, context) as stdin:
            result = Path(private, "result.json")
            program = _program(declared, Path(private), _environment(declared, context, result))
            ended, stdout = await _run_in_time(program, stdin, context, declared.timeout)
            _judge(ended, {**EXIT_CODES, **declared.exit_codes, **payload.exit_codes})
            return {"exitCode": ended.code, "stdout": stdout, "executable": program.executable, **_written(result)}


def exit_code_of(error: str) -> int | None:
    """The exit code in the error of a failed `command` task, 128 + n for signal n; None when it is another error."""
    if match := re.match(r"exit code (\d{1,3})\b", error):
        return int(match[1])
    if match := re.match(r"killed by signal (\d{1,2})\b", error):
        return 128 + int(match[1])
    return None


async def _declared(payload: CommandPayload, options: CommandOptions) -> Command:
    """The command that *payload* means. Raise Reject when it is unknown or not allowed here."""
    if payload.command:
        found = options.commands.get(payload.command)
        if found is None and options.allowed:
            found = await options.stored(payload.command)
        if found is None:
            raise Reject(_unknown(payload.command, options))
        if payload.env or payload.cwd:
            raise Reject(f"the command {payload.command!r} is declared: env and cwd stand in its declaration")
        return found
    if not options.allowed:
        raise Reject("this daemon runs declared commands only; start it with --allow-commands for argv and run")
    return Command(name="", run=payload.run or tuple(payload.argv or ()), cwd=payload.cwd, env=payload.env)


def _unknown(name: str, options: CommandOptions) -> str:
    hint = guess(name, options.commands)
    applied = "nor applied" if options.allowed else "(applied ones run with --allow-commands only)"
    return f"no command {name[:60]!r} is declared under commands: in a file of this daemon, {applied}{hint}"


def _program(declared: Command, private: Path, env: Mapping[str, str]) -> Program:
    cwd = Path(declared.cwd) if declared.cwd else private
    if not cwd.is_dir():
        raise Reject(f"cwd: {cwd} is not a directory here")
    argv = (*_SHELL, declared.run) if isinstance(declared.run, str) else tuple(declared.run)
    return Program(executable=_executable(argv[0], cwd, env.get("PATH", os.defpath)), argv=argv, env=env, cwd=cwd)


def _executable(name: str, cwd: Path, path: str) -> str:
    """The absolute path of what *name* starts: looked up now, so that nothing that happens later can change it."""
    if "/" in name:
        found = shutil.which(cwd / name)
    else:
        absolute = [folder for folder in path.split(os.pathsep) if os.path.isabs(folder)]
        found = shutil.which(name, path=os.pathsep.join(absolute))
    if found is None:
        raise Reject(f"{name!r} is not an executable here")
    return os.path.abspath(found)


def _environment(declared: Command, context: Context, result: Path) -> dict[str, str]:
    """The daemon's environment without what is qw's own or looks secret, then the command's, then what we tell it."""
    inherited = {name: value for name, value in os.environ.items() if not _is_secret(name, value)}
    payload = json.dumps(context.payload, ensure_ascii=False)
    told = {
        "QW_TASK_ID": str(context.task_id),
        "QW_ATTEMPT": str(context.attempt),
        "QW_RESULT": str(result),
        **({"QW_PAYLOAD": payload} if len(payload.encode()) <= MAX_IN_ENVIRONMENT else {}),
        **({"TRACEPARENT": context.headers["traceparent"]} if "traceparent" in context.headers else {}),
    }
    return {**inherited, **declared.env, **told}


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET.match(name) or _PASSWORD_IN_URL.search(value))


@contextmanager
def _stdin(payload: CommandPayload, context: Context) -> Iterator[IO[Any]]:
    """A file: the command may read it, or not, whenever it likes."""
    data = context.payload if payload.input is None else payload.input
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file


async def _run_in_time(
    program: Program, stdin: IO[Any], context: Context, limit: timedelta | None
) -> tuple[ExitStatus, str]:
    """Like `_run`, within the command's own *limit*; the attempt's is watched by the worker."""
    try:
        async with asyncio.timeout(limit.total_seconds() if limit else None):
            return await _run(program, stdin, context)
    except TimeoutError:
        raise CommandTimedOut(124, f"timed out after {format_duration(limit or timedelta())}") from None


async def _run(program: Program, stdin: IO[Any], context: Context) -> tuple[ExitStatus, str]:
    """Run *program* to its end, its output into the log. Returns how it ended and the last of its stdout."""
    output = Output(context)
    async with started(program, stdin=stdin, capture=True) as (child, (stdout, stderr)):
        followers = [
            asyncio.create_task(follow(stdout, output, "INFO")),
            asyncio.create_task(follow(stderr, output, "WARNING")),
        ]
        try:
            ended = await child.ended()
        finally:
            await _finish(followers)
            await output.close()
    last = ["" if follower.cancelled() else follower.result() for follower in followers]
    return ended, last[0]


async def _finish(followers: Sequence[asyncio.Task[str]]) -> None:
    """Wait for the last output; not for long, since what we may not kill could hold the pipe open."""
    _, waiting = await asyncio.wait(followers, timeout=_LAST_OUTPUT_SECONDS)
    for follower in waiting:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)


def _judge(ended: ExitStatus, meaning: Mapping[int, Exit]) -> None:
    """Return when the task is done, else raise what it means."""
    match meaning.get(ended.code, Exit.FAIL):
        case Exit.DONE:
            return
        case Exit.RETRY:
            raise Retry(str(ended))
        case Exit.REJECT:
            raise Reject(str(ended))
    raise (CommandKilled if ended.signal else CommandFailed)(ended.code, str(ended))


def _written(path: Path) -> JsonObject:
    """The JSON that the command left in QW_RESULT, as ``result``. Raise Invalid when it is none. Never waits."""
    if not path.exists():
        return {}
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Invalid("QW_RESULT: not a regular file")
        text = file.read(_MAX_WRITTEN + 1)
    if len(text) > _MAX_WRITTEN:
        raise Invalid(f"QW_RESULT: longer than {_MAX_WRITTEN:,} bytes")
    return {"result": parse(text, path="QW_RESULT")}


_MAX_WRITTEN = MAX_RESULT - 32 * 1024  # the rest is for stdout
