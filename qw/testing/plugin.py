"""The pytest plugin of qw. The package registers it, so it needs no import and no configuration.

Fixtures: ``qw_database`` ``qw_client`` ``qw_worker`` ``qw_app`` ``assert_enqueued``. The async ones are run by
pytest-asyncio, or by the plugin of anyio if that is not installed.

The pytest setting ``qw_app`` names the `Handlers` object, as ``package.module:name``. ``QW_TEST_POSTGRES_URL``: a
server on which databases may be created; if unset, each run starts a private one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qw.testing.home import new_home

if TYPE_CHECKING:
    from qw import Client, Handlers
    from qw.testing.assertions import AssertEnqueued
    from qw.testing.database import TemplateDatabase
    from qw.testing.manual_worker import ManualWorker

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # then whatever runs async tests runs async fixtures too
    async_fixture = pytest.fixture  # type: ignore[assignment]

_HOME = "QW_TEST_HOME"  # of the private PostgreSQL, which all processes of a run share
_CHECK = "QW_CHECK_TASKS"
_named = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("qw_app", "the Handlers object that qw_worker runs, as package.module:name")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the directory of the private PostgreSQL before pytest-xdist starts processes, which use it too."""
    if not hasattr(config, "workerinput") and _HOME not in os.environ:
        os.environ[_HOME] = config.stash[_named] = str(new_home())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the private PostgreSQL, after the processes of pytest-xdist have ended."""
    home = config.stash.get(_named, None)
    if home is None:
        return
    os.environ.pop(_HOME, None)
    if Path(home).exists():
        from qw.testing.database import remove

        remove(Path(home))


@pytest.fixture(scope="session")
def _qw_template() -> Iterator[TemplateDatabase]:
    from qw.testing.database import start, template

    url = os.environ.get("QW_TEST_POSTGRES_URL") or start(Path(os.environ[_HOME]))
    with template(url) as made:
        yield made


@pytest.fixture
def qw_database(_qw_template: TemplateDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database with the schema of qw, for this test alone. Its clock can be moved.

    No worker has registered a task type there, so tasks are not checked (QW_CHECK_TASKS) unless the environment says
    so.
    """
    if _CHECK not in os.environ:
        monkeypatch.setenv(_CHECK, "off")
    with _qw_template.clone() as url:
        yield url


@async_fixture
async def qw_client(qw_database: str) -> AsyncIterator[Client]:
    """A client connected to ``qw_database``."""
    from qw import Client

    async with Client(qw_database, size=4, name="qw testing client") as client:
        yield client


@pytest.fixture
def qw_app(request: pytest.FixtureRequest) -> Handlers:
    """The `Handlers` object that ``qw_worker`` runs, from the pytest setting ``qw_app``. Override it to use another
    one.
    """
    from qw.daemon.app import load_app

    name: Any = request.config.getini("qw_app")
    if not name:
        pytest.fail(
            "which handlers does qw_worker run? Name them in pytest's settings (qw_app = package.module:name),"
            " or override the fixture qw_app",
            pytrace=False,
        )
    return load_app(name)


@async_fixture
async def qw_worker(qw_database: str, qw_app: Handlers, tmp_path: Path) -> AsyncIterator[ManualWorker]:
    """A worker of ``qw_database`` with the handlers of ``qw_app``. It runs nothing until it is called."""
    from qw.testing.manual_worker import worker

    async with worker(qw_database, qw_app, output=tmp_path) as made:
        yield made


@pytest.fixture
def assert_enqueued(qw_database: str) -> AssertEnqueued:
    """`qw.testing.assert_enqueued` for ``qw_database``."""
    from qw.testing.assertions import assert_enqueued

    return partial(assert_enqueued, qw_database)
