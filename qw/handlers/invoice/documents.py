"""What the steps of the chain hand to each other: orders, their items, and invoices. Unknown keys are ignored.

Fields are camelCase in JSON. Numbers may be given as customer ids, since many systems count their customers.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from qw.core.task.handler_api import Context, Reject
from qw.core.task.payload import MAX_RESULT, Json, JsonObject, clean
from qw.handlers.invoice.money import Amount, Currency, Price, Quantity, cents, number

CAMEL = ConfigDict(
    alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, coerce_numbers_to_str=True
)

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=500)]
Id: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


def day_or_moment(value: object) -> date | datetime:
    """An ISO 8601 date, or date and time; without a zone, the time is UTC."""
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
    model_config = CAMEL

    id: Id | None = None
    name: Name
    price: Price
    quantity: Quantity = Decimal(1)

    @property
    def amount(self) -> Decimal:
        return cents(self.price * self.quantity)

    def to_json(self) -> JsonObject:
        return {
            "id": self.id,
            "name": self.name,
            "price": number(self.price),
            "quantity": number(self.quantity),
        }


class Order(BaseModel):
    """``delivery_date`` is None for what is not delivered yet."""

    model_config = CAMEL

    id: Id
    customer_id: Id | None = None
    customer_name: Name | None = None
    status: str = Field(default="delivered", max_length=50)
    invoiced: bool = False
    currency: Currency | None = None
    items: list[Item] = []
    total_amount: Amount | None = None
    delivery_date: Day | None = None

    @property
    def lines(self) -> list[Item]:
        """The items; an order that is only a total is one line. Raise Reject where items and total disagree."""
        if not self.items and self.total_amount is not None:
            return [Item(id=self.id, name=f"Order {self.id}", price=self.total_amount)]
        total = sum((item.amount for item in self.items), Decimal(0))
        if self.total_amount is not None and cents(self.total_amount) != total:
            said = cents(self.total_amount)
            raise Reject(f"order {self.id}: its items sum up to {total}, but its totalAmount is {said}")
        return self.items

    def to_json(self) -> JsonObject:
        lines = self.lines
        shown: JsonObject = {
            "id": self.id,
            "customerId": self.customer_id,
            "status": self.status,
            "invoiced": self.invoiced,
            "items": [item.to_json() for item in lines],
            "totalAmount": number(sum((item.amount for item in lines), Decimal(0))),
            "deliveryDate": written_day(self.delivery_date),
        }
        for key, value in (("customerName", self.customer_name), ("currency", self.currency)):
            if value is not None:
                shown[key] = value
        return shown


class Invoice(BaseModel):
    """An invoice as the later steps read it; only a number or an id is needed."""

    model_config = CAMEL

    id: Id | None = None
    invoice_number: Id | None = None
    customer_id: Id | None = None
    customer_name: Name | None = None
    currency: Currency = "USD"
    items: list[Item] = Field(default=[], max_length=100_000)
    total_amount: Amount | None = None
    tax_amount: Amount | None = None
    grand_total: Amount | None = None
    created_at: str | None = Field(default=None, max_length=40)
    due_date: str | None = Field(default=None, max_length=40)

    @property
    def number(self) -> str:
        number = self.invoice_number or self.id
        if number is None:
            raise Reject("the invoice has no invoiceNumber and no id")
        return number


def at(value: date | datetime) -> datetime:
    """The moment *value* names: of a day, its first in UTC."""
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def timestamp(moment: datetime) -> str:
    """``2026-11-24T02:18:57.746Z``"""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def written_day(value: date | datetime | None) -> str | None:
    return timestamp(at(value)) if isinstance(value, datetime) else value.isoformat() if value else None


async def created(context: Context) -> datetime:
    """When the task was made, the same in all its attempts: what its id says, or for other ids what is kept."""
    if context.task_id.version == 7:
        return moment_of(context.task_id)

    async def now() -> str:
        return timestamp(datetime.now(UTC))

    return datetime.fromisoformat(await context.step("created", now))


def moment_of(id: UUID) -> datetime:
    """The moment in a UUIDv7."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=id.int >> 80)


def file_stem(number: str) -> str:
    """A file name for *number* that is no path: its own text where that is harmless, else with a digest added."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", number):
        return number
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", number)[:60].strip("_")
    return f"{plain}-{sha256(number.encode(errors='replace')).hexdigest()[:12]}".lstrip("-")


def fitting(result: dict[str, Any], advice: str) -> Json:
    """*result*, if it may be stored. Raise Reject with *advice* when it is too big."""
    import orjson

    size = len(orjson.dumps(result))
    if size > MAX_RESULT:
        raise Reject(f"the result would have {size:,} bytes; at most {MAX_RESULT:,} are stored: {advice}")
    return clean(result)
