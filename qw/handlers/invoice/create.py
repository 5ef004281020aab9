"""`create_invoice`: makes one invoice from orders, numbered in the seller's series. A retry creates no second invoice.

Its compensation voids the invoice with a credit note, stored beside the documents and numbered in the same series.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from qw.core.task.handler_api import Context, Recorded, Reject
from qw.core.task.payload import Json, JsonObject
from qw.handlers.invoice.documents import CAMEL, Id, Item, Name, Order, OrderFacts, file_stem, fitting, timestamp
from qw.handlers.invoice.files import write_file
from qw.handlers.invoice.money import LARGEST, Currency, number
from qw.handlers.invoice.numbers import GivenNumber, Numbers, written
from qw.handlers.invoice.parties import DEMO, Customer, Seller
from qw.handlers.invoice.sums import Sums, sums_of
from qw.handlers.registry import Handlers

MAX_LINES = 100_000


@dataclass(frozen=True, kw_only=True)
class InvoiceOptions:
    """``directory``: where credit notes for voided invoices are stored."""

    directory: Path
    numbers: Numbers
    seller: Seller = DEMO


class Orders(BaseModel):
    model_config = CAMEL

    customer_id: Id
    customer_name: Name | None = None
    customer: Customer | None = None
    currency: Currency | None = None
    orders: list[Order] = Field(default=[], max_length=MAX_LINES)


class InvoiceDraft(NamedTuple):
    """An invoice without a number."""

    currency: str
    customer: Customer
    items: list[Item]
    sums: Sums


def add_create_invoice(app: Handlers, options: InvoiceOptions) -> None:
    async def void(context: Context, recorded: Recorded) -> Json:
        return await _void(context, recorded, options)

    @app.handler("create_invoice", compensate=void)
    async def create_invoice(payload: Orders, context: Context) -> Json:
        made = draft(payload, options.seller)
        await context.log(f"invoicing {len(payload.orders)} orders")
        number = await options.numbers.take(context, options.seller)  # last, as it locks the series
        invoice = numbered(made, payload, number, seller=options.seller, task_id=context.task_id)
        return fitting({"invoice": invoice}, "invoice fewer orders at a time")


def draft(wanted: Orders, seller: Seller) -> InvoiceDraft:
    """Return the items and sums of the orders. Raise Reject if they cannot be invoiced, or not on one invoice."""
    _check_orders(wanted)
    items = [_item_of(order, item, seller) for order in wanted.orders for item in order.lines]
    if not items:
        raise Reject("no orders to invoice: none of them has items or a totalAmount")
    if len(items) > MAX_LINES:
        raise Reject(f"the orders have {len(items):,} items; an invoice can have at most {MAX_LINES:,}")
    currency = _currency(wanted)
    lines = [(item.amount(currency), item.tax_rate or Decimal(0)) for item in items]
    _check_size(sum((amount for amount, _ in lines), Decimal(0)))
    sums = sums_of(lines, currency, is_exempt=seller.exemption is not None)
    _check_size(sums.grand_total)
    return InvoiceDraft(currency, _customer(wanted), items, sums)


def numbered(made: InvoiceDraft, wanted: Orders, assigned: GivenNumber, *, seller: Seller, task_id: UUID) -> JsonObject:
    """Return the invoice. Its dates are in the seller's time zone."""
    issued = assigned.at.astimezone(seller.zone)
    due = issued + timedelta(days=seller.payment_days)
    customer = made.customer
    return {
        "id": str(task_id),
        "invoiceNumber": written(assigned, seller.number_prefix),
        "customerId": wanted.customer_id,
        **({"customerName": customer.name} if customer.name else {}),
        "customer": customer.to_json(),
        "seller": seller.to_json(),
        "locale": customer.locale or seller.locale,
        "orders": [order.id for order in wanted.orders],
        "orderDetails": [OrderFacts.of(order).to_json() for order in wanted.orders],
        "items": [item.to_json() for item in made.items],
        "currency": made.currency,
        "taxes": [line.to_json() for line in made.sums.taxes],
        "totalAmount": number(made.sums.total),
        "taxAmount": number(made.sums.tax),
        "grandTotal": number(made.sums.grand_total),
        "status": "created",
        "createdAt": timestamp(assigned.at),
        "dueDate": timestamp(due),
        "issueDate": issued.date().isoformat(),
        "dueDay": due.date().isoformat(),
    }


def _check_orders(wanted: Orders) -> None:
    if not wanted.orders:
        raise Reject("no orders to invoice")
    seen: set[str] = set()
    for order in wanted.orders:
        if order.id in seen:
            raise Reject(f"order {order.id} occurs twice in the orders")
        if order.invoiced:
            raise Reject(f"order {order.id} is already invoiced")
        if order.customer_id not in (None, wanted.customer_id):
            raise Reject(f"order {order.id} belongs to customer {order.customer_id}, not to {wanted.customer_id}")
        seen.add(order.id)


def _check_size(total: Decimal) -> None:
    if total > LARGEST:
        raise Reject(f"the invoice would be over {total}; at most {LARGEST} are possible")


def _item_of(order: Order, item: Item, seller: Seller) -> Item:
    rate = seller.tax_rate if item.tax_rate is None else item.tax_rate
    return item.model_copy(update={"order_id": order.id, "tax_rate": rate})


def _customer(wanted: Orders) -> Customer:
    """Return the payload's customer, or that of the first order that has one."""
    customer = wanted.customer or next((order.customer for order in wanted.orders if order.customer), Customer())
    names = (wanted.customer_name, customer.name, *(order.customer_name for order in wanted.orders))
    return customer.model_copy(update={"name": next(filter(None, names), None)})


def _currency(wanted: Orders) -> str:
    named = {order.currency for order in wanted.orders if order.currency} | ({wanted.currency} - {None})
    if len(named) > 1:
        raise Reject(f"the orders are in several currencies ({', '.join(sorted(map(str, named)))}): invoice each alone")
    return str(named.pop()) if named else "USD"


async def _void(context: Context, recorded: Recorded, options: InvoiceOptions) -> Json:
    invoice = recorded.result.get("invoice") if isinstance(recorded.result, dict) else None
    if not isinstance(invoice, dict) or not isinstance(invoice.get("invoiceNumber"), str):
        raise Reject(f"task {recorded.task_id} has no invoice in its result that could be voided")
    assigned = await options.numbers.take_back(recorded.task_id, context.task_id, options.seller)
    if assigned is None:
        raise Reject(f"task {recorded.task_id} has no invoice number that could be taken back")
    voided, number = str(invoice["invoiceNumber"]), written(assigned, options.seller.number_prefix)
    note = {
        "creditNoteNumber": number,
        "voided": voided,
        "customerId": invoice.get("customerId"),
        "currency": invoice.get("currency"),
        "credit": invoice.get("grandTotal"),
        "reason": context.payload.get("reason"),
        "compensation": str(context.task_id),
        "voidedAt": timestamp(assigned.at),
    }
    path = options.directory / f"{file_stem(voided)}.void.json"
    await asyncio.to_thread(write_file, path, orjson.dumps(note, option=orjson.OPT_INDENT_2))
    return {"voided": voided, "creditNoteNumber": number, "creditNote": str(path)}
