"""The settings of this command line, and the database that they mean. Without typer: completions start here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qw.config import Settings

FLAGS: dict[str, object] = {}  # settings by name, as far as this command line gives them


def load_settings(**flags: object) -> Settings:
    """The settings of this command line; *flags* are those that only this command takes."""
    from qw.config import load

    common = dict(FLAGS)
    file = common.pop("config", None)
    return load(os.environ, {**common, **flags}, Path(str(file)) if file else None)


def running_url(settings: Settings) -> str | None:
    """The database, without asking it anything; None where the private server is down."""
    if settings.database_url is not None:
        return settings.database_url
    from qw import embedded

    server = embedded.running(settings.home)
    return server.url if server else None
