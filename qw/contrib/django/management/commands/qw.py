"""``manage.py qw …``: the qw command line with the database of `DATABASES` and the tasks of the project."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from qw.contrib.django.database import the_alias, url_of


class Command(BaseCommand):  # type: ignore[misc]  # Django comes without types
    help = "Run a command of qw with the database of this project: manage.py qw daemon, manage.py qw status, …"

    def run_from_argv(self, argv: list[str]) -> None:
        """Pass all arguments after ``qw``, including options, to qw."""
        self._run(argv[2:])

    def handle(self, *words: str, **options: Any) -> None:
        self._run(list(words))

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("words", nargs="*")

    def _run(self, words: list[str]) -> None:
        from qw.cli import main

        if "QW_DATABASE_URL" not in os.environ and "DATABASE_URL" not in os.environ:
            os.environ["QW_DATABASE_URL"] = url_of(the_alias())
        if words[:1] == ["daemon"] and not any(word.partition("=")[0] == "--app" for word in words):
            words = [*words, "--app", "qw.contrib.django:app"]
        sys.argv = ["qw", *words]
        main()
