"""Invoice numbers: one series per seller and year, without holes and without repeats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from qw.core.task.handler_api import Context
from qw.handlers.invoice.parties import Seller


@dataclass(frozen=True, kw_only=True)
class GivenNumber:
    """A number of the series of ``year``, and the moment it was given, which is the date of the document."""

    year: int
    number: int
    at: datetime


class Numbers(Protocol):
    """Where the numbers come from; implemented by the store."""

    async def take(self, context: Context, seller: Seller) -> GivenNumber:
        """The next number for the invoice of this task, the same in all its attempts.

        It is given with the completion of the attempt: one that fails leaves no hole. Invoices of the same seller wait
        for each other from here to the end of the attempt, so take it last.
        """
        ...

    async def take_back(self, invoiced: UUID, by: UUID, seller: Seller) -> GivenNumber | None:
        """The next number for the credit note over the invoice of task *invoiced*, the same at each call.

        None: the task has no number. *by*: the task that writes the credit note.
        """
        ...


def written(number: GivenNumber, prefix: str) -> str:
    """``INV-2026-00042``"""
    return f"{prefix}{number.year}-{number.number:05}"
