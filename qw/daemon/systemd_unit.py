"""The systemd unit of a daemon, as text. ``deploy/qw.service`` is the unit of a program in /opt/qw."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from qw.core.errors import Misconfigured


class Scope(StrEnum):
    SYSTEM = "system"
    USER = "user"


NAME = "qw.service"
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))  # what ProtectHome= is about

_HEAD = """\
[Unit]
Description=qw task queue daemon
"""

_SYSTEM_ORDER = """\
After=network-online.target postgresql.service
Wants=network-online.target
"""

_SERVICE = """
[Service]
Type=notify
{identity}
ExecStart={program} daemon --log-format json
# HUP: the workflow files are read again.
ExecReload=/bin/kill -HUP $MAINPID
# The daemon drains on TERM: running tasks get QW_GRACE (30 s), and 29 s later at most it has ended by itself, whatever
# handlers do. Raise this together with QW_GRACE.
TimeoutStopSec=60
# mixed: only the daemon gets the TERM, not the commands it runs.
KillMode=mixed
# Fed while lease and process are well. A handler that blocks the event loop within its time-out is no cause to kill it.
WatchdogSec=30
Restart=on-failure
RestartSec=2
# 2 and 78: the command line or the settings are wrong, or the schema needs `qw db migrate`; restarting does not help.
RestartPreventExitStatus=2 78
LimitNOFILE=65536
"""

# What an unprivileged user manager can enforce too.
_HARDENING = """
# What handlers and commands may do. If one of yours needs more, allow it in a drop-in: systemctl edit qw
UMask=0077
NoNewPrivileges=true
LockPersonality=true
RestrictRealtime=true
RestrictSUIDSGID=true
RestrictNamespaces=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""

_SYSTEM_HARDENING = """\
CapabilityBoundingSet=
AmbientCapabilities=
PrivateTmp=true
PrivateDevices=true
DevicePolicy=closed
PrivateUsers=true
PrivateMounts=true
ProtectSystem=strict
ProtectHome={homes}
ProtectProc=invisible
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
KeyringMode=private
"""

_INSTALL = """
[Install]
WantedBy={target}
"""


def unit(scope: Scope, program: Sequence[str], *, account: str = "qw", settings: Path) -> str:
    """The unit that runs *program* (an absolute path, then arguments), as *account* if it is a system unit.

    *settings*: the file with ``QW_…`` variables, readable by root or the user only.
    """
    if scope is Scope.USER:
        identity = f"EnvironmentFile=-{_plain(str(settings))}"
        service = _SERVICE.format(identity=identity, program=_command_line(program))
        return _HEAD + service + _HARDENING + _INSTALL.format(target="default.target")
    identity = "\n".join(
        (
            f"User={account}",
            "StateDirectory=qw",
            "StateDirectoryMode=0700",
            "Environment=QW_HOME=/var/lib/qw",
            f"EnvironmentFile={_plain(str(settings))}",
        )
    )
    service = _SERVICE.format(identity=identity, program=_command_line(program))
    is_in_home = any(Path(program[0]).is_relative_to(home) for home in HOMES)
    hardening = _HARDENING + _SYSTEM_HARDENING.format(homes="read-only" if is_in_home else "true")
    return _HEAD + _SYSTEM_ORDER + service + hardening + _INSTALL.format(target="multi-user.target")


def _plain(text: str) -> str:
    """*text* with systemd's special characters escaped."""
    return text.replace("%", "%%")


def _command_line(words: Sequence[str]) -> str:
    plain = (_plain(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") for word in words)
    return " ".join(f'"{word}"' if set(word) & set(" '") else word for word in plain)


def program() -> list[str]:
    """The ``qw`` next to the running Python, as in venvs and pipx; else that Python with ``-m qw``."""
    script = Path(sys.executable).with_name("qw")
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "qw"]


def check_program(program: Path) -> None:
    """Raise Misconfigured unless every user can execute *program* and the Python that runs it."""
    for place in (program, program.resolve(), Path(sys.executable).resolve()):
        for part in (*reversed(place.parents), place):
            if not part.stat().st_mode & stat.S_IXOTH:
                raise Misconfigured(
                    f"other users cannot run {program}, because {part} is closed to them; install qw where they can, "
                    "for example: /usr/bin/python3 -m venv /opt/qw && /opt/qw/bin/pip install qw"
                )
