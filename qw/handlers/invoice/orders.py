"""`fetch_orders`: the delivered orders of a customer that are not invoiced yet.

They come from a service or a file of the user's, or, if neither is configured, from the samples of qw.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from qw.core.errors import Fault, Invalid
from qw.core.task.handler_api import Context, Reject, Retry
from qw.core.task.payload import Json
from qw.handlers.invoice.documents import CAMEL, Day, Id, Order, at, fitting, written_day
from qw.handlers.invoice.service import ServiceCall, ServiceFailed, answer
from qw.handlers.registry import Handlers

SAMPLES = Path(__file__).parent.parent / "samples" / "orders.json"
MAX_SOURCE = 64 * 1024 * 1024  # bytes of a file or a response


@dataclass(frozen=True, kw_only=True)
class OrdersOptions:
    """``orders``: the http(s) URL of a service, or a ``.csv`` or ``.json`` file; None: the samples."""

    orders: str | Path | None = None
    timeout: timedelta = timedelta(seconds=30)


class OrdersWanted(BaseModel):
    """``dateTo`` includes the whole day if it is a date."""

    model_config = CAMEL

    customer_id: Id
    date_from: Day | None = None
    date_to: Day | None = None

    @property
    def end(self) -> datetime:
        """The end of the requested period, inclusive."""
        if self.date_to is None:
            return datetime.max.replace(tzinfo=UTC)
        last = at(self.date_to)
        return last if isinstance(self.date_to, datetime) else last + timedelta(days=1, microseconds=-1)

    @model_validator(mode="after")
    def _check_range(self) -> OrdersWanted:
        if self.date_from and self.date_to and at(self.date_from) > self.end:
            raise ValueError(f"dateFrom {self.date_from} is after dateTo {self.date_to}")
        return self

    def covers(self, day: date | datetime) -> bool:
        return (self.date_from is None or at(day) >= at(self.date_from)) and at(day) <= self.end


def add_fetch_orders(app: Handlers, options: OrdersOptions) -> None:
    @app.handler("fetch_orders")
    async def fetch_orders(payload: OrdersWanted, context: Context) -> Json:
        known = await _source(payload, options)
        orders = [order for order in known if _is_due(order, payload)]
        await context.log(f"{len(orders)} delivered orders to invoice")
        own = [order.model_copy(update={"customer_id": payload.customer_id}).to_json() for order in orders]
        result: dict[str, Json] = {"orders": [*own]}
        if options.orders is None and (note := _unknown(payload.customer_id, known)):
            await context.log(note, level="WARNING")
            result["note"] = note
        return fitting(result, "narrow dateFrom and dateTo")


def _unknown(customer: str, samples: list[Order]) -> str | None:
    """Return a note if the samples are in use and do not contain the customer."""
    customers = sorted({order.customer_id for order in samples if order.customer_id})
    if customer in customers:
        return None
    return (
        f"customer {customer!r} has no orders in the samples, which know {', '.join(customers)}; "
        "QW_ORDERS_URL names your own orders, a URL or a file"
    )


def _is_due(order: Order, wanted: OrdersWanted) -> bool:
    return (
        order.status == "delivered"
        and not order.invoiced
        and order.customer_id in (None, wanted.customer_id)
        and order.delivery_date is not None
        and wanted.covers(order.delivery_date)
    )


async def _source(wanted: OrdersWanted, options: OrdersOptions) -> list[Order]:
    if options.orders is None:
        return await asyncio.to_thread(read_orders, SAMPLES)
    if str(options.orders).startswith(("http://", "https://")):
        return await _ask_service(str(options.orders), wanted, options.timeout)
    try:
        return await asyncio.to_thread(read_orders, Path(options.orders))
    except Invalid as error:
        raise Reject(str(error)) from None


async def _ask_service(url: str, wanted: OrdersWanted, timeout: timedelta) -> list[Order]:
    days = {"dateFrom": written_day(wanted.date_from), "dateTo": written_day(wanted.date_to)}
    query = {"customerId": wanted.customer_id, **{key: day for key, day in days.items() if day}}
    try:
        response = await answer(ServiceCall(method="GET", url=url, query=query, timeout=timeout, most=MAX_SOURCE))
        return parse_orders(response, "the answer")
    except (ServiceFailed, Invalid) as error:
        raise Retry(f"Fetching orders failed: {error}") from None


def read_orders(path: Path) -> list[Order]:
    """Return the orders of a CSV or JSON file. Raise Invalid with the place of every fault."""
    try:
        if path.stat().st_size > MAX_SOURCE:
            raise Invalid(Fault(path=path.name, message=f"more than {MAX_SOURCE:,} bytes"))
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(Fault(path=str(path), message=f"cannot be read: {error}")) from None
    if path.suffix.lower() == ".csv":
        from qw.handlers.invoice.table import parse_table

        return parse_table(text, path.name)
    try:
        return parse_orders(json.loads(text, parse_float=Decimal), path.name)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Invalid(Fault(path=path.name, message=f"not JSON: {error}")) from None


def parse_orders(value: Any, source: str) -> list[Order]:
    """Return the orders of JSON data, a list or an object with ``orders``. Raise Invalid with *source* and place."""
    rows = value.get("orders") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise Invalid(Fault(path=source, message="must be a list of orders, or an object with the list `orders`"))
    orders, faults = [], []
    for index, row in enumerate(rows):
        try:
            orders.append(Order.model_validate(row))
        except ValidationError as error:
            faults += _faults(error, f"{source}: orders[{index}]")
        if len(faults) >= 10:
            break
    if faults:
        raise Invalid(*faults[:10])
    return orders


def _faults(error: ValidationError, where: str) -> list[Fault]:
    return [
        Fault(path=".".join([where, *map(str, fault["loc"])]), message=fault["msg"])
        for fault in error.errors(include_url=False)
    ]
