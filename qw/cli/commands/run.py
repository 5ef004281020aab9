"""``qw run``"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from qw.cli.command import needs, verbs
from qw.cli.options.completions import task_ids
from qw.cli.options.new_task import At, Delay, Key, MaxRetries, Priority, Queue
from qw.cli.output.records import Output, OutputFormat, Quiet, say, show_record
from qw.core.errors import Fault, Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qw.cli.options.task_options import TaskOptions
    from qw.cli.tail import LogCursor
    from qw.client import Client, Task
    from qw.core.task import NewTask
    from qw.core.task.payload import Json, JsonObject

app = verbs()

_IDS: dict[str, Any] = {"autocompletion": task_ids}
_PATIENCE = 1.0  # seconds without input before a message says that qw waits for it
_SHELL_SIGNS = frozenset({"|", "||", "&&", ">", ">>", "<", "2>", "2>&1", "&>", "&"})
_SHELL_WORDS = frozenset(
    {"cd", "export", "source", ".", "alias", "set", "unset", "if", "for", "while", "eval", "ulimit"}
)
_TAKES_SIGNS = frozenset({"test", "[", "expr", "find"})


@app.command(
    cls=needs(Right.OPERATE, Right.WORK),
    context_settings={"allow_interspersed_args": False},
    epilog="Example: qw run --wait -- sh -c 'echo hello; exit 0'",
)
def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD [ARG]...", help="Command and arguments.")],
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", "-e", metavar="NAME[=VALUE]", help="Pass an environment variable to the command. May be repeated."
        ),
    ] = None,
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Working directory. Default: the current directory.")
    ] = None,
    queue: Queue = None,
    priority: Priority = None,
    delay: Delay = None,
    at: At = None,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", metavar="ID", help="Run once this task has completed. May be repeated.", **_IDS),
    ] = None,
    after_any: Annotated[
        list[str] | None,
        typer.Option(
            "--after-any", metavar="ID", help="Run once one of these tasks has completed. May be repeated.", **_IDS
        ),
    ] = None,
    after_done: Annotated[
        list[str] | None,
        typer.Option(
            "--after-done",
            metavar="ID",
            help="Run once these tasks have ended or were removed, whatever their outcome. May be repeated.",
            **_IDS,
        ),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            "--notify",
            metavar="COMMAND|URL",
            help="Shell command to run when the task has ended, with its id in QW_AFTER and its status in "
            "QW_AFTER_STATUS. Or a URL that gets a POST request with both.",
        ),
    ] = None,
    key: Key = None,
    max_retries: MaxRetries = 1,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="Timeout per attempt. Default: none.")] = None,
    keep_background: Annotated[
        bool, typer.Option("--keep-background", help="Do not end background processes of the command.")
    ] = False,
    no_stdin: Annotated[
        bool,
        typer.Option("--no-stdin", "-n", help="Give the command no input. Default: piped input, up to 512 KiB."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for the command and exit with its exit code.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Like --wait, and print the output of the command.")
    ] = False,
    output: Output = OutputFormat.TABLE,
    quiet: Quiet = False,
) -> None:
    """Run a command as a task in the current directory and print the task id."""
    from qw.cli.options.task_options import TaskOptions
    from qw.cli.options.values import directory, program_of
    from qw.cli.session import with_client

    wanted = TaskOptions(
        type="command",
        values={
            "queue": queue, "priority": priority, "delay": delay, "run_at": at, "unique_key": key,
            "max_retries": max_retries, "timeout": timeout,
        },
    )  # fmt: skip
    program = program_of(command, directory(cwd), keeps=keep_background)
    input = None if no_stdin else _piped()
    payload = {**program, "env": _variables(env or []), **({"input": input} if input else {})}
    others = _others(after or [], after_any or [], after_done or [])
    _hint(command)
    told = None if notify is None else _notification(wanted, notify)

    async def enqueue(client: Client) -> UUID:
        task = wanted.one(payload)  # here, not before: its id takes the time of the database, known once connected
        return await _enqueue(client, task, others, told, notify or "")

    id = with_client(enqueue, creates=True)
    if not wait and not follow:
        show_record({"id": id}, output) if output is not OutputFormat.TABLE and not quiet else print(id)
        return
    if not follow:
        print(id, flush=True)
    raise typer.Exit(_stay(id, follow))


def _notification(wanted: TaskOptions, notify: str) -> TaskOptions:
    """Return the options of the notification task that runs after a task with the options *wanted*."""
    if not notify.strip() or ("://" in notify.split()[0] and not _is_url(notify)):
        message = f"{notify[:60]!r} is neither a command nor a URL with http:// or https://"
        raise Invalid(Fault(path="--notify", message=message))
    kept = {name: wanted.values[name] for name in ("queue", "priority", "max_retries")}
    if _is_url(notify):
        return replace(wanted, type="http_request", values={**kept, "max_retries": 5})
    return replace(wanted, values=kept)


def _piped() -> Json:
    """Return the data piped into this process, for the command's stdin; None if there is none.

    After one second without input, print what is being waited for.
    """
    from qw.core.task.command import MAX_INPUT, as_json

    if sys.stdin is None or sys.stdin.isatty():
        return None
    with suppress(OSError, ValueError):
        if not select.select([sys.stdin.fileno()], [], [], _PATIENCE)[0]:
            say("qw: reading the input of the command from stdin; if it has none, use --no-stdin or </dev/null")
    data = sys.stdin.buffer.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        message = (
            f"has more than {MAX_INPUT:,} bytes; write it to a file and let the command read that: "
            "qw run -- sh -c 'exec COMMAND < FILE'"
        )
        raise Invalid(Fault(path="stdin", message=message))
    return as_json(data) if data else None


def _hint(words: Sequence[str]) -> None:
    """Print how to use a shell if *words* look like shell syntax."""
    first = words[0]
    signs = [word for word in words[1:] if word in _SHELL_SIGNS]
    if signs and os.path.basename(first) not in _TAKES_SIGNS:
        say(f"qw: {signs[0]!r} is an argument of {first} here; for a shell's meaning: qw run -- sh -c '...'")
    elif len(words) == 1 and " " in first and not os.path.exists(first):
        say(f"qw: {first!r} is the name of one program here; for a shell command: qw run -- sh -c {first!r}")
    elif re.fullmatch(r"[A-Za-z_]\w*=.*", first):
        say(f"qw: {first!r} is the name of a program here; for a variable: qw run -e {first} -- COMMAND")
    elif first in _SHELL_WORDS and shutil.which(first) is None:
        say(f"qw: {first!r} is a command of the shell, not a program; use: qw run -- sh -c '{first} ...'")
    elif first[:1] in "—–":
        say(f"qw: {first!r} begins with a long dash; two hyphens separate the command: qw run -- COMMAND")
    elif os.path.basename(first) in ("sh", "bash") and words[1:2] == ["-c"] and len(words) > 3 and "$" not in words[2]:
        say(f"qw: {first} -c takes one argument, in quotes: qw run -- {first} -c {shlex.quote(' '.join(words[2:]))}")


def _variables(names: Sequence[str]) -> dict[str, Json]:
    """Return the values of ``NAME=VALUE``, and of ``NAME`` from this process's environment."""
    from qw.core.task.command import as_json

    values: dict[str, Json] = {}
    for variable in names:
        name, has_value, value = variable.partition("=")
        if not has_value and name not in os.environ:
            raise Invalid(
                Fault(
                    path="--env",
                    message=f"{name[:60]!r} is not set in this environment; give it a value with NAME=VALUE",
                )
            )
        values[name] = as_json(os.fsencode(value if has_value else os.environ[name]))
    return values


def _others(all: list[str], any: list[str], done: list[str]) -> tuple[str, list[str]]:
    """Return the condition (`qw.core.task.after.When`) and the ids of the tasks to run after. Commas also separate
    ids.
    """
    others = {when: words for when, words in {"all": all, "any": any, "done": done}.items() if words}
    if len(others) > 1:
        raise Invalid("--after, --after-any and --after-done are mutually exclusive")
    for when, words in others.items():
        return when, [id for word in words for id in word.split(",")]
    return "all", []


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


async def _enqueue(
    client: Client, task: NewTask, others: tuple[str, list[str]], told: TaskOptions | None, notify: str
) -> UUID:
    """Enqueue *task*, and with *told* also the command or request *notify* that follows it, in one transaction."""
    from qw.cli.tail import say_if_nobody_takes

    when, words = others
    if words:
        ids = [await client.tasks.resolve(word, path="--after") for word in words]
        for id in ids:
            await client.tasks.get(id)
        before: JsonObject = {"tasks": [str(id) for id in ids], "when": when}
        task = replace(task, payload={**task.payload, "after": before})
    if told is None:
        done = (await client.enqueue_task(task)).id
    else:
        after: JsonObject = {"tasks": [str(task.id)], "when": "done"}
        what: JsonObject = {"argv": ["/bin/sh", "-c", notify], "cwd": task.payload["cwd"]}
        if _is_url(notify):
            what = {"method": "POST", "url": notify}
        end = told.one({**what, "after": after})
        await client.enqueue_many([task, end])
        done = task.id
    await say_if_nobody_takes(client, "command", task.queue)
    return done


def _stay(id: UUID, follow: bool) -> int:
    """Wait for the command to finish; on ^C, ask what to do with it. Return its exit code."""
    from qw.cli import tail
    from qw.cli.session import with_client

    place = tail.LogCursor()
    while True:
        try:
            task = with_client(lambda client: _end(client, id, follow, place))
        except KeyboardInterrupt:
            if not _ask_what_to_do(id):
                return 130
            continue
        except BrokenPipeError:
            _say_how_to_stop(id)
            raise
        tail.say_end(task) if not follow or task.error else None
        return tail.exit_code(task)


async def _end(client: Client, id: UUID, follow: bool, place: LogCursor) -> Task:
    from qw.cli import tail

    return await tail.follow(client, id, place, tail.print_output if follow else lambda line: None)


def _say_how_to_stop(id: UUID) -> None:
    say(f"the task keeps running; stop it with: qw task cancel --running {id}")


def _ask_what_to_do(id: UUID) -> bool:
    """Return whether to continue waiting after an interrupt. Cancel the task if the user chooses so."""
    from qw.cli.session import with_client

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _say_how_to_stop(id)
        return False
    sys.stderr.write("\nCancel the task (c), leave it running (l), or continue waiting (Enter)? ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        answer = "l"
    if answer.startswith("c"):
        with_client(lambda client: client.tasks.cancel([id], running=True, reason="cancelled by ^C"))
        return True
    if answer.startswith("l"):
        say(f"the task keeps running; follow it with: qw logs -f {id}")
        return False
    return True
