"""`create_invoice`: orders become one invoice. Its number and date come from the task's id: a retry makes no second.

Its compensating action voids the invoice with a credit note beside the documents.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from qw.core.task.handler_api import Context, Recorded, Reject
from qw.core.task.payload import Json, JsonObject
from qw.handlers.invoice.documents import CAMEL, Id, Name, Order, created, file_stem, fitting, timestamp
from qw.handlers.invoice.files import write_file
from qw.handlers.invoice.money import LARGEST, Currency, cents, number
from qw.handlers.registry import Handlers

TAX_RATE = Decimal("0.10")
DUE_AFTER = timedelta(days=30)
MAX_LINES = 100_000
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O, U: the number is read aloud


@dataclass(frozen=True, kw_only=True)
class InvoiceOptions:
    """``directory`` takes the credit notes of invoices made void."""

    directory: Path


class Orders(BaseModel):
    model_config = CAMEL

    customer_id: Id
    customer_name: Name | None = None
    currency: Currency | None = None
    orders: list[Order] = Field(default=[], max_length=MAX_LINES)


def add_create_invoice(app: Handlers, options: InvoiceOptions) -> None:
    async def void(context: Context, recorded: Recorded) -> Json:
        return await _void(context, recorded, options.directory)

    @app.handler("create_invoice", compensate=void)
    async def create_invoice(payload: Orders, context: Context) -> Json:
        invoice = invoice_for(payload, context.task_id, await created(context))
        await context.log(f"invoice {invoice['invoiceNumber']} over {len(payload.orders)} orders")
        return fitting({"invoice": invoice}, "invoice fewer orders at a time")


def invoice_for(wanted: Orders, task_id: UUID, made: datetime) -> JsonObject:
    """The invoice over the orders. Raise Reject for what must not be invoiced together, or at all."""
    _check_orders(wanted)
    items = list(chain.from_iterable(order.lines for order in wanted.orders))
    if not items:
        raise Reject("no orders to invoice: none of them has items or a totalAmount")
    if len(items) > MAX_LINES:
        raise Reject(f"the orders have {len(items):,} items; at most {MAX_LINES:,} stand on one invoice")
    total = sum((item.amount for item in items), Decimal(0))
    tax = cents(total * TAX_RATE)
    if total + tax > LARGEST:
        raise Reject(f"the invoice would be over {total + tax}; at most {LARGEST} are possible")
    name = wanted.customer_name or next((order.customer_name for order in wanted.orders if order.customer_name), None)
    return {
        "id": str(task_id),
        "invoiceNumber": invoice_number(task_id, made),
        "customerId": wanted.customer_id,
        **({"customerName": name} if name else {}),
        "orders": [order.id for order in wanted.orders],
        "items": [item.to_json() for item in items],
        "currency": _currency(wanted),
        "totalAmount": number(total),
        "taxAmount": number(tax),
        "grandTotal": number(total + tax),
        "status": "created",
        "createdAt": timestamp(made),
        "dueDate": timestamp(made + DUE_AFTER),
    }


def invoice_number(task_id: UUID, made: datetime) -> str:
    """``INV-20261124-…``: the day, and the 62 bits of the id that are random, as 13 letters and digits."""
    bits = task_id.int & (1 << 62) - 1
    return f"INV-{made:%Y%m%d}-" + "".join(_DIGITS[bits >> shift & 31] for shift in range(60, -1, -5))


def _check_orders(wanted: Orders) -> None:
    if not wanted.orders:
        raise Reject("no orders to invoice")
    seen: set[str] = set()
    for order in wanted.orders:
        if order.id in seen:
            raise Reject(f"order {order.id} stands twice in the orders")
        if order.invoiced:
            raise Reject(f"order {order.id} is already invoiced")
        if order.customer_id not in (None, wanted.customer_id):
            raise Reject(f"order {order.id} belongs to customer {order.customer_id}, not to {wanted.customer_id}")
        seen.add(order.id)


def _currency(wanted: Orders) -> str:
    named = {order.currency for order in wanted.orders if order.currency} | ({wanted.currency} - {None})
    if len(named) > 1:
        raise Reject(f"the orders are in several currencies ({', '.join(sorted(map(str, named)))}): invoice each alone")
    return str(named.pop()) if named else "USD"


async def _void(context: Context, recorded: Recorded, directory: Path) -> Json:
    invoice = recorded.result.get("invoice") if isinstance(recorded.result, dict) else None
    if not isinstance(invoice, dict) or not isinstance(invoice.get("invoiceNumber"), str):
        raise Reject(f"task {recorded.task_id} has no invoice in its result that could be voided")
    voided = str(invoice["invoiceNumber"])
    note = {
        "voided": voided,
        "customerId": invoice.get("customerId"),
        "currency": invoice.get("currency"),
        "credit": invoice.get("grandTotal"),
        "reason": context.payload.get("reason"),
        "compensation": str(context.task_id),
        "voidedAt": timestamp(await created(context)),
    }
    path = directory / f"{file_stem(voided)}.void.json"
    await asyncio.to_thread(write_file, path, orjson.dumps(note, option=orjson.OPT_INDENT_2))
    return {"voided": voided, "creditNote": str(path)}
