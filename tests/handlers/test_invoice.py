from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.ids import uuid7
from qw.core.task.handler_api import Recorded, Reject
from qw.handlers import Handlers
from qw.handlers.invoice.create import InvoiceOptions, Orders, add_create_invoice, draft
from qw.handlers.invoice.documents import file_stem
from qw.handlers.invoice.money import exact, rounded, spoken
from qw.handlers.invoice.parties import DEMO, Seller
from tests.handlers.context import MemoryContext, MemoryNumbers, files, run

MADE = datetime(2026, 11, 24, 2, 18, 57, 746_000, UTC)
TASK = uuid7(int(MADE.timestamp() * 1000), b"0123456789")


def order(id: str = "o1", **extra: Any) -> dict[str, Any]:
    return {"id": id, "items": [{"id": "i", "name": "Pen", "price": 125, "quantity": 2}], **extra}


def invoicer(directory: Path = Path(), seller: Seller = DEMO) -> Handlers:
    app = Handlers()
    add_create_invoice(app, InvoiceOptions(directory=directory, numbers=MemoryNumbers(MADE), seller=seller))
    return app


async def create(*orders: dict[str, Any], seller: Seller = DEMO, **payload: Any) -> dict[str, Any]:
    payload = {"customerId": "c", "orders": list(orders), **payload}
    result = await run(invoicer(seller=seller), "create_invoice", payload, MemoryContext(task_id=TASK))
    invoice: dict[str, Any] = result["invoice"]
    return invoice


async def test_an_invoice_has_ten_percent_tax_and_thirty_days() -> None:
    invoice = await create(order(customerName="Zoë"))

    seller = invoice.pop("seller")
    assert (seller["name"], seller["isDemo"]) == ("Demo Seller Ltd", True)
    assert invoice == {
        "id": str(TASK),
        "invoiceNumber": "INV-2026-00001",
        "customerId": "c",
        "customerName": "Zoë",
        "customer": {"name": "Zoë"},
        "locale": "en",
        "orders": ["o1"],
        "orderDetails": [{"id": "o1"}],
        "items": [{"id": "i", "name": "Pen", "price": 125, "quantity": 2, "taxRate": 10, "orderId": "o1"}],
        "currency": "USD",
        "taxes": [{"category": "S", "rate": 10, "base": 250, "tax": 25}],
        "totalAmount": 250,
        "taxAmount": 25,
        "grandTotal": 275,
        "status": "created",
        "createdAt": "2026-11-24T02:18:57.746Z",
        "dueDate": "2026-12-24T02:18:57.746Z",
        "issueDate": "2026-11-24",
        "dueDay": "2026-12-24",
    }


async def test_days_are_those_of_the_seller() -> None:
    seller = DEMO.model_copy(update={"timezone": "America/New_York", "payment_days": 14})

    invoice = await create(order(), seller=seller)

    assert (invoice["issueDate"], invoice["dueDay"]) == ("2026-11-23", "2026-12-07")
    assert invoice["dueDate"] == "2026-12-08T02:18:57.746Z"


async def test_tax_is_summed_by_rate_and_rounded_once() -> None:
    items = [{"name": "x", "price": "0.33", "taxRate": 19}] * 3 + [{"name": "y", "price": "10", "taxRate": 7}]

    invoice = await create(order(items=items))

    assert invoice["taxes"] == [
        {"category": "S", "rate": 19, "base": 0.99, "tax": 0.19},  # by line it would be 0.18
        {"category": "S", "rate": 7, "base": 10, "tax": 0.7},
    ]
    assert (invoice["totalAmount"], invoice["taxAmount"], invoice["grandTotal"]) == (10.99, 0.89, 11.88)


async def test_a_currency_without_cents_has_none() -> None:
    invoice = await create(order(items=[{"name": "x", "price": "99.5", "quantity": 3}], currency="JPY"))

    assert (invoice["totalAmount"], invoice["taxAmount"], invoice["grandTotal"]) == (299, 30, 329)


@pytest.mark.parametrize(("exemption", "category"), [(None, "Z"), ("Small business, § 19 UStG", "E")])
async def test_what_has_no_tax_is_exempt_where_the_seller_says_why(exemption: str | None, category: str) -> None:
    seller = DEMO.model_copy(update={"exemption": exemption})

    invoice = await create(order(items=[{"name": "x", "price": 5, "taxRate": 0}]), seller=seller)

    assert invoice["taxes"] == [{"category": category, "rate": 0, "base": 5, "tax": 0}]


async def test_the_customer_and_the_facts_of_the_orders_stand_on_the_invoice() -> None:
    customer = {"name": "Zoë", "address": {"street": "Weg 1", "postalCode": "10115", "city": "Berlin", "country": "DE"}}
    dates = {"orderDate": "2026-11-01", "deliveryDate": "2026-11-09", "reference": "PO-7"}

    invoice = await create(order(customer={**customer, "locale": "de"}, **dates), order("o2"))

    assert invoice["customer"] == {**customer, "locale": "de"}
    assert (invoice["customerName"], invoice["locale"]) == ("Zoë", "de")
    assert invoice["orderDetails"] == [{"id": "o1", **dates}, {"id": "o2"}]


async def test_sums_of_floats_are_exact() -> None:
    items = [{"name": "a", "price": 0.1, "quantity": 1}, {"name": "b", "price": 0.2, "quantity": 1}]

    invoice = await create(order(items=[*items, {"name": "c", "price": "1.005", "quantity": 1}]))

    assert invoice["totalAmount"] == 1.31  # 1.005 is half up to 1.01, alone
    assert invoice["taxAmount"] == 0.13
    assert invoice["grandTotal"] == 1.44


LINES = st.tuples(st.integers(0, 10**9), st.integers(1, 10**6), st.sampled_from([0, 5.5, 7, 10, 19, 25]))


@given(st.lists(LINES, min_size=1, max_size=20), st.sampled_from(["EUR", "JPY"]))
def test_sums_add_up_in_the_smallest_unit_of_the_currency(lines: list[tuple[int, int, float]], currency: str) -> None:
    items = [{"name": "x", "price": f"{p}e-4", "quantity": f"{q}e-3", "taxRate": rate} for p, q, rate in lines]
    orders = [{"id": "o", "items": items, "currency": currency}]

    sums = draft(Orders.model_validate({"customerId": "c", "orders": orders}), DEMO).sums

    amounts = [rounded(exact(item["price"]) * exact(item["quantity"]), currency) for item in items]
    assert sums.total == sum(amounts) == sum(line.base for line in sums.taxes)
    assert sums.grand_total == sums.total + sums.tax
    assert [line.rate for line in sums.taxes] == sorted({exact(rate) for _, _, rate in lines}, reverse=True)
    for line in sums.taxes:
        assert line.tax == rounded(line.base * line.rate / 100, currency)
        assert line.base == sum(a for a, (_, _, rate) in zip(amounts, lines, strict=True) if rate == line.rate)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"orders": []}, "no orders to invoice"),
        ({"orders": [{"id": "o"}]}, "no orders to invoice"),
        ({"orders": [order(items=[{"name": "x", "quantity": 1}])]}, r"items\.0\.price: Field required"),
        ({"orders": [order(items=[{"name": "x", "price": -1}])]}, "greater than or equal to 0"),
        ({"orders": [order(items=[{"name": "x", "price": None}])]}, "not a number"),
        ({"orders": [order(items=[{"name": "x", "price": "NaN"}])]}, "not a number"),
        ({"orders": [order(items=[{"name": "x", "price": "1e99"}])]}, "too large"),
        ({"orders": [order(items=[{"name": "x", "price": 1, "quantity": 0}])]}, "greater than 0"),
        ({"orders": [order(), order()]}, "order o1 occurs twice"),
        ({"orders": [order(invoiced=True)]}, "order o1 is already invoiced"),
        ({"orders": [order(customerId="d")]}, "order o1 belongs to customer d, not to c"),
        (
            {"orders": [order(totalAmount=249)]},
            r"order o1: its items sum up to 250\.00, but its totalAmount is 249\.00",
        ),
        ({"orders": [order(currency="EUR"), order("o2", currency="USD")]}, "several currencies"),
        ({"orders": [order()], "currency": "Euro"}, "currency"),
        (
            {"orders": [order(str(n), items=[{"name": "x", "price": 10**9, "quantity": 900}]) for n in range(2)]},
            "at most",
        ),
    ],
)
async def test_what_must_not_be_invoiced_is_rejected(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(Reject, match=message):
        await run(invoicer(), "create_invoice", {"customerId": "c", **payload})


async def test_too_many_lines_are_refused() -> None:
    items = [{"name": "x", "price": 1}] * 50_001
    orders = [order("a", items=items), order("b", items=items)]

    with pytest.raises(Reject, match=r"100,002 items; an invoice can have at most 100,000"):
        await create(*orders)


async def test_an_invoice_too_big_to_store_is_refused_with_advice() -> None:
    with pytest.raises(Reject, match="invoice fewer orders at a time"):
        await create(order(items=[{"name": "x" * 100, "price": 1}] * 3000))


async def test_a_missing_currency_is_dollars_and_a_named_one_is_kept() -> None:
    assert (await create(order()))["currency"] == "USD"
    assert (await create(order(currency="EUR")))["currency"] == "EUR"
    assert (await create(order(), currency="CHF"))["currency"] == "CHF"


async def test_an_order_that_is_only_a_total_is_one_line() -> None:
    invoice = await create({"id": 7, "totalAmount": "99.50"})

    [item] = invoice["items"]
    assert (item["id"], item["name"], item["price"], item["quantity"]) == ("7", "Order 7", 99.5, 1)


async def test_keys_of_the_chain_that_are_not_ours_are_ignored() -> None:
    assert (await create(order(shelf=3), workflowId="w"))["grandTotal"] == 275


async def test_undoing_an_invoice_leaves_a_credit_note(tmp_path: Path) -> None:
    app = invoicer(tmp_path)
    payload: dict[str, Any] = {"customerId": "c", "orders": [order()]}
    result = await run(app, "create_invoice", payload, MemoryContext(task_id=TASK))
    recorded = Recorded(task_id=TASK, type="create_invoice", payload=payload, result=result, finished_at=MADE)
    handler = app.get("create_invoice")
    assert handler is not None
    assert handler.compensate is not None

    undo = MemoryContext(payload={"reason": "returned"})
    detail: Any = await handler.compensate(undo, recorded)
    again = await handler.compensate(undo, recorded)

    number = result["invoice"]["invoiceNumber"]
    [note] = files(tmp_path)
    assert detail == again == {"voided": number, "creditNoteNumber": "INV-2026-00002", "creditNote": str(note)}
    assert note.name == f"{number}.void.json"
    assert json.loads(note.read_text())["credit"] == 275
    assert json.loads(note.read_text())["reason"] == "returned"


@pytest.mark.parametrize(
    "number", ["../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "", "x" * 300, "a\0b", "Ελένη"]
)
def test_a_number_is_no_path(number: str) -> None:
    stem = file_stem(number)

    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", stem)
    assert file_stem(f"{number}!") != stem


def test_harmless_numbers_keep_their_text() -> None:
    assert file_stem("INV-2026.11-7_a") == "INV-2026.11-7_a"
    assert file_stem("a/b") != file_stem("a_b")


def test_amounts_in_a_sentence_have_cents_only_where_there_are_some() -> None:
    assert spoken(Decimal(275), "USD") == "$275"
    assert spoken(Decimal("1234.5"), "USD") == "$1234.50"
