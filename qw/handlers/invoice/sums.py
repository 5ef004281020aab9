"""The sums of an invoice by the rules of EN 16931: lines are rounded, then added by tax rate, then taxed.

The tax is computed from the sum of each rate, not added up from the taxes of the lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from qw.core.task.payload import JsonObject
from qw.handlers.invoice.money import Amount, TaxRate, number, rounded


class Category(StrEnum):
    """The tax categories of EN 16931 that qw uses."""

    STANDARD = "S"
    ZERO = "Z"
    EXEMPT = "E"


class TaxLine(BaseModel):
    """The tax of one rate. ``base``: the amount without tax. ``tax``: the tax alone."""

    model_config = ConfigDict(frozen=True)

    category: Category
    rate: TaxRate
    base: Amount
    tax: Amount

    def to_json(self) -> JsonObject:
        return {
            "category": self.category,
            "rate": number(self.rate),
            "base": number(self.base),
            "tax": number(self.tax),
        }


@dataclass(frozen=True, kw_only=True)
class Sums:
    """``total``: without tax. ``grand_total``: with tax."""

    taxes: tuple[TaxLine, ...]

    @property
    def total(self) -> Decimal:
        return sum((line.base for line in self.taxes), Decimal(0))

    @property
    def tax(self) -> Decimal:
        return sum((line.tax for line in self.taxes), Decimal(0))

    @property
    def grand_total(self) -> Decimal:
        return self.total + self.tax


def sums_of(lines: Iterable[tuple[Decimal, Decimal]], currency: str, *, is_exempt: bool = False) -> Sums:
    """Return the sums of lines (amount, tax rate in percent), by descending rate.

    *is_exempt*: untaxed lines are exempt from tax instead of taxed at a rate of zero.
    """
    bases: defaultdict[Decimal, Decimal] = defaultdict(Decimal)
    for amount, rate in lines:
        bases[rate] += amount
    return Sums(taxes=tuple(_taxed(rate, bases[rate], currency, is_exempt) for rate in sorted(bases, reverse=True)))


def category(rate: Decimal, *, is_exempt: bool) -> Category:
    if rate:
        return Category.STANDARD
    return Category.EXEMPT if is_exempt else Category.ZERO


def _taxed(rate: Decimal, base: Decimal, currency: str, is_exempt: bool) -> TaxLine:
    tax = rounded(base * rate / 100, currency)
    return TaxLine(category=category(rate, is_exempt=is_exempt), rate=rate, base=base, tax=tax)
