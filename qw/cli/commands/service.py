"""``qw service``"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qw.cli.command import noun
from qw.cli.output.records import say

if TYPE_CHECKING:
    from qw.daemon.systemd_unit import Scope

app = noun("service")

SETTINGS = """\
# Settings of the qw daemon, one NAME=value per line; `qw config show` lists all. Read when the service starts.
#QW_DATABASE_URL=postgresql://qw:password@127.0.0.1/qw
#QW_API_TOKENS=ops:admin:a-long-random-word
#QW_QUEUES=
"""


@app.callback()
def _service() -> None:
    """Make ``service`` a group of commands although it has only one."""


@app.command("install", epilog="Example: qw service install --system --print")
def install(
    system: Annotated[
        bool, typer.Option("--system", help="Install for the whole machine, in /etc/systemd/system.")
    ] = False,
    user: Annotated[bool, typer.Option("--user", help="Install for your user, in ~/.config/systemd/user.")] = False,
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="The user that a --system service runs as.")
    ] = "qw",
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit and write nothing.")] = False,
) -> None:
    """Write a systemd unit for this installation of qw, and an empty settings file if there is none. Starts nothing.

    Running it again replaces the unit; settings and drop-ins (systemctl edit) stay.
    """
    from qw.core.errors import Invalid
    from qw.daemon import systemd_unit
    from qw.daemon.systemd_unit import Scope

    if system == user:
        raise Invalid("give --system (needs root) or --user")
    scope = Scope.SYSTEM if system else Scope.USER
    settings = Path("/etc/qw.env") if system else _configured() / "qw" / "qw.env"
    program = systemd_unit.program()
    text = systemd_unit.unit(scope, program, account=account, settings=settings)
    if only_print:
        print(text, end="")
        return
    if system:
        systemd_unit.check_program(Path(program[0]))
    folder = Path("/etc/systemd/system") if system else _configured() / "systemd" / "user"
    _write(folder / systemd_unit.NAME, text, 0o644)
    if not settings.exists():
        _write(settings, SETTINGS, 0o600)
    say(f"wrote {folder / systemd_unit.NAME}; settings are read from {settings}")
    say("next:")
    for line in _next(scope, account, settings):
        say(f"  {line}")


def _configured() -> Path:
    """Return the user's configuration directory, as systemd resolves it."""
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return configured if configured.is_absolute() else Path("~/.config").expanduser()


def _next(scope: Scope, account: str, settings: Path) -> list[str]:
    from qw.daemon.systemd_unit import Scope

    if scope is Scope.USER:
        return [
            f"edit {settings}", "systemctl --user daemon-reload", "systemctl --user enable --now qw",
            "loginctl enable-linger  # so that it runs while you are logged out",
        ]  # fmt: skip
    lines = [f"edit {settings}", "systemctl daemon-reload", "systemctl enable --now qw"]
    try:
        pwd.getpwnam(account)
    except KeyError:
        lines.insert(0, f"useradd --system --home-dir /var/lib/qw --shell /usr/sbin/nologin {account}")
    return lines


def _write(path: Path, text: str, mode: int) -> None:
    """Write *text* atomically: completely or not at all."""
    from qw.core.errors import Invalid

    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "w") as file:
            file.write(text)
        new.chmod(mode)
        new.replace(path)
    except OSError as error:
        hint = "; --system needs root" if isinstance(error, PermissionError) else ""
        raise Invalid(f"cannot write {path}: {error.strerror}{hint}") from error
