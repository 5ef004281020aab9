"""Selects the tasks that a command acts on: ids, ids on stdin or filters. Asks before it changes many."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import IO, TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from qw.cli.options.completions import queue_names, run_ids, statuses, task_ids, type_names
from qw.cli.options.values import SUSPENDED
from qw.cli.output.records import OutputFormat, dumped, print_lines, say, show_records
from qw.cli.output.text import counted
from qw.core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from qw.client import Client, Filter, Status, Task
    from qw.core.task.answer import Answers

BATCH = 500  # tasks in one transaction
_SHOWN = 10  # errors that are printed


Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]...", help="Task ids or unique prefixes; - reads ids from stdin.", autocompletion=task_ids
    ),
]
Queue = Annotated[
    str | None, typer.Option("--queue", "-q", help="Only tasks in this queue.", autocompletion=queue_names)
]
Type = Annotated[str | None, typer.Option("--type", "-t", help="Only tasks of this type.", autocompletion=type_names)]
State = Annotated[
    str | None,
    typer.Option(
        "--status", "-s", metavar="STATUS,...", help="Only tasks with one of these statuses.", autocompletion=statuses
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|AGE", help="Only tasks created since this time: 2h (ago), yesterday, 18:00, 2026-11-24."
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME|AGE", help="Only tasks created before this time; formats as for --since.")
]
Error = Annotated[str | None, typer.Option(metavar="TEXT", help="Only tasks whose error contains this text.")]
Run = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Only tasks of this workflow run (id or prefix).", autocompletion=run_ids),
]
All = Annotated[bool, typer.Option("--all", help="All tasks that the command applies to.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list the tasks that would be affected.")]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The filters as typed."""

    queue: str | None = None
    type: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    error: str | None = None
    run: str | None = None

    async def match(self, client: Client) -> Filter:
        """Return the filter without statuses, which `statuses` returns. Raise Invalid for values that cannot be
        read.
        """
        from qw.cli.options.values import past
        from qw.client import Filter

        return Filter(
            queue=self.queue,
            type=self.type,
            suspended=self._means_suspended,
            since=past(self.since, "--since"),
            until=past(self.until, "--until"),
            error=self.error,
            run_id=await client.runs.resolve(self.run, path="--run") if self.run else None,
        )

    @property
    def statuses(self) -> list[Status]:
        """Return the statuses to match; none means all. Raise Invalid for unknown words."""
        return list(dict.fromkeys(_status(word) for word in self._words))

    @property
    def _words(self) -> list[str]:
        return [] if self.status is None else [word.strip().lower() for word in self.status.split(",")]

    @property
    def _means_suspended(self) -> bool:
        """Whether of the pending tasks only suspended ones are wanted."""
        return SUSPENDED in self._words and "pending" not in self._words

    @property
    def is_empty(self) -> bool:
        return self == Filters()


def _status(word: str) -> Status:
    from qw.client import Status
    from qw.core.errors import guess

    try:
        return Status({"running": "processing", SUSPENDED: "pending"}.get(word, word))
    except ValueError:
        known = [*Status, SUSPENDED]
        hint = f"; did you mean {right!r}?" if (right := _STATUS_WORDS.get(word)) else guess(word, known)
        raise Invalid(f"--status: {word[:60]!r} is not one of {', '.join(known)}{hint}") from None


_STATUS_WORDS: Mapping[str, str] = {  # statuses as other programs call them
    **dict.fromkeys(("done", "success", "succeeded", "ok", "finished"), "completed"),
    **dict.fromkeys(("error", "failure", "dead", "discarded"), "failed"),
    **dict.fromkeys(("active", "started", "executing"), "processing"),
    **dict.fromkeys(("queued", "waiting", "scheduled", "available", "ready"), "pending"),
    **dict.fromkeys(("killed", "revoked", "aborted"), "cancelled"),
    "retry": "retrying",
}


@dataclass(frozen=True, kw_only=True)
class BulkAction:
    """What a command does to tasks. ``act`` returns an answer for each id.

    Each batch is a transaction of its own, so an interrupted command can be repeated to act on the remaining tasks.
    """

    verb: str
    done: str
    statuses: Sequence[str]  # selected by filters without --status
    others: Sequence[str] = ()  # which --status may name too
    act: Callable[[Client, Sequence[UUID]], Awaitable[Answers]]
    noun: str = "task"
    find: Callable[[Client], Awaitable[list[UUID]]] | None = None  # replaces the filters


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The tasks that a command acts on, and whether it asks, only previews, and how it prints."""

    words: Sequence[str]
    filters: Filters
    all: bool
    yes: bool
    dry_run: bool
    output: OutputFormat
    quiet: bool

    @property
    def is_named(self) -> bool:
        """Whether each task is named on the command line, so that no confirmation is needed."""
        return bool(self.words) and "-" not in self.words


def asked_for(params: Mapping[str, Any]) -> Selection:
    """Build the selection from the option values of a bulk command."""
    names = {field.name for field in fields(Filters)}
    return Selection(
        words=params["ids"] or [],
        filters=Filters(**{name: value for name, value in params.items() if name in names}),
        all=params.get("all", False),
        yes=params["yes"],
        dry_run=params["dry_run"],
        output=params["output"],
        quiet=params["quiet"],
    )


async def change(client: Client, wanted: BulkAction, asked: Selection) -> int:
    """Act on the selected tasks in transactions of at most `BATCH` tasks. Return the exit code."""
    _check_statuses(wanted, asked.filters.statuses)
    ids = await _chosen(client, wanted, asked)
    if not ids:
        _show(asked, {}, [])
        raise NotFound(f"nothing to {wanted.verb}: {_none_found(wanted, asked)}")
    if asked.dry_run:
        say(f"{counted(len(ids), wanted.noun)} would be {wanted.done}")
        print_lines(map(str, ids))
        return 0
    if not asked.is_named and not asked.yes:
        count = counted(len(ids), wanted.noun)
        confirm(f"{wanted.verb.capitalize()} {count}?", count=count)
    answers = await _in_batches(client, wanted, ids)
    return _report(wanted, asked, answers)


def _check_statuses(wanted: BulkAction, statuses: Sequence[Status]) -> None:
    """Raise Invalid if --status names one that no task of which can be changed: a preview would promise it."""
    possible = [*wanted.statuses, *wanted.others]
    if wanted.find is None and statuses and not set(statuses) & set(possible):
        raise Invalid(f"--status: {wanted.verb} is for {', '.join(possible)} tasks, not for {', '.join(statuses)} ones")


def confirm(question: str, *, count: str, preview: str = "preview with --dry-run") -> None:
    """Ask on the terminal. Raise Exit if the answer is no, Invalid without a terminal."""
    terminal = _terminal()
    if terminal is None:
        raise Invalid(f"{count} would be changed, and there is no terminal to confirm; repeat with --yes, or {preview}")
    with terminal:
        terminal.write(f"{question} [y/N] ".encode())
        answer = terminal.readline().strip().lower()
    if answer not in (b"y", b"yes"):
        raise typer.Exit(1)


def can_ask() -> bool:
    """Whether there is a terminal to ask on."""
    terminal = _terminal()
    if terminal is not None:
        terminal.close()
    return terminal is not None


def _terminal() -> IO[bytes] | None:
    try:
        return open("/dev/tty", "r+b", buffering=0) if sys.stderr.isatty() else None
    except OSError:
        return None


def _none_found(wanted: BulkAction, asked: Selection) -> str:
    if asked.words:
        return "stdin has no ids"
    if wanted.find is not None:
        return f"no {wanted.noun} matches"
    statuses = asked.filters.status or " or ".join(wanted.statuses)
    running = "; running ones with --running" if wanted.verb == "cancel" and "processing" not in statuses else ""
    return f"no {statuses} {wanted.noun} matches{running}"


async def _chosen(client: Client, wanted: BulkAction, asked: Selection) -> list[UUID]:
    if asked.words:
        if not asked.filters.is_empty or asked.all:
            raise Invalid("give task ids or filters, not both")
        return await ids_of(client, asked.words, any=wanted.find is not None)
    if wanted.find is not None:
        return await wanted.find(client)
    if asked.filters.is_empty and not asked.all:
        raise Invalid(f"no tasks given: qw task {wanted.verb} takes task ids, filters such as --type, or --all")
    ids = await _matching(client, wanted, asked.filters)
    if not ids and (said := await unknown(client, asked.filters)):
        raise NotFound(said)
    return ids


async def ids_of(client: Client, words: Sequence[str], *, any: bool = False) -> list[UUID]:
    """Resolve *words* (ids, unique prefixes, or ``-`` for words on stdin) to tasks; with *any* also to runs."""
    texts = [text for word in words for text in (sys.stdin.read().split() if word == "-" else [word])]
    resolve = client.tasks.resolve_any if any else client.tasks.resolve
    return list(dict.fromkeys([await _id(resolve, word, is_one_of_many=len(texts) > 20) for word in texts]))


async def _id(resolve: Callable[[str], Awaitable[UUID]], word: str, *, is_one_of_many: bool) -> UUID:
    """Resolve *word*. Among many words, full ids are not looked up: a round trip for each would take too long."""
    from qw.core.ids import prefix_of

    digits = prefix_of(word)
    return UUID(digits) if is_one_of_many and digits and len(digits) == 32 else await resolve(word)


async def unknown(client: Client, filters: Filters) -> str:
    """Return an error for a queue or type in *filters* that does not exist; empty if all exist."""
    from qw.core.errors import guess

    queues = [stats.queue for stats in await client.queues.stats()]
    if filters.queue and filters.queue not in queues:
        return f"there is no queue {filters.queue!r}: it has never had a task{guess(filters.queue, queues)}"
    types = await client.tasks.types()
    if filters.type and filters.type not in types:
        return f"there is no task type {filters.type!r}{guess(filters.type, types)}"
    return ""


async def _matching(client: Client, wanted: BulkAction, filters: Filters) -> list[UUID]:
    from qw.client import Status

    match = await filters.match(client)
    statuses = filters.statuses or [Status(status) for status in wanted.statuses]
    return sorted([id for status in statuses for id in await all_ids(client, replace(match, status=status))])


async def find_tasks(client: Client, filters: Filters, *, limit: int, before: UUID | None = None) -> list[Task]:
    """Return the matching tasks, newest first."""
    match = await filters.match(client)
    page = {} if before is None else {"before": before}
    matches = [replace(match, status=status) for status in filters.statuses] or [match]
    tasks = [task for match in matches for task in await client.tasks.find(match, limit=limit, **page)]
    return sorted({task.id: task for task in tasks}.values(), key=lambda task: task.id, reverse=True)[:limit]


async def all_ids(client: Client, match: Filter) -> list[UUID]:
    """Return all matching ids, newest first."""
    ids: list[UUID] = []
    while page := await client.tasks.find_ids(match, limit=10_000, **({"before": ids[-1]} if ids else {})):
        ids += page
    return ids


async def _in_batches(client: Client, wanted: BulkAction, ids: Sequence[UUID]) -> Answers:
    from qw.cli.output.progress import ProgressLine

    answers: Answers = {}
    try:
        with ProgressLine(wanted.done, len(ids)) as progress:
            for start in range(0, len(ids), BATCH):
                answers |= await wanted.act(client, ids[start : start + BATCH])
                progress.at(len(answers))
    except BaseException:
        if answers:
            say(f"{len(answers):,} of {counted(len(ids), wanted.noun)} {wanted.done}; run it again for the rest")
        raise
    return answers


def _report(wanted: BulkAction, asked: Selection, answers: Answers) -> int:
    from qw.cli.program import EXIT_CODES

    good = [id for id, answer in answers.items() if answer.is_done]
    refused = [error for id, answer in answers.items() if (error := answer.error(wanted.verb, id))]
    if len(answers) == 1 and refused:
        raise refused[0]
    _show(asked, answers, good)
    if not asked.quiet and asked.output is OutputFormat.TABLE:
        before = sum(answer.was_done_before for answer in answers.values())
        say(
            f"{counted(len(good), wanted.noun)} {wanted.done}"
            f"{f', {before:,} were before' if before else ''}{f', {len(refused):,} not' if refused else ''}"
        )
    for error in refused[:_SHOWN]:
        say(f"qw: {error}")
    if len(refused) > _SHOWN:
        say(f"qw: and {len(refused) - _SHOWN:,} more")
    return EXIT_CODES[refused[0].code] if refused and asked.is_named else 0


def _show(asked: Selection, answers: Answers, good: Sequence[UUID]) -> None:
    if asked.quiet:
        print_lines(map(str, good))
    elif asked.output is OutputFormat.JSONL:
        print_lines(dumped({"id": str(id), "outcome": answer.code}) for id, answer in answers.items())
    elif asked.output is OutputFormat.JSON:
        show_records([{"id": str(id), "outcome": answer.code} for id, answer in answers.items()], OutputFormat.JSON)
