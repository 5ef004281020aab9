"""An upgrade while tasks come in: the old version's daemon beside the new one's, on the new schema.

Old is the last tagged version, or what QW_TEST_OLD names (a commit); before the first release, this tree. New is this
tree with one more migration, such as the next version may bring.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.databases import Server, template, wait_until
from tests.e2e.daemon_process import ROOT, Daemons
from tests.e2e.queue import Queue

LATER = """-- What a later version may add.
alter table qw.task add column color text;
alter table qw.task add column weight integer not null default 1;
alter table qw.ready add column color text;
alter table qw.running add column color text;
alter table qw.finished add column color text;
alter table qw.worker add column color text;
alter table qw.schedule add column color text;
alter table qw.outbox add column color text;
create table qw.color (name text primary key);
create function qw.color_of(id uuid) returns text language sql stable as 'select color from qw.task t where t.id = $1';
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    ref = os.environ.get("QW_TEST_OLD") or _git("tag", "--list", "v*", "--sort=-version:refname").partition("\n")[0]
    if not ref:
        return ROOT
    tree = tmp_path / "old"
    with tarfile.open(fileobj=io.BytesIO(subprocess.check_output(["git", "archive", ref], cwd=ROOT))) as archive:
        archive.extractall(tree, filter="data")
    return tree


@pytest.fixture
def new(tmp_path: Path) -> Path:
    tree = tmp_path / "new"
    for name in ("qw", "migrations", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "workflows.yaml", tree)
    (tree / "migrations" / f"{len(list((tree / 'migrations').iterdir())) + 1:04}_later.sql").write_text(LATER)
    return tree


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()  # nothing outside a repository


def qw(tree: Path, url: str, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("QW_", "PG"))}
    command = [sys.executable, "-m", "qw", *words]
    done = subprocess.run(
        command, cwd=tree, env={**environment, "QW_DATABASE_URL": url}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def url(server: Server, old: Path) -> Iterator[str]:
    """A database with the old schema."""
    with template(server, lambda url: None) as made, made.clone() as bare:
        qw(old, bare, "db", "migrate")
        yield bare


def test_a_version_is_upgraded_while_tasks_come_in(
    url: str, queue: Queue, daemons: Daemons, old: Path, new: Path
) -> None:
    ids: list[UUID] = []

    def feed_until(worker: int) -> None:
        """Until *worker* has done some of what came in meanwhile."""
        mark = queue.value("select coalesce(max(fence), 0) from qw.finished")

        def is_so() -> bool:
            ids.extend(queue.put("nap", 5, seconds=0.01))
            done = "select count(*) from qw.finished where worker = %s and fence > %s"
            return int(queue.value(done, worker, mark)) >= 5

        wait_until(is_so)

    first = daemons.of(old).ready()
    feed_until(first.worker)
    qw(new, url, "db", "migrate")
    assert queue.value("select count(*) from qw.migration where name like '%later'") == 1
    feed_until(first.worker)
    second = daemons.of(new).ready()
    feed_until(second.worker)
    again = daemons.of(old).ready()  # as after a crash before it is replaced
    feed_until(again.worker)
    ids.append(UUID(qw(old, url, "enqueue", "nap", "--payload", json.dumps({"seconds": 0.01})).strip()))
    for daemon in (first, again):
        daemon.send(signal.SIGTERM)
        assert daemon.exit_code(60) == 0
    feed_until(second.worker)
    queue.wait_for(ids, "completed")

    assert queue.value("select count(*) from qw.attempt") == 0
    assert queue.value("select max(attempt) from qw.finished") == 1
