"""The settings of this command line and the database they select. Does not import typer, since completions use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.config import Settings

FLAGS: dict[str, object] = {}  # settings given as options of this command line, by name


def load_settings(**flags: object) -> Settings:
    """Load the settings of this command line; *flags* are options of this command only."""
    from qw.config import load

    common = dict(FLAGS)
    file = common.pop("config", None)
    return load(os.environ, {**common, **flags}, Path(str(file)) if file else None)


def running_url(settings: Settings) -> str | None:
    """Return the URL of the database without connecting; None if the private server is not running."""
    if settings.database_url is not None:
        return settings.database_url
    from qw import embedded

    server = embedded.running(settings.home)
    return server.url if server else None
