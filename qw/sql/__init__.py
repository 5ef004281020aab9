"""Every statement the program runs: one .sql file per noun, each statement named.

A statement starts with ``-- name: verb``. What follows in comments says what it locks, the order of rows, and what no
row means. Parameters are psycopg's ``%(name)s``; inside expressions they are cast.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def statements(noun: str) -> Mapping[str, str]:
    """The statements of *noun*'s file by verb, comments stripped."""
    _, *parts = _NAME.split((files(__name__) / f"{noun}.sql").read_text("utf-8"))
    return MappingProxyType({verb: _bare(text) for verb, text in zip(parts[::2], parts[1::2], strict=True)})


def nouns() -> list[str]:
    """The names of all statement files."""
    return sorted(file.name.removesuffix(".sql") for file in files(__name__).iterdir() if file.name.endswith(".sql"))


def _bare(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
