"""``qw enqueue --stdin``: one task per line of JSON, one COPY per batch.

A file is checked completely before anything is stored. Of a pipe, the first 64 MiB are checked first; later lines are
checked and stored batch by batch, and an error says which lines are stored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any

from qw.cli.output.progress import ProgressLine
from qw.cli.output.records import OutputFormat, print_lines, say, show_record
from qw.cli.output.text import counted
from qw.core.errors import Conflict, Fault, Invalid
from qw.core.task.payload import MAX_PAYLOAD, parse_object

if TYPE_CHECKING:
    from qw.cli.options.task_options import TaskOptions
    from qw.client import Client
    from qw.core.task import NewTask
    from qw.core.task.known_types import KnownTypes

MAX_LINE = MAX_PAYLOAD + 16 * 1024  # bytes: a payload and the other fields of its line
FIRST_LOOK = 64 * 1024 * 1024  # bytes of a pipe that are checked before anything is stored
_MAX_FAULTS = 10

Line = tuple[int, bytes]


async def enqueue_lines(client: Client, wanted: TaskOptions, output: OutputFormat, *, quiet: bool) -> None:
    """Enqueue the lines of stdin. Raise Invalid that names the line of each fault."""
    known = await client.tasks.known_types() if client.checks_tasks else None
    source = sys.stdin.buffer
    if source.seekable():
        start = source.tell()
        total = _check(_lines(source), wanted, known)
        source.seek(start)
        lines: Iterator[Line] = _lines(source)
    else:
        rest = _lines(source)
        head = list(_first(rest, FIRST_LOOK))
        _check(head, wanted, known)
        lines, total = chain(head, rest), None
    await _store(client, lines, wanted, known, total, output, quiet=quiet)


async def _store(
    client: Client,
    lines: Iterator[Line],
    wanted: TaskOptions,
    known: KnownTypes | None,
    total: int | None,
    output: OutputFormat,
    *,
    quiet: bool,
) -> None:
    from qw.client import COPY_BATCH

    stored = new = 0
    last = 0
    unheard: OSError | None = None  # stdout was closed; the remaining tasks are stored anyway
    with ProgressLine("enqueued", total) as progress:
        while batch := list(islice(lines, COPY_BATCH)):
            try:
                tasks = [_task(line, wanted, known) for line in batch]
                new += await client.enqueue_many(tasks)
            except Invalid as error:
                if not stored:
                    raise
                raise Invalid(*error.faults, _stored(last, stored)) from None
            except Conflict as error:
                # if an id occurs twice, the conflict is with the later line
                places = {task.id: f"line {line[0]}: " for line, task in zip(batch, tasks, strict=True)}
                where = places.get(error.holder, "") if error.holder else ""
                raise Conflict(f"{where}{error}; {_stored(last, stored)}", holder=error.holder) from None
            stored, last = stored + len(tasks), batch[-1][0]
            progress.at(stored)
            if quiet and unheard is None:
                try:
                    print_lines(str(task.id) for task in tasks)
                except OSError as error:
                    unheard = error
    if unheard is not None:
        raise unheard
    if not quiet and output is not OutputFormat.TABLE:
        show_record({"lines": stored, "enqueued": new}, output)
    elif not quiet:
        known_already = f", {stored - new:,} were there already" if new < stored else ""
        say(f"{counted(new, 'task')} enqueued{known_already}")


def _stored(last: int, count: int) -> str:
    return f"lines up to {last:,} are stored ({counted(count, 'task')})" if count else "nothing is stored"


def _lines(source: IO[bytes]) -> Iterator[Line]:
    """Yield the non-empty lines with their numbers."""
    number = 0
    while text := source.readline(MAX_LINE + 1):
        number += 1
        if len(text) > MAX_LINE:
            raise Invalid(Fault(path=f"line {number}", message=f"longer than {MAX_LINE:,} bytes"))
        text = text.strip()
        if text:
            yield number, text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text


def _first(lines: Iterator[Line], most: int) -> Iterator[Line]:
    size = 0
    while size < most and (line := next(lines, None)) is not None:
        size += len(line[1])
        yield line


def _check(lines: Iterable[Line], wanted: TaskOptions, known: KnownTypes | None) -> int:
    """Return the number of tasks in *lines*. Raise Invalid with the first ten faults."""
    faults: list[Fault] = []
    count = 0
    for line in lines:
        try:
            _task(line, wanted, known)
        except Invalid as error:
            faults += error.faults
            if len(faults) >= _MAX_FAULTS:
                break
        count += 1
    if faults:
        raise Invalid(*faults[:_MAX_FAULTS], "nothing is stored")
    return count


def _task(line: Line, wanted: TaskOptions, known: KnownTypes | None) -> NewTask:
    number, text = line
    try:
        value: dict[str, Any] = parse_object(text, path="")
        task = wanted.task(value)
        if known is not None and (faults := known.faults(task)):
            raise Invalid(*faults)
    except Invalid as error:
        raise Invalid(*(_placed(fault, number) for fault in error.faults)) from None
    return task


def _placed(fault: Fault, number: int) -> Fault:
    return Fault(path=f"line {number}", message=str(fault))
