"""The Django application. It updates the schema of qw after each ``migrate``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.apps import AppConfig
from django.core import checks, mail
from django.db import connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
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
    url = url_of(using)
    with _movable_clock(using, url) if _is_for_tests(using) else nullcontext():
        for applied in asyncio.run(migrations.migrate(url)):
            if verbosity:
                print(f"  Applying qw.{applied.name}... OK")


def _is_for_tests(using: str) -> bool:
    """Whether a test runner makes this database: it has replaced the outbox of mails and the name before."""
    given = connections[using].settings_dict
    name = str(given["NAME"])
    return hasattr(mail, "outbox") and (name == given["TEST"]["NAME"] or name.startswith(TEST_DATABASE_PREFIX))


@contextmanager
def _movable_clock(using: str, url: str) -> Iterator[None]:
    """Give a database the clock of `qw.testing`, unless it has the schema of qw already."""
    from qw.testing import clock

    with connections[using].cursor() as cursor:
        cursor.execute("select to_regclass('qw.task') is null")
        (is_new,) = cursor.fetchone()
    if is_new:
        clock.prepare(url, str(connections[using].settings_dict["NAME"]))
    yield
    if is_new:
        clock.follow(url)


def _check(**more: Any) -> list[checks.CheckMessage]:
    wrong = [alias for alias in sorted(aliases()) if connections[alias].vendor != "postgresql"]
    return [
        checks.Error(f"qw needs PostgreSQL, and the database {alias!r} is another", id="qw.E001") for alias in wrong
    ]
