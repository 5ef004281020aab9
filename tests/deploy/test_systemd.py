"""The systemd unit: what `qw service install` writes, and what systemd says of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qw.config import load
from qw.core.errors import Misconfigured
from qw.daemon.daemon import CLOSE_SECONDS
from qw.daemon.drain import KILL_SECONDS, RELAY_SECONDS, STOP_SECONDS, THREAD_SECONDS, WRITE_SECONDS
from qw.daemon.systemd_unit import Scope, check_program, unit
from tests.cli.program import Qw, environment

CHECKOUT = Path(__file__).parents[2]
SHIPPED = CHECKOUT / "deploy" / "qw.service"

with_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


@pytest.fixture
def qw(tmp_path: Path) -> Qw:
    return Qw(environment(HOME=str(tmp_path), XDG_CONFIG_HOME=""), tmp_path)


def values(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", text))


def test_the_shipped_unit_is_what_the_command_writes_for_a_program_in_opt() -> None:
    assert SHIPPED.read_text() == unit(Scope.SYSTEM, ["/opt/qw/bin/qw"], settings=Path("/etc/qw.env"))


@with_systemd
def test_the_unit_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", str(SHIPPED)]
    said = subprocess.run(command, capture_output=True, text=True).stdout

    (level,) = re.findall(r"Overall exposure level for qw.service: ([\d.]+)", said)
    assert float(level) <= 3


@with_systemd
@pytest.mark.parametrize("scope", Scope)
def test_systemd_understands_every_line(scope: Scope, tmp_path: Path) -> None:
    shown = unit(scope, [sys.executable], account="root", settings=Path("/etc/qw.env"))
    (tmp_path / "qw.service").write_text(shown)

    done = subprocess.run(
        ["systemd-analyze", f"--{scope}", "verify", tmp_path / "qw.service"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert "qw.service" not in done.stderr
    assert scope is Scope.SYSTEM or done.returncode == 0, done.stderr


def test_the_unit_gives_the_daemon_as_long_to_stop_as_it_may_take() -> None:
    ours = STOP_SECONDS + KILL_SECONDS + THREAD_SECONDS + WRITE_SECONDS + RELAY_SECONDS + CLOSE_SECONDS

    assert int(values(SHIPPED.read_text())["TimeoutStopSec"]) >= load({}).grace.total_seconds() + ours


def test_the_program_is_the_one_that_is_running(qw: Qw) -> None:
    done = qw("service", "install", "--system", "--print")

    script = Path(sys.executable).with_name("qw")
    words = str(script) if script.exists() else f"{sys.executable} -m qw"
    assert values(done.out)["ExecStart"] == f"{words} daemon --log-format json"


def test_a_path_with_odd_characters_is_quoted_as_systemd_reads_it() -> None:
    text = unit(Scope.SYSTEM, ["/opt/my qw/100%/$x/qw"], settings=Path("/etc/qw.env"))

    assert values(text)["ExecStart"] == '"/opt/my qw/100%%/$$x/qw" daemon --log-format json'


@pytest.mark.parametrize(("program", "homes"), [("/opt/qw/bin/qw", "true"), ("/home/ann/venv/bin/qw", "read-only")])
def test_homes_are_hidden_unless_qw_is_installed_in_one(program: str, homes: str) -> None:
    text = unit(Scope.SYSTEM, [program], settings=Path("/etc/qw.env"))

    assert values(text)["ProtectHome"] == homes


def test_a_user_service_is_written_with_a_settings_file_that_stays(qw: Qw, tmp_path: Path) -> None:
    settings = tmp_path / ".config" / "qw" / "qw.env"

    first = qw("service", "install", "--user")
    settings.write_text("QW_QUEUES=mail\n")
    second = qw("service", "install", "--user")

    written = tmp_path / ".config" / "systemd" / "user" / "qw.service"
    assert (first.code, second.code) == (0, 0)
    assert values(written.read_text())["EnvironmentFile"] == f"-{settings}"
    assert "User" not in values(written.read_text())
    assert settings.read_text() == "QW_QUEUES=mail\n"
    assert settings.stat().st_mode & 0o777 == 0o600
    assert "systemctl --user enable --now qw" in first.err


def test_the_empty_settings_are_ones_that_qw_reads() -> None:
    from qw.cli.commands.service import SETTINGS

    named = dict(re.findall(r"(?m)^#(QW_\w+)=(.*)$", SETTINGS))

    assert len(named) == 3
    load(named)


@pytest.mark.parametrize("words", [[], ["--user", "--system"]])
def test_a_service_is_either_the_systems_or_a_users(qw: Qw, words: list[str]) -> None:
    done = qw("service", "install", *words)

    assert done.code == 2
    assert done.err == "qw: give --system (needs root) or --user\n"


def test_a_program_that_other_users_cannot_reach_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "closed" / "qw"
    program.parent.mkdir()
    program.touch(0o755)
    program.parent.chmod(0o700)

    with pytest.raises(Misconfigured, match="closed to them; install qw where they can"):
        check_program(program)


def test_a_python_that_other_users_cannot_reach_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a venv in /opt, made by root with a Python in /root."""
    python = tmp_path / "closed" / "python3"
    python.parent.mkdir()
    python.touch(0o755)
    python.parent.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))

    with pytest.raises(Misconfigured, match=r"cannot run /usr/bin/env, because .+ is closed to them"):
        check_program(Path("/usr/bin/env"))


def test_a_place_that_cannot_be_written_is_named(qw: Qw, tmp_path: Path) -> None:
    (tmp_path / ".config").touch()

    done = qw("service", "install", "--user")

    assert done.code == 2
    assert done.err.startswith(f"qw: cannot write {tmp_path / '.config' / 'systemd' / 'user' / 'qw.service'}: ")
