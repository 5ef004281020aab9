"""``qw config``"""

from __future__ import annotations

from collections.abc import Sequence

from qw.cli.command import Verb, noun
from qw.cli.output.column import Column
from qw.cli.output.records import Output, OutputFormat, record, show_all, show_records

app = noun("config")

_COLUMNS: Sequence[Column] = (
    Column(title="setting", text=lambda shown: shown.name),
    Column(title="value", text=lambda shown: shown.value or "-", rank=0),
    Column(title="origin", text=lambda shown: str(shown.origin), rank=1),
    Column(title="variable", text=lambda shown: shown.variable, rank=2),
    Column(title="about", text=lambda shown: shown.about, rank=3, loose=True),
)


@app.callback()
def _config() -> None:
    """Make ``config`` a group of commands although it has only one."""


@app.command("show", cls=Verb, epilog="Example: qw config show")
def show(output: Output = OutputFormat.TABLE) -> None:
    """Show all settings, with secrets masked, and where each value comes from: option, environment, file or default."""
    from qw.cli.settings import load_settings
    from qw.config import shown

    settings = list(shown(load_settings()))
    if output is OutputFormat.TABLE:
        show_all(settings, _COLUMNS, output)
    else:
        show_records(record(settings), output)
