"""Servers: ``server_with_daemon`` and ``server_shared`` for a whole module, ``server_alone`` for each test.

Only the first runs tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from qw.web import WebOptions
from tests.web.live import Live, live

if TYPE_CHECKING:
    from tests.databases import Template


@pytest.fixture(scope="module")
def server_with_daemon(migrated_template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with (
        migrated_template.clone() as url,
        live(url, {"QW_OUTPUT_DIR": str(tmp_path_factory.mktemp("output"))}, daemon=True) as started,
    ):
        yield started


@pytest.fixture
def server_alone(url: str) -> Iterator[Live]:
    with live(url, options=WebOptions(seeder=True)) as started:
        yield started


@pytest.fixture(scope="module")
def server_shared(migrated_template: Template) -> Iterator[Live]:
    with migrated_template.clone() as url, live(url) as started:
        yield started
