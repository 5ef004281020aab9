"""The data that the steps of the chain pass on: orders, their items, and invoices. Unknown keys are ignored.

Fields are camelCase in JSON. Customer ids may be numbers, since many systems number their customers.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from qw.core.task.handler_api import Reject
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, clean
from qw.handlers.invoice.money import Amount, Currency, Price, Quantity, TaxRate, number, rounded
from qw.handlers.invoice.parties import Customer, Locale, Seller
from qw.handlers.invoice.sums import TaxLine

CAMEL = ConfigDict(
    alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, coerce_numbers_to_str=True
)

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=500)]
Id: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


def day_or_moment(value: object) -> date | datetime:
    """Return an ISO 8601 date, or date and time. Raise ValueError. A time without zone is in UTC."""
    try:
        if isinstance(value, (date, datetime)):
            return value
        if isinstance(value, str):
            return date.fromisoformat(value) if len(value) <= 10 else datetime.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"{str(value)[:40]!r} is not an ISO 8601 date such as 2026-11-24")


Day: TypeAlias = Annotated[datetime | date, BeforeValidator(day_or_moment)]


class Item(BaseModel):
    """``price``: of one unit, without tax. ``tax_rate``: in percent; None: the seller's default."""

    model_config = CAMEL

    id: Id | None = None
    name: Name
    price: Price
    quantity: Quantity = Decimal(1)
    tax_rate: TaxRate | None = None
    order_id: Id | None = None

    def amount(self, currency: str | None) -> Decimal:
        return rounded(self.price * self.quantity, currency)

    def to_json(self) -> JsonObject:
        shown: JsonObject = {
            "id": self.id,
            "name": self.name,
            "price": number(self.price),
            "quantity": number(self.quantity),
        }
        if self.tax_rate is not None:
            shown["taxRate"] = number(self.tax_rate)
        if self.order_id is not None:
            shown["orderId"] = self.order_id
        return shown


class Order(BaseModel):
    """``delivery_date``: None before delivery. ``reference``: the customer's own number for the order."""

    model_config = CAMEL

    id: Id
    customer_id: Id | None = None
    customer_name: Name | None = None
    customer: Customer | None = None
    reference: Id | None = None
    status: str = Field(default="delivered", max_length=50)
    invoiced: bool = False
    currency: Currency | None = None
    items: list[Item] = []
    total_amount: Amount | None = None
    order_date: Day | None = None
    delivery_date: Day | None = None

    @property
    def lines(self) -> list[Item]:
        """The items; an order with only a total has one line. Raises Reject if items and total disagree."""
        if not self.items and self.total_amount is not None:
            return [Item(id=self.id, name=f"Order {self.id}", price=self.total_amount)]
        total = self._total(self.items)
        if self.total_amount is not None and (said := rounded(self.total_amount, self.currency)) != total:
            raise Reject(f"order {self.id}: its items sum up to {total}, but its totalAmount is {said}")
        return self.items

    def _total(self, lines: list[Item]) -> Decimal:
        return sum((item.amount(self.currency) for item in lines), Decimal(0))

    def to_json(self) -> JsonObject:
        lines = self.lines
        shown: JsonObject = {
            "id": self.id,
            "customerId": self.customer_id,
            "status": self.status,
            "invoiced": self.invoiced,
            "items": [item.to_json() for item in lines],
            "totalAmount": number(self._total(lines)),
            "deliveryDate": written_day(self.delivery_date),
        }
        optional: JsonObject = {
            "customerName": self.customer_name,
            "customer": self.customer.to_json() if self.customer else None,
            "currency": self.currency,
            "orderDate": written_day(self.order_date),
            "reference": self.reference,
        }
        return shown | {key: value for key, value in optional.items() if value is not None}


class OrderFacts(BaseModel):
    """The details of an order that an invoice shows."""

    model_config = CAMEL

    id: Id
    reference: Id | None = None
    order_date: Day | None = None
    delivery_date: Day | None = None

    @property
    def delivery_day(self) -> date | None:
        return at(self.delivery_date).date() if self.delivery_date else None

    @classmethod
    def of(cls, order: Order) -> OrderFacts:
        return cls.model_validate(order.model_dump(include=set(cls.model_fields)))

    def to_json(self) -> JsonObject:
        days = {"orderDate": written_day(self.order_date), "deliveryDate": written_day(self.delivery_date)}
        optional = {"reference": self.reference, **days}
        return {"id": self.id, **{key: value for key, value in optional.items() if value is not None}}


class Invoice(BaseModel):
    """An invoice as the later steps read it; only a number or an id is required."""

    model_config = CAMEL

    id: Id | None = None
    invoice_number: Id | None = None
    customer_id: Id | None = None
    customer_name: Name | None = None
    customer: Customer | None = None
    seller: Seller | None = None
    order_details: list[OrderFacts] = Field(default=[], max_length=100_000)
    currency: Currency = "USD"
    locale: Locale | None = None
    items: list[Item] = Field(default=[], max_length=100_000)
    taxes: list[TaxLine] = []
    total_amount: Amount | None = None
    tax_amount: Amount | None = None
    grand_total: Amount | None = None
    issue_date: date | None = None
    due_day: date | None = None
    created_at: str | None = Field(default=None, max_length=40)
    due_date: str | None = Field(default=None, max_length=40)

    @property
    def number(self) -> str:
        number = self.invoice_number or self.id
        if number is None:
            raise Reject("the invoice has no invoiceNumber and no id")
        return number

    @property
    def issued(self) -> date | None:
        """The date of the invoice."""
        return self.issue_date or _day_of(self.created_at)

    @property
    def due(self) -> date | None:
        return self.due_day or _day_of(self.due_date)


def _day_of(text: str | None) -> date | None:
    """Return the date at the start of an ISO 8601 time, None for other texts."""
    try:
        return date.fromisoformat((text or "")[:10])
    except ValueError:
        return None


def at(value: date | datetime) -> datetime:
    """Return *value* as a time; a date means its start in UTC."""
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def timestamp(moment: datetime) -> str:
    """Return the time as ``2026-11-24T02:18:57.746Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def written_day(value: date | datetime | None) -> str | None:
    return timestamp(at(value)) if isinstance(value, datetime) else value.isoformat() if value else None


def file_stem(number: str) -> str:
    """Return a file name for *number* that is not a path: its own text if safe, else with a digest appended."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", number):
        return number
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", number)[:60].strip("_")
    return f"{plain}-{sha256(number.encode(errors='replace')).hexdigest()[:12]}".lstrip("-")


def fitting(result: dict[str, Any], advice: str) -> Json:
    """Return *result*. Raise Reject with *advice* if it is too large to be stored."""
    import orjson

    size = len(orjson.dumps(result))
    if size > MAX_RESULT:
        raise Reject(f"the result would have {size:,} bytes; at most {MAX_RESULT:,} are stored: {advice}")
    return clean(result)
