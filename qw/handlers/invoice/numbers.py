"""Invoice numbers: one series per seller and year, without gaps or duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from qw.core.task.handler_api import Context
from qw.handlers.invoice.parties import Seller


@dataclass(frozen=True, kw_only=True)
class GivenNumber:
    """A number in the series of ``year``, and the time of its assignment, which is the date of the document."""

    year: int
    number: int
    at: datetime


class Numbers(Protocol):
    """The source of the numbers; implemented by the store."""

    async def take(self, context: Context, seller: Seller) -> GivenNumber:
        """Return the next number for the invoice of this task, the same in all its attempts.

        It commits with the completion of the attempt, so a failed attempt leaves no gap. It holds a lock on the
        seller's series until the attempt ends: other invoices of the seller wait, so take the number last.
        """
        ...

    async def take_back(self, invoiced: UUID, by: UUID, seller: Seller) -> GivenNumber | None:
        """Return the next number for the credit note on the invoice of task *invoiced*, the same in each call.

        None if the task has no number. *by*: the task that writes the credit note.
        """
        ...


def written(number: GivenNumber, prefix: str) -> str:
    """Return the number as printed, such as ``INV-2026-00042``."""
    return f"{prefix}{number.year}-{number.number:05}"
