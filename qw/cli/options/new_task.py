"""The options that `qw enqueue` and `qw run` share."""

from __future__ import annotations

from typing import Annotated

import typer

from qw.cli.options.completions import queue_names

Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Queue name.", autocompletion=queue_names)]
Priority = Annotated[
    int | None, typer.Option("--priority", "-p", help="Priority, 0 to 9; lower numbers run first. Default: 5.")
]
Delay = Annotated[
    str | None, typer.Option("--in", metavar="DURATION", help="Delay before the first attempt: 30s, 10m, 2h.")
]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="Earliest start time: 18:00 or 'tomorrow 9am' (local time), 2026-11-24T18:00Z."
    ),
]
Key = Annotated[str | None, typer.Option("--key", help="Unique key: at most one unfinished task may hold it.")]
MaxRetries = Annotated[
    int | None, typer.Option("--max-retries", help="Maximum number of attempts, including the first (1 = no retry).")
]
