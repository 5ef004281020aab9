"""A real Chromium, and pages that tell of every fault: in the console, against the policy, or from elsewhere.

The browser is the one at ``QW_TEST_CHROMIUM``, or on the path. Without one the tests are skipped at home and fail where
``CI=true``. `shop` is a server with a daemon and the work of a small shop, for a whole module.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ui.opened import FLAGS, Opened
from tests.ui.work import Shop, opened_shop
from tests.web.live import Live, live

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.databases import Template

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKENS = "vera:viewer:viewer-secret-16,otto:operator:operator-secret-16,anna:admin:admin-secret-1616"


def chromium() -> str:
    for found in (os.environ.get("QW_TEST_CHROMIUM"), *map(shutil.which, NAMES)):
        if found:
            return found
    text = "no Chromium: set QW_TEST_CHROMIUM, or install it"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="module")  # its event loop must not run under the tests of other files
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def shop(migrated_template: Template) -> Iterator[Shop]:
    """Work of every kind, by a daemon that runs."""
    definitions = (Path(__file__).parent / "shop.yaml").read_text()
    with migrated_template.clone() as url, opened_shop(url, definitions) as started:
        yield started


@pytest.fixture(scope="module")
def server_empty(migrated_template: Template) -> Iterator[Live]:
    with migrated_template.clone() as url, live(url) as started:
        yield started


@pytest.fixture(scope="module")
def guarded(migrated_template: Template) -> Iterator[Live]:
    """A server that wants tokens."""
    with migrated_template.clone() as url, live(url, {"QW_API_TOKENS": TOKENS}) as started:
        yield started


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Any]]:
    """Open a page of a server: ``visit(server, "ui/tasks")``. It is judged when the test is over."""
    opened: list[Opened] = []

    @contextmanager
    def closing() -> Iterator[None]:
        try:
            yield
        finally:
            for one in opened:
                one.context.close()

    def open(server: Live, path: str = "", **options: Any) -> Opened:
        one = Opened(browser, server.base, **options)
        opened.append(one)
        one.goto(path)
        return one

    with closing():
        yield open
        for one in opened:
            assert one.faults == [], "\n".join(one.faults)
