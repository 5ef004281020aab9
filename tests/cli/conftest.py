from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Qw, environment


@pytest.fixture
def qw(url: str, tmp_path: Path) -> Qw:
    """``qw`` on an empty database, in an empty folder."""
    return Qw(environment(QW_DATABASE_URL=url, QW_HOME=str(tmp_path / "home"), HOME=str(tmp_path)), tmp_path)
