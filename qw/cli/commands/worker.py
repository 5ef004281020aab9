"""``qw worker``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import needs, noun
from qw.cli.options.completions import worker_ids
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, Quiet, record, say, show_all, show_record
from qw.cli.output.text import ago
from qw.core.errors import Invalid
from qw.core.rights import Right

if TYPE_CHECKING:
    from qw.client import Client
    from qw.store.workers import InHand, WorkerRow

app = noun("worker")

_IN_HAND: Sequence[Column] = (
    Column(title="task", text=lambda task: str(task.task_id), is_id=True),
    Column(title="type", text=lambda task: task.type),
    Column(title="attempt", text=lambda task: str(task.attempt), right=True, rank=2),
    Column(title="since", text=lambda task: ago(task.claimed_at), right=True, rank=1),
)


@app.command("list", cls=needs(Right.READ), epilog="Example: qw worker list")
def list_workers(output: Output = OutputFormat.TABLE, quiet: Quiet = False) -> None:
    """List running workers with the age of their last heartbeat."""
    from qw.cli.commands.status import WORKER_COLUMNS
    from qw.cli.session import with_client

    show_all(with_client(lambda client: client.workers.all()), WORKER_COLUMNS, output, quiet=quiet)


@app.command("show", cls=needs(Right.READ), epilog="Example: qw worker list --quiet")
def show(
    id: Annotated[int, typer.Argument(metavar="WORKER", min=1, help="Worker id.", autocompletion=worker_ids)],
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a worker and the tasks it is running."""
    from qw.cli.session import with_client

    with_client(lambda client: show_worker(client, id, output))


async def show_worker(client: Client, id: int, output: OutputFormat) -> None:
    """Print the details of a worker."""
    worker, tasks = await _one(client, id)
    if output is not OutputFormat.TABLE:
        show_record({**record(worker), "tasks": record(tasks)}, output)
        return
    from qw.cli.commands.status import slots_of, state_of
    from qw.cli.output.tables import print_table
    from qw.cli.output.views import print_fields

    print_fields(
        {
            "worker": str(worker.id),
            "host": f"{worker.host}, process {worker.pid}",
            "version": worker.version,
            "state": state_of(worker) or "working",
            "started": ago(worker.started_at),
            "seen": ago(worker.seen_at),
            "queues": ", ".join(worker.queues) or "all",
            "slots": slots_of(worker),
            "types": ", ".join(worker.types),
        }
    )
    if tasks:
        print()
        print_table(_IN_HAND, tasks)


@app.command("slots", cls=needs(Right.OPERATE), epilog="Example: qw worker slots 4")
def slots(
    commands: Annotated[
        int | None, typer.Argument(metavar="N", min=1, help="Number of commands and process handlers.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of async handlers.")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of sync handlers.")] = None,
    worker: Annotated[
        list[int] | None,
        typer.Option(
            "--worker",
            "-w",
            metavar="WORKER",
            min=1,
            autocompletion=worker_ids,
            help="Only this worker. May be repeated. Default: all running workers.",
        ),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Change how many commands (N) or handlers running workers run at once.

    Takes effect within about a second; what is running is not interrupted. It holds until the worker stops: to keep
    it, set QW_COMMAND_SLOTS, QW_CONCURRENCY or QW_THREADS, or command_slots, concurrency or threads in qw.toml.
    """
    from qw.cli.session import with_client
    from qw.core.worker_slots import SlotChange

    sizes = {"process": commands, "async": concurrency, "thread": threads}
    changed = {kind: size for kind, size in sizes.items() if size is not None}
    if not changed:
        raise Invalid("no number given: qw worker slots N for commands, --concurrency N or --threads N for handlers")
    change = SlotChange(changed)
    ids = with_client(lambda client: client.workers.resize(change, *dict.fromkeys(worker or [])))
    if output is not OutputFormat.TABLE:
        show_record({"workers": ids, "slots": changed}, output)
    elif ids:
        of = f"worker {ids[0]} has" if len(ids) == 1 else f"workers {', '.join(map(str, ids))} have"
        say(f"{of} {change.name} {'slot' if list(changed.values()) == [1] else 'slots'}{' each' * (len(ids) > 1)}")
    else:
        say("no worker is running; start one: qw daemon")


@app.command("drain", cls=needs(Right.OPERATE), epilog="Example: qw worker list --quiet | xargs -r -n1 qw worker drain")
def drain(
    id: Annotated[int, typer.Argument(metavar="WORKER", min=1, help="Worker id.", autocompletion=worker_ids)],
) -> None:
    """Ask a worker to finish its running tasks and stop, like SIGTERM. Its supervisor may restart it."""
    from qw.cli.session import with_client

    with_client(lambda client: client.workers.drain(id))
    say(f"worker {id} is draining; see: qw worker list")


async def _one(client: Client, id: int) -> tuple[WorkerRow, list[InHand]]:
    from qw.core.errors import NotFound

    for worker in await client.workers.all():
        if worker.id == id:
            return worker, await client.workers.running(id)
    raise NotFound(f"worker {id} is not running; running workers: qw worker list")
