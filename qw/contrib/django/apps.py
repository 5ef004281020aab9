"""The Django application. It updates the schema of qw after each ``migrate``."""

from __future__ import annotations

import asyncio
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db import connections
from django.db.models.signals import post_migrate

from qw.contrib.django.database import aliases, url_of


class QwConfig(AppConfig):  # type: ignore[misc]  # Django comes without types
    name = "qw.contrib.django"
    label = "qw"
    verbose_name = "qw"

    def ready(self) -> None:
        post_migrate.connect(_migrate, sender=self)
        checks.register(_check)


def _migrate(using: str, verbosity: int = 1, **more: Any) -> None:
    from qw.store import migrations

    if using not in aliases() or connections[using].vendor != "postgresql":
        return
    for applied in asyncio.run(migrations.migrate(url_of(using))):
        if verbosity:
            print(f"  Applying qw.{applied.name}... OK")


def _check(**more: Any) -> list[checks.CheckMessage]:
    wrong = [alias for alias in sorted(aliases()) if connections[alias].vendor != "postgresql"]
    return [
        checks.Error(f"qw needs PostgreSQL, and the database {alias!r} is another", id="qw.E001") for alias in wrong
    ]
