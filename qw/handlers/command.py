"""`command`: runs a program. Its output becomes the task's log, its exit code the task's outcome.

``{"command": "name"}`` runs a command that the operator has declared; the payload supplies only data. Free commands,
``{"argv": […]}`` and ``{"run": "shell text"}``, run only if the daemon allows them, since otherwise anyone who can
insert a task could start any program.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID

from pydantic import Base64Bytes, BaseModel, model_validator

from qw.core.duration import format_duration
from qw.core.errors import guess
from qw.core.task.command import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    TIMED_OUT,
    Background,
    CommandSpec,
    Exit,
    Shell,
    StdoutFormat,
)
from qw.core.task.error_kind import TIMEOUT
from qw.core.task.handler_api import Context, Failure, Reject, Retry
from qw.core.task.payload import Json
from qw.core.task.secret_mask import SecretMask
from qw.handlers.after import After, ComeAfter, no_others
from qw.handlers.artifacts import Artifacts, keep_artifacts
from qw.handlers.child import ExitStatus, Pipe, Program, started
from qw.handlers.command_result import result_of
from qw.handlers.output import Captured, Output, follow
from qw.handlers.registry import HandlerKind, Handlers
from qw.handlers.secrets import Reveal, Revealed, no_secrets
from qw.handlers.unix_user import UnixUser, unix_user

MAX_IN_ENVIRONMENT = 64 * 1024  # bytes of a payload in QW_PAYLOAD; a longer one is only in the file QW_PAYLOAD_FILE

_SHELLS = {"sh": ("/bin/sh", "-eu"), "bash": ("bash", "-euo", "pipefail")}
_MAX_ARGUMENT = 128 * 1024 - 1  # bytes of one argument or variable on Linux; longer scripts run from a file
INHERITED = (  # variables of the daemon that commands inherit; * matches any suffix
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "COLORTERM", "NO_COLOR"),
    *("TMPDIR", "XDG_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "QW_ENV_*"),
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s@]*:[^/\s@]+@")
_NOT_FREE = re.compile(r"QW_|LD_|.*[=\0]|$", re.DOTALL)
_LAST_OUTPUT_SECONDS = 1.0
_ERROR_LINES, _ERROR_CHARACTERS = 10, 2000  # limits for stderr in an error message


EXIT_CODES: Mapping[int, Exit] = {0: Exit.DONE, 75: Exit.RETRY, 65: Exit.REJECT, 78: Exit.REJECT}


class CommandFailed(Failure):
    """The command exited with ``exit_code``; 128 + n if signal n killed it."""

    def __init__(self, exit_code: int, message: str) -> None:
        self.exit_code = exit_code
        super().__init__(message, kind=f"exit:{exit_code}")


class CommandTimedOut(CommandFailed):
    """The command ran longer than its declared timeout."""

    def __init__(self, message: str) -> None:
        super().__init__(TIMED_OUT, message)
        self.kind = TIMEOUT


class CommandKilled(CommandFailed):
    """A signal killed the command."""


async def _none_stored(name: str) -> CommandSpec | None:
    return None


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """The command settings of a daemon. *commands*: the commands that its operator declared, by name.

    *allowed*: also run commands from payloads, and commands *stored* in the database by name. *inherited*: names of
    variables of the daemon that commands get in addition to `INHERITED`. *artifacts*: returns the folder of a run, and
    creates it if needed. *reveal*: returns the variables of a step that contain secrets. *come_after*: waits for other
    tasks, and returns how they ended.
    """

    allowed: bool = False
    commands: Mapping[str, CommandSpec] = field(default_factory=dict)
    stored: Callable[[str], Awaitable[CommandSpec | None]] = _none_stored
    come_after: ComeAfter = no_others
    inherited: tuple[str, ...] = ()
    artifacts: Callable[[UUID], Awaitable[Path]] | None = None
    reveal: Reveal = no_secrets


class Encoded(BaseModel, extra="forbid"):
    """Bytes that are not UTF-8, as base64."""

    base64: Base64Bytes


def _text(value: str | Encoded) -> str:
    """Return *value* as a string, with bytes decoded as Python decodes arguments and paths (``os.fsdecode``)."""
    return value if isinstance(value, str) else os.fsdecode(value.base64)


class CommandPayload(BaseModel):
    """The payload of a command; exactly one of ``argv``, ``run`` and ``command`` is set.

    ``input`` is written to stdin: text, bytes as ``{"base64": …}``, or other JSON. ``background``: see `Background`.
    ``artifacts``: files to keep for later steps of the run, by name; paths are relative to the command's directory.
    """

    argv: list[str | Encoded] | None = None
    run: str | None = None
    shell: Literal["sh", "bash"] | tuple[str, ...] | None = None
    command: str | None = None
    cwd: str | Encoded | None = None
    env: dict[str, str | Encoded] = {}
    input: Any = None
    user: str | None = None
    output: StdoutFormat | None = None
    artifacts: dict[str, str] = {}
    secrets: list[str] = []
    background: Background = Background.END
    exit_codes: dict[int, Exit] = {}
    after: After | None = None

    @model_validator(mode="after")
    def _one_command(self) -> CommandPayload:
        fields = [name for name in ("argv", "run", "command") if getattr(self, name)]
        if len(fields) != 1:
            raise ValueError(f"needs one of argv, run and command, not {' and '.join(fields) or 'none'}")
        if self.shell is not None and (not self.run or not self.shell):
            raise ValueError("shell: goes with run, and names sh, bash, or a list of a program and its arguments")
        if bad := next((name for name in self.env if _NOT_FREE.match(name)), None):
            raise ValueError(f"env: {bad!r} cannot be set by a task")
        return self


def add_command(app: Handlers, options: CommandOptions) -> None:
    @app.handler("command", slots=HandlerKind.PROCESS, timeout=None)
    async def command(payload: CommandPayload, context: Context) -> Json:
        before = await _come_after(payload.after, context, options) if payload.after else {}
        declared = await _declared(payload, options)
        user = unix_user(declared.user)
        artifacts = await _artifacts(payload, context, options)
        revealed = await options.reveal(context) if payload.secrets else Revealed()
        with tempfile.TemporaryDirectory(prefix="qw-command-") as private, _stdin(payload, context) as stdin:
            folder = Path(private)
            env = _environment(declared, context, folder, options.inherited, user)
            env.update(revealed.values)
            env.update(before)
            if artifacts:
                env["QW_ARTIFACTS"] = str(artifacts.folder)
            program = _program(declared, folder, env, user)
            ended, stdout, stderr = await _run_in_time(program, stdin, context, declared.timeout, revealed.mask)
            if ended.left:
                await context.log(_of_background(ended, declared), level="WARNING")
            _judge(ended, stderr, {**EXIT_CODES, **declared.exit_codes, **payload.exit_codes})
            result = result_of(program, ended.code, stdout, folder, payload.output, revealed.mask)
            if artifacts and payload.artifacts:
                result["artifacts"] = await keep_artifacts(artifacts, payload.artifacts, program)
            return result


async def _come_after(after: After, context: Context, options: CommandOptions) -> Mapping[str, str]:
    """Wait for the other tasks. Return variables with the id and the `AfterStatus` of the first task that ended."""
    ended = await options.come_after(context, after.tasks, after.when)
    first, status = next(iter(ended.items()))
    return {"QW_AFTER": str(first), "QW_AFTER_STATUS": status}


async def _artifacts(payload: CommandPayload, context: Context, options: CommandOptions) -> Artifacts | None:
    """Return where the task's run stores files, None outside a run. Raise Reject for artifacts of such a task."""
    if context.run_id is None or options.artifacts is None:
        if payload.artifacts:
            raise Reject("artifacts: only a step of a workflow has a folder for them")
        return None
    return Artifacts(folder=await options.artifacts(context.run_id), step=context.step_id or "")


async def _declared(payload: CommandPayload, options: CommandOptions) -> CommandSpec:
    """Return the command that *payload* names or contains. Raise Reject if it is unknown or not allowed here."""
    if payload.command:
        declared = options.commands.get(payload.command)
        if declared is None and options.allowed:
            declared = await options.stored(payload.command)
        if declared is None:
            raise Reject(_unknown(payload.command, options))
        if payload.env or payload.cwd or payload.user:
            raise Reject(f"the command {payload.command!r} is declared: env, cwd and user are set in its declaration")
        return declared
    if not options.allowed:
        raise Reject("this daemon runs only declared commands; for argv and run start it with --allow-commands")
    return CommandSpec(
        name="",
        run=payload.run or tuple(map(_text, payload.argv or ())),
        shell=payload.shell,
        cwd=_text(payload.cwd) if payload.cwd else None,
        user=payload.user,
        env={name: _text(value) for name, value in payload.env.items()},
        background=payload.background,
    )


def _of_background(ended: ExitStatus, declared: CommandSpec) -> str:
    if declared.background is Background.KEEP:
        return f"the command left processes running: {ended.left}"
    return f"ended what the command left running: {ended.left}; to keep such processes, give it background: keep"


def _unknown(name: str, options: CommandOptions) -> str:
    hint = guess(name, options.commands)
    applied = "nor applied" if options.allowed else "(applied ones run with --allow-commands only)"
    return f"no command {name[:60]!r} is declared under commands: in a file of this daemon, {applied}{hint}"


def _script(declared: CommandSpec, private: Path) -> Path | None:
    """Write the text of the command to a file and return its path; None if the text is passed as an argument."""
    if not isinstance(declared.run, str) or not _needs_file(declared.run, declared.shell):
        return None
    script = private / "script"
    script.write_text(declared.run, encoding="utf-8")
    return script


def _needs_file(text: str, shell: Shell | None) -> bool:
    if isinstance(shell, tuple) or (shell is None and text.startswith("#!")):
        return True
    return len(text.encode()) > _MAX_ARGUMENT


def _program(declared: CommandSpec, private: Path, env: Mapping[str, str], user: UnixUser | None) -> Program:
    """Return the program to run. Its script, and without ``cwd`` its working directory, are created in *private*."""
    cwd = _directory(declared.cwd, env.get("QW_ARTIFACTS")) if declared.cwd else private / "work"
    if not declared.cwd:
        cwd.mkdir(mode=0o700)
    if not os.path.isdir(cwd):
        raise Reject(f"cwd: {str(cwd)!r} is not a directory here")
    if not os.access(cwd, os.X_OK):
        raise Reject(f"cwd: {str(cwd)!r} cannot be entered by the daemon's user")
    argv = _argv(declared, _script(declared, private))
    if user:
        user.own(private)
    return Program(
        executable=_executable(argv[0], cwd, env.get("PATH", os.defpath)),
        argv=argv,
        env=env,
        cwd=cwd,
        keeps_background=declared.background is Background.KEEP,
        user=user.name if user else "",
    )


def _directory(named: str, artifacts: str | None) -> Path:
    """Return the directory *named*. Raise Reject if it begins with ``$QW_ARTIFACTS`` and the task has no run."""
    first, *rest = Path(named).parts
    if first not in ("$QW_ARTIFACTS", "${QW_ARTIFACTS}"):
        return Path(named)
    if artifacts is None:
        raise Reject("cwd: $QW_ARTIFACTS: only a step of a workflow has a folder for files")
    return Path(artifacts, *rest)


def _argv(declared: CommandSpec, script: Path | None) -> tuple[str, ...]:
    text, shell = declared.run, declared.shell
    if not isinstance(text, str):
        return tuple(text)
    if shell is None and text.startswith("#!"):
        shell = tuple(text[2:].split("\n", 1)[0].strip().split(None, 1))  # as Linux: a program and at most one argument
        if not shell:
            raise Reject("the #! line names no program")
    words = shell if isinstance(shell, tuple) else _SHELLS[shell or "sh"]
    return (*words, str(script)) if script else (*words, "-c", text)


def _executable(name: str, cwd: Path, path: str) -> str:
    """Return the absolute path of *name*, resolved now so that nothing can change which program starts."""
    folders = [Path(folder) for folder in path.split(os.pathsep) if os.path.isabs(folder)]
    places = [cwd / name] if "/" in name else [folder / name for folder in folders] if name else []
    executable = next((place for place in places if place.is_file() and os.access(place, os.X_OK)), None)
    if executable is None:
        is_there = any(os.path.lexists(place) for place in places)
        code, why = (NOT_EXECUTABLE, "permission denied") if is_there else (NOT_FOUND, "not found")
        raise Reject(f"exit code {code}: {name!r} is not an executable here: {why}", kind=f"exit:{code}")
    return os.path.abspath(executable)


def _environment(
    declared: CommandSpec, context: Context, private: Path, more: Sequence[str], user: UnixUser | None
) -> dict[str, str]:
    """Return the command's environment: inherited variables, the command's own, and those that describe the task.

    Any variable of the daemon may hold a secret, whatever its name, so only listed variables are inherited.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if _is_listed(name, more) or (_is_listed(name, INHERITED) and not _PASSWORD_IN_URL.search(value))
    }
    payload = json.dumps(context.payload, ensure_ascii=False)
    file = private / "payload.json"
    file.write_text(payload, encoding="utf-8")
    told = {
        "QW_TASK_ID": str(context.task_id),
        "QW_ATTEMPT": str(context.attempt),
        "QW_RESULT": str(private / "result.json"),
        "QW_OUTPUT": str(private / "output"),
        "QW_PAYLOAD_FILE": str(file),
        **({"QW_PAYLOAD": payload} if len(payload.encode()) <= MAX_IN_ENVIRONMENT else {}),
        **({"TRACEPARENT": context.headers["traceparent"]} if "traceparent" in context.headers else {}),
    }
    for name, value in declared.env.items():
        if (size := len(os.fsencode(f"{name}={value}"))) > _MAX_ARGUMENT:
            raise Reject(
                f"env: {name} has {size:,} bytes; a variable may have at most {_MAX_ARGUMENT:,}: "
                "give it as input:, which comes on stdin, or under with:, which QW_PAYLOAD_FILE has"
            )
    return {**inherited, **(user.env if user else {}), **declared.env, **told}


def _is_listed(name: str, names: Sequence[str]) -> bool:
    return any(name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in names)


@contextmanager
def _stdin(payload: CommandPayload, context: Context) -> Iterator[IO[Any]]:
    """Yield the command's stdin: ``input``; else the payload if it has fields other than the handler's; else nothing.

    It is a file, so the command may read it at any time or not at all.
    """
    data: Any = payload.input
    if data is None and not context.payload.keys() <= CommandPayload.model_fields.keys():
        data = context.payload
    if data is None or data == "":
        with open(os.devnull, "rb") as nothing:
            yield nothing
        return
    with tempfile.TemporaryFile() as file:
        file.write(_bytes(data))
        file.seek(0)
        yield file


def _bytes(data: Any) -> bytes:
    if isinstance(data, dict) and data.keys() == {"base64"}:
        return Encoded.model_validate(data).base64
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return text.encode()


async def _run_in_time(
    program: Program, stdin: IO[Any], context: Context, limit: timedelta | None, mask: SecretMask
) -> tuple[ExitStatus, Captured, Captured]:
    """As `_run`, with the command's own timeout *limit*. The worker enforces the timeout of the attempt."""
    try:
        async with asyncio.timeout(limit.total_seconds() if limit else None):
            return await _run(program, stdin, context, mask)
    except TimeoutError:
        raise CommandTimedOut(f"timed out after {format_duration(limit or timedelta())}") from None


async def _run(
    program: Program, stdin: IO[Any], context: Context, mask: SecretMask
) -> tuple[ExitStatus, Captured, Captured]:
    """Run *program* to its end and log its output. Return its exit status, stdout and stderr."""
    output = Output(context)
    async with started(program, stdin=stdin, capture=True) as (child, (stdout, stderr)):
        followers = [
            asyncio.create_task(follow(stdout, output, "INFO", mask)),
            asyncio.create_task(follow(stderr, output, "WARNING", mask)),
        ]
        try:
            ended = await child.ended()
        finally:
            await _finish(followers, (stdout, stderr))
            await output.close()
    first, second = (Captured() if follower.cancelled() else follower.result() for follower in followers)
    return ended, first, second


async def _finish(followers: Sequence[asyncio.Task[Captured]], pipes: Sequence[Pipe]) -> None:
    """Wait for the last output, for a limited time, because a surviving child process could hold the pipe open."""
    _, waiting = await asyncio.wait(followers, timeout=_LAST_OUTPUT_SECONDS)
    for pipe in pipes if waiting else ():
        pipe.close()  # data read so far is still logged
    if waiting:
        _, waiting = await asyncio.wait(waiting, timeout=_LAST_OUTPUT_SECONDS)
    for follower in waiting:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)


def _judge(ended: ExitStatus, stderr: Captured, meaning: Mapping[int, Exit]) -> None:
    """Return if the exit code means success; else raise the exception that it means, with the end of stderr."""
    text = _with_stderr(str(ended), stderr)
    match meaning.get(ended.code, Exit.FAIL):
        case Exit.DONE:
            return
        case Exit.RETRY:
            raise Retry(text, kind=f"exit:{ended.code}")
        case Exit.REJECT:
            raise Reject(text, kind=f"exit:{ended.code}")
    raise (CommandKilled if ended.signal else CommandFailed)(ended.code, text)


def _with_stderr(ended: str, stderr: Captured) -> str:
    """Return the error text, ``exit code 2: cat: x: No such file``, or with the last lines of stderr; marks a cut."""
    said = stderr.tail.strip()[-_ERROR_CHARACTERS:]
    lines = said.splitlines()[-_ERROR_LINES:]
    if not lines:
        return ended
    if len("\n".join(lines)) < len(stderr.text.strip()) or not stderr.is_whole:
        return "\n".join([f"{ended}; stderr ends with:", *(f"  {line}" for line in lines)])
    return (
        f"{ended}: {lines[0]}"
        if len(lines) == 1
        else "\n".join([f"{ended}; stderr:", *(f"  {text}" for text in lines)])
    )
