"""A private PostgreSQL, used if no database is configured: one cluster per home, shared by all qw processes of a user.

It listens only on a Unix socket in a directory that no other user can enter (see `places`), so it needs no port and no
password. Whether it runs is decided by whether its socket answers; a process id proves nothing, because it may belong
to a zombie or to another program. The server outlives the qw process that started it; only `stop` ends it.
``postmaster.pid`` belongs to PostgreSQL and is deleted only if a crash of the machine left it empty.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from io import FileIO
from pathlib import Path
from urllib.parse import quote

from qw.core.errors import Conflict, Misconfigured, Unavailable
from qw.embedded.places import fence_in
from qw.embedded.places import place as place
from qw.embedded.programs import Owner, Programs, choose, environment, find_owner, reachable, run, user

_DATABASE = "qw"
_TIMEOUT = 60.0  # seconds for a start (recovery after a crash included), a stop, and another process doing either
_LONGEST_SOCKET_DIRECTORY = 85  # bytes; systems allow 103 to 107 with the socket's own name
_INITDB = ("--username=qw", "--auth=trust", "--encoding=UTF8", "--no-locale")
_ALONE = ("--single", "-c", "exit_on_error=on")
_STATUS = 7  # its line in postmaster.pid, the last one


_SPACE = 100  # MB, as told: a new cluster has 40, its programs 30 where they are copied; the rest is to work with
_SAID = 500  # characters of what a program said that go into an error


@dataclass(frozen=True, kw_only=True)
class PrivateServer:
    """A running private server. ``started``: started by this call. ``pid``: 0 if it runs in another container."""

    url: str
    data: Path
    pid: int
    started: bool = False


def ensure(home: Path, programs: Path | None = None) -> PrivateServer:
    """Return the private server of *home*; create and start it if necessary.

    *programs*: the directory of the PostgreSQL programs; None: search for them. Safe to call from several processes at
    once: one of them starts it. Blocks for about a second if it has to start. Raise Misconfigured if there is no
    usable PostgreSQL or *home* cannot hold the cluster, and Unavailable if the server does not start.
    """
    if server := running(home):
        return server
    home = place(home)
    try:
        _make(home)
        with _locked(home):
            return _running_in(home) or _start(home, programs)
    except OSError as error:
        if _is_full(str(error)):
            raise Misconfigured(_no_space(home)) from None
        raise


def exists(home: Path) -> bool:
    """Whether *home* has a private server, running or not. True also if the directory is not readable."""
    try:
        return (place(home) / "pg" / "PG_VERSION").exists()
    except PermissionError:
        return True


def running(home: Path) -> PrivateServer | None:
    """The private server of *home* if it accepts connections now. Takes no lock and starts no subprocess."""
    return _running_in(place(home))


def _running_in(home: Path) -> PrivateServer | None:
    data = home / "pg"
    lines = _pid_file(data)
    if lines[_STATUS:] != ["ready"]:
        return None
    port, directory = lines[3], lines[4]
    pid = _listener(f"{directory}/.s.PGSQL.{port}", int(lines[0]))
    if pid is None:
        return None
    return PrivateServer(
        url=f"postgresql:///{_DATABASE}?host={quote(directory)}&port={port}&user=qw", data=data, pid=pid
    )


def stop(home: Path) -> bool:
    """Stop the private server of *home* and end its sessions; keep the data. False if it was not running."""
    if not running(home):
        return False
    with _locked(place(home)):
        server = running(home)
        if server:
            _end(server)
    return server is not None


def _pid_file(data: Path) -> list[str]:
    """The lines of the file: pid, directory, start time, port, socket directory, address, memory key, status."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text(errors="replace").splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise Misconfigured(
            f"the private PostgreSQL in {data} belongs to another user; set QW_HOME or DATABASE_URL"
        ) from None


def _listener(path: str, pid: int) -> int | None:
    """The pid of the process that answers on the socket *path*; None if none does; *pid* if the system cannot tell."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return None
        if sys.platform == "linux":
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
    return pid


def _make(home: Path) -> None:
    try:
        for directory in reversed([parent for parent in (home, *home.parents) if not parent.exists()]):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o700 if directory == home else 0o755)  # whatever the umask: root's server goes through
    except OSError as error:
        if _is_full(str(error)):
            raise
        raise Misconfigured(f"cannot create {home} for a private PostgreSQL: {error.strerror}; set QW_HOME") from None


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the lock for starting and stopping the server of *home*. The kernel releases it if the process dies."""
    try:
        file = os.open(home / "pg.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if _is_full(str(error)):
            raise
        raise Misconfigured(f"cannot write to {home}: {error.strerror}; set QW_HOME or DATABASE_URL") from None
    try:
        _await(lambda: _try_lock(file), f"another process is starting or stopping the private PostgreSQL in {home}")
        yield
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(server: PrivateServer) -> None:
    if server.pid == 0:
        raise Conflict(f"the private PostgreSQL in {server.data} runs in another container; stop it there")
    before = _pid_file(server.data)[:3]
    os.kill(server.pid, signal.SIGINT)
    _await(lambda: _pid_file(server.data)[:3] != before, f"the private PostgreSQL in {server.data} has not stopped")


def _await(condition: Callable[[], bool], otherwise: str, timeout: float = _TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"{otherwise}, for {timeout:g} seconds now")
        time.sleep(0.01)


def _start(home: Path, named: Path | None) -> PrivateServer:
    owner = find_owner()
    if owner:
        owner = fence_in(home, owner)
    programs = reachable(choose(home / "pg", named), home, owner)
    if not (home / "pg" / "PG_VERSION").exists():
        _create(home, programs, owner)
    _let_settle(home)
    return _launch(home, programs, owner)


def _create(home: Path, programs: Programs, owner: Owner | None) -> None:
    """Create the cluster and its database under a temporary name and rename it when complete, so that one left by a
    killed initdb is never used.
    """
    if (home / "pg").exists():
        raise Misconfigured(f"{home / 'pg'} exists but is not a PostgreSQL data directory; move it away or set QW_HOME")
    for left in home.glob("pg.tmp.*"):
        shutil.rmtree(left, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix="pg.tmp.", dir=home))  # a new name: the initdb of a killed qw may still write
    try:
        if owner:
            os.chown(aside, owner.uid, owner.gid)
        run([programs.directory / "initdb", *_INITDB, "-D", aside], owner)
        run(
            [programs.directory / "postgres", *_ALONE, "-D", aside, "template1"],
            owner,
            f"create database {_DATABASE}\n",
        )
        aside.rename(home / "pg")
    except (OSError, subprocess.CalledProcessError) as error:
        who = f" as the user {owner.name}, who must be able to enter it" if owner else ""
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        if _is_full(said):
            shutil.rmtree(aside, ignore_errors=True)
            raise Misconfigured(_no_space(home)) from None
        raise Misconfigured(f"cannot create a private PostgreSQL in {home}{who}: {_last_words(said)}") from None


def _let_settle(home: Path) -> None:
    """Wait up to a second for a server that is starting or stopping, as after a qw process was killed.

    A server whose status file says ``ready`` but whose socket does not answer has died, so it is not waited for.
    """
    deadline = time.monotonic() + 1
    while _pid_file(home / "pg")[_STATUS:] != ["ready"] and (home / "pg" / "postmaster.pid").exists():
        if time.monotonic() > deadline:
            _drop_empty_pid_file(home / "pg")
            return
        time.sleep(0.01)


def _drop_empty_pid_file(data: Path) -> None:
    """Delete an empty pid file, which remains after a crash of the machine and prevents PostgreSQL from starting.

    PostgreSQL writes the file right after creating it, so a file that stays empty for a second is such a leftover.
    """
    lines = _pid_file(data)
    if not lines or not lines[0].lstrip("-").isdecimal():
        (data / "postmaster.pid").unlink(missing_ok=True)


def _launch(home: Path, programs: Programs, owner: Owner | None) -> PrivateServer:
    """Start the server, retrying while backends of a killed server are still running."""
    sockets = _socket_directory(home, owner)
    command = [str(programs.directory / "postgres"), "-D", str(home / "pg"), *_options(sockets, owner)]
    deadline = time.monotonic() + _TIMEOUT
    said = "still in use"
    while "still in use" in said and time.monotonic() < deadline:
        if server := _running_in(home):
            return server
        # a killed server's; nobody else's socket is there, and postmaster.pid is the lock that keeps the data safe
        (sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        start = _log(home).stat().st_size
        with _spawned(command, home, owner) as lifeline:
            while lifeline.read(1) is None and time.monotonic() < deadline:
                if server := _running_in(home):
                    return replace(server, started=True)
                time.sleep(0.01)
        said = _log(home).read_bytes()[start:].decode(errors="replace")
        time.sleep(0.05)
    if _is_full(said):
        raise Unavailable(_no_space(home))
    raise Unavailable(
        f"the private PostgreSQL in {home} has not come up, see {_log(home)}: {_last_words(said.strip())}"
    )


def _options(sockets: Path, owner: Owner | None) -> list[str]:
    settings = {"listen_addresses": "", "unix_socket_directories": sockets, "max_connections": 200}
    if owner:  # posix has its memory in /dev/shm, where others who run as this user could change it
        settings["dynamic_shared_memory_type"] = "mmap"
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _socket_directory(home: Path, owner: Owner | None) -> Path:
    """The data directory; a private directory in /tmp if the path is too long for a socket.

    Also if the path contains a comma or a quote, which separate directories in the setting and hosts in a URL.
    """
    data = home / "pg"
    if len(os.fsencode(data)) <= _LONGEST_SOCKET_DIRECTORY and not set(',"') & set(str(data)):
        return data
    directory = Path("/tmp") / f"qw-{sha256(os.fsencode(data)).hexdigest()[:16]}"  # noqa: S108 - checked below
    mode = 0o770 if owner else 0o700  # root's, for the group of its server
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if owner:
            os.chown(directory, -1, owner.gid)
            directory.chmod(mode)
    status = directory.lstat()
    is_ours = status.st_uid == os.geteuid() and (owner is None or status.st_gid == owner.gid)
    if not is_ours or stat.S_IMODE(status.st_mode) != mode:
        raise Misconfigured(f"{directory} belongs to another user, and no socket can be created in {home}; set QW_HOME")
    return directory


@contextmanager
def _spawned(command: list[str], home: Path, owner: Owner | None) -> Iterator[FileIO]:
    """Start *command* detached and yield a file that reads as None while it runs and as empty once it has ended.

    An intermediate shell exits at once, so the server is not our child and cannot become our zombie. The command is
    postgres and not pg_ctl, which overwrites PG_GRANDPARENT_PID. After kill -9 the pid in postmaster.pid may belong to
    a zombie (permanently, if process 1 does not reap) or to another program, and PostgreSQL refuses to start unless
    that variable names it. Its check of the shared memory still refuses while an old backend runs.
    """
    previous = next(iter(_pid_file(home / "pg")), "")
    lifeline, held = os.pipe()
    os.set_blocking(lifeline, False)
    with FileIO(lifeline) as ended:
        try:
            with _log(home).open("ab") as log:
                subprocess.run(
                    ["/bin/sh", "-c", '"$@" &', "sh", *command],
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=environment() | {"PG_GRANDPARENT_PID": previous},
                    start_new_session=True,
                    pass_fds=[held],
                    **user(owner),
                )
        finally:
            os.close(held)
        yield ended


def _log(home: Path) -> Path:
    path = home / "pg.log"
    path.touch(mode=0o600)
    return path


def _is_full(said: str) -> bool:
    """Whether a program or the system reported a full disk. The programs run with English messages."""
    signs = ("No space left on device", "Disk quota exceeded", "Check free disk space")
    return any(sign in said for sign in signs)


def _no_space(home: Path) -> str:
    return (
        f"no space left on the disk of {home}: a private PostgreSQL needs {_SPACE} MB there; "
        "free some space, or set QW_HOME to a directory on another disk"
    )


def _last_words(said: str) -> str:
    """The end of a program's output, which contains the reason; an omitted part is marked."""
    return said if len(said) <= _SAID else f"…{said[-_SAID:]}"
