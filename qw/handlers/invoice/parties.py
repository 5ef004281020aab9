"""Seller and customer of an invoice. The seller comes from a file (``QW_SELLER``), the customer with the orders."""

from __future__ import annotations

import re
import tomllib
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from qw.core.errors import Fault, Misconfigured, guess
from qw.core.task.payload import JsonObject
from qw.handlers.invoice.money import TaxRate

_PARTY = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)
_SELLER = ConfigDict(**{**_PARTY, "extra": "forbid"})


def _iban(text: str) -> str:
    """Return *text* without spaces if its check digits are correct (ISO 13616)."""
    iban = text.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban):
        raise ValueError("is not an IBAN such as DE02 1203 0000 0000 2020 51")
    if int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 != 1:
        raise ValueError("is mistyped: the check digits of the IBAN do not fit")
    return iban


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone such as Europe/Berlin") from None
    return name


Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Country: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]  # ISO 3166
Locale: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*$")]  # de, de-CH, en_US
Iban: TypeAlias = Annotated[str, AfterValidator(_iban)]
Bic: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?$")]
Email: TypeAlias = Annotated[str, Field(pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$", max_length=254)]


class Address(BaseModel):
    model_config = _PARTY

    street: Text | None = None
    addition: Text | None = None
    postal_code: Annotated[str, Field(max_length=20)] | None = None
    city: Text | None = None
    region: Annotated[str, Field(max_length=50)] | None = None
    country: Country


class Customer(BaseModel):
    """``locale``: determines the language of the invoice and its formats of numbers and dates."""

    model_config = _PARTY

    name: Text | None = None
    address: Address | None = None
    vat_id: Text | None = None
    email: Email | None = None
    locale: Locale | None = None

    def to_json(self) -> JsonObject:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Bank(BaseModel):
    model_config = _SELLER

    iban: Iban
    bic: Bic | None = None
    name: Text | None = None
    holder: Text | None = None


class Seller(BaseModel):
    """``series``: the series of invoice numbers; sellers with the same series share it."""

    model_config = _SELLER

    name: Text
    address: Address
    vat_id: Text | None = None
    tax_number: Text | None = None
    register_entry: Text | None = None
    email: Email | None = None
    phone: Text | None = None
    website: Text | None = None
    bank: Bank | None = None

    locale: Locale = "en"
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    tax_rate: TaxRate = Decimal(10)
    exemption: Text | None = None
    payment_days: Annotated[int, Field(ge=0, le=3650)] = 30
    number_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,20}$")] = "INV-"
    series: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]
    note: Annotated[str, Field(max_length=1000)] | None = None
    is_demo: bool = False

    @property
    def zone(self) -> tzinfo:
        return ZoneInfo(self.timezone)

    def to_json(self) -> JsonObject:
        """Return the fields that an invoice shows."""
        ours = {"tax_rate", "payment_days", "number_prefix", "timezone"}
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=ours)


DEMO = Seller(
    name="Demo Seller Ltd",
    address=Address(street="1 Example Street", postal_code="12345", city="Sampletown", country="DE"),
    vat_id="DE000000000",
    register_entry="Not a real company",
    email="billing@example.com",
    website="example.com",
    bank=Bank(iban="DE36000000000000000000", name="Demo Bank"),  # not a real account: it cannot receive payments
    series="demo",
    is_demo=True,
)


def read_seller(path: Path | None) -> Seller:
    """Return the seller from the TOML file *path*; None: the demo seller. Raise Misconfigured with every fault."""
    if path is None:
        return DEMO
    try:
        return Seller.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"QW_SELLER: cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"QW_SELLER: {path} is not TOML: {error}") from None
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise Misconfigured(
            *(Fault(path=f"{path}: {_place(fault['loc'])}", message=_said(fault)) for fault in faults)
        ) from None


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def _said(fault: object) -> str:
    assert isinstance(fault, dict)
    if fault["type"] == "extra_forbidden":
        known = [*Seller.model_fields, *Bank.model_fields]
        return f"unknown key{guess(str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return "is missing"
    return str(fault["msg"]).removeprefix("Value error, ")
