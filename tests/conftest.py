"""A migrated, empty database for each test that asks for one."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from qw.clock import Clock, clock
from qw.store.connection import Connection, connect, connect_guarded
from qw.store.pool import Pool
from tests import forked
from tests.given import EmptiedDatabase, migrated
from tests.processes import MARK, end, left_behind

if TYPE_CHECKING:  # pytest wants to be the first to import its plugins
    from tests.databases import PrivateServer, Server, Template

pytest_plugins = ["tests.databases"]


def pytest_configure(config: pytest.Config) -> None:
    """Name this run, for its processes and for those of the workers beside it."""
    if not hasattr(config, "workerinput"):
        os.environ[MARK] = os.urandom(8).hex()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what workers that were interrupted could not end any more."""
    if not hasattr(config, "workerinput"):
        end(left_behind(os.environ[MARK], None, timeout=0))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first that is set up, so the last that looks: everything that the tests started has ended."""
    os.environ[MARK] = mark = f"{os.environ[MARK]} {os.environ.get('PYTEST_XDIST_WORKER', 'alone')};"
    yield
    forked.end()
    found = left_behind(mark, tmp_path_factory.getbasetemp())
    end(found)
    assert not found, "still running: " + "; ".join(map(str, found))


@pytest.fixture(autouse=True)
def _clock_of_no_database() -> None:
    """The databases of the tests before may have had another clock: `qw.testing` moves some."""
    vars(clock).update(vars(Clock()))


@pytest.fixture(scope="session")
def migrated_template(server: Server) -> Iterator[Template]:
    from tests.databases import template

    with template(server, migrated) as made:
        yield made


@pytest.fixture(scope="session")
def emptied_database(migrated_template: Template) -> Iterator[EmptiedDatabase]:
    with migrated_template.clone() as url:
        database = EmptiedDatabase(url)
        yield database
        database.close()


@pytest.fixture
def url(emptied_database: EmptiedDatabase) -> Iterator[str]:
    """A migrated database with nothing in it. The schema is not this test's to change: it is emptied, not dropped."""
    yield emptied_database.url
    emptied_database.empty()


@pytest.fixture
def own_url(migrated_template: Template) -> Iterator[str]:
    """A migrated database of this test's own, whose schema it may change: half a second dearer."""
    with migrated_template.clone() as made:
        yield made


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of types that no worker has registered may be enqueued."""
    monkeypatch.setenv("QW_CHECK_TASKS", "off")


@pytest.fixture
async def conn(url: str) -> AsyncIterator[Connection]:
    """A connection with the planner guards, as daemons have it."""
    async with await connect_guarded(url, name="qw test") as opened:
        yield opened


@pytest.fixture
async def other(url: str) -> AsyncIterator[Connection]:
    """Another session on the same database."""
    async with await connect(url, name="qw test, the other") as opened:
        yield opened


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Pool]:
    opened = Pool(url, size=4, name="qw test")
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(scope="module")
def private_template(private_cluster: PrivateServer) -> Iterator[Template]:
    from tests.databases import template

    private_cluster.start()
    with template(private_cluster, migrated) as made:
        yield made
        private_cluster.start()


@pytest.fixture
def private_url(private_server: PrivateServer, private_template: Template) -> Iterator[str]:
    """A migrated database on a server that may be stopped and killed."""
    with private_template.clone() as url:
        yield url
        private_server.start()


def pytest_collection_finish() -> None:
    """What was collected stays: garbage collection need not look at it again and again."""
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside each other, files with the longest tests begin, so that none of them begins last."""
    if hasattr(config, "workerinput"):
        longest = ("e2e", "ui", "cli", "testing", "tests")
        items.sort(key=lambda item: longest.index(name) if (name := item.path.parent.name) in longest else len(longest))
