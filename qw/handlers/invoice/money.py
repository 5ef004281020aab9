"""Money as Decimal: parsed exactly, rounded half up to cents, written as JSON numbers. No floats in between."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

_CENT = Decimal("0.01")
FINEST = Decimal("0.000001")  # decimals of a unit price; also removes the errors of floats
LARGEST = Decimal("999999999999.99")  # a double still represents every cent of it

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,20})?([eE]-?[0-9]{1,2})?")
_WHOLE = frozenset({
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
})  # fmt: skip  # currencies without cents (ISO 4217)
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def exact(value: object) -> Decimal:
    """Return *value* as Decimal with six decimals: 0.1 + 0.2 is 0.3. Raise ValueError if it is not a number."""
    text = "" if isinstance(value, bool) else str(value).strip()
    if not isinstance(value, (int, float, str, Decimal)) or not _NUMBER.fullmatch(text):
        raise ValueError(f"{str(value)[:40]!r} is not a number")
    number = Decimal(text)
    if number.adjusted() > 15:
        raise ValueError(f"{text[:40]} is too large")
    return number.quantize(FINEST, ROUND_HALF_UP)


def rounded(amount: Decimal, currency: str | None) -> Decimal:
    """Return *amount* rounded to the smallest unit of *currency*, at most two decimals as in EN 16931."""
    return amount.quantize(Decimal(1) if currency in _WHOLE else _CENT, ROUND_HALF_UP)


def number(amount: Decimal) -> int | float:
    """Return *amount* for JSON: integers if whole, so that every reader prints 275 the same way."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def spoken(amount: Decimal, currency: str) -> str:
    """Return the amount for a sentence: ``$275``, ``$1234.50``."""
    whole = amount == amount.to_integral_value()
    return f"{_sign(currency)}{int(amount) if whole else rounded(amount, currency)}"


def _sign(currency: str) -> str:
    return _SIGNS.get(currency, f"{currency} ")


Price: TypeAlias = Annotated[Decimal, BeforeValidator(exact), Field(ge=0, le=1_000_000_000)]
Quantity: TypeAlias = Annotated[Decimal, BeforeValidator(exact), Field(gt=0, le=1_000_000)]
Amount: TypeAlias = Annotated[Decimal, BeforeValidator(exact), Field(ge=0, le=LARGEST)]
TaxRate: TypeAlias = Annotated[Decimal, BeforeValidator(exact), Field(ge=0, le=100, decimal_places=6)]  # percent
Currency: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
