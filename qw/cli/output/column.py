"""A column of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table. If the table is too wide, columns with the highest ``rank`` are dropped first; a
    ``loose`` column can shrink to ``least`` cells.
    """

    title: str
    text: Callable[[Any], str]
    rank: int = 0
    loose: bool = False
    least: int = 12
    right: bool = False
    is_status: bool = False
    is_id: bool = False
