from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.ids import uuid7
from qw.core.task.handler_api import Recorded, Reject
from qw.handlers import Handlers
from qw.handlers.invoice.create import InvoiceOptions, Orders, add_create_invoice, invoice_for
from qw.handlers.invoice.documents import file_stem
from qw.handlers.invoice.money import exact, spoken, written
from tests.handlers.context import MemoryContext, files, new_id, run

MADE = datetime(2026, 11, 24, 2, 18, 57, 746_000, UTC)
TASK = uuid7(int(MADE.timestamp() * 1000), b"0123456789")


def order(id: str = "o1", **extra: Any) -> dict[str, Any]:
    return {"id": id, "items": [{"id": "i", "name": "Pen", "price": 125, "quantity": 2}], **extra}


def invoicer(directory: Path = Path()) -> Handlers:
    app = Handlers()
    add_create_invoice(app, InvoiceOptions(directory=directory))
    return app


async def create(*orders: dict[str, Any], task_id: UUID = TASK, **payload: Any) -> dict[str, Any]:
    payload = {"customerId": "c", "orders": list(orders), **payload}
    result = await run(invoicer(), "create_invoice", payload, MemoryContext(task_id=task_id))
    invoice: dict[str, Any] = result["invoice"]
    return invoice


async def test_an_invoice_has_ten_percent_tax_and_thirty_days() -> None:
    invoice = await create(order(customerName="Zoë"))

    assert re.fullmatch(r"INV-20261124-[0-9A-Z]{13}", invoice.pop("invoiceNumber"))
    assert invoice == {
        "id": str(TASK),
        "customerId": "c",
        "customerName": "Zoë",
        "orders": ["o1"],
        "items": [{"id": "i", "name": "Pen", "price": 125, "quantity": 2}],
        "currency": "USD",
        "totalAmount": 250,
        "taxAmount": 25,
        "grandTotal": 275,
        "status": "created",
        "createdAt": "2026-11-24T02:18:57.746Z",
        "dueDate": "2026-12-24T02:18:57.746Z",
    }


async def test_a_retry_makes_the_same_invoice_and_another_task_another_number() -> None:
    first, again, other = await create(order()), await create(order()), await create(order(), task_id=new_id())

    assert first == again
    assert first["invoiceNumber"] != other["invoiceNumber"]


async def test_an_id_without_a_time_keeps_its_first_time_over_attempts() -> None:
    context = MemoryContext(task_id=uuid4())

    first = await run(invoicer(), "create_invoice", {"customerId": "c", "orders": [order()]}, context)
    again = await run(invoicer(), "create_invoice", {"customerId": "c", "orders": [order()]}, context)

    assert first == again


async def test_sums_of_floats_are_exact() -> None:
    items = [{"name": "a", "price": 0.1, "quantity": 1}, {"name": "b", "price": 0.2, "quantity": 1}]

    invoice = await create(order(items=[*items, {"name": "c", "price": "1.005", "quantity": 1}]))

    assert invoice["totalAmount"] == 1.31  # 1.005 is half up to 1.01, alone
    assert invoice["taxAmount"] == 0.13
    assert invoice["grandTotal"] == 1.44


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 100)), min_size=1, max_size=20))
def test_totals_are_whole_cents_that_add_up(prices: list[tuple[int, int]]) -> None:
    items = [{"name": "x", "price": price / 100, "quantity": count} for price, count in prices]
    wanted = Orders.model_validate({"customerId": "c", "orders": [{"id": "o", "items": items}]})

    invoice: dict[str, Any] = invoice_for(wanted, TASK, MADE)

    total, tax, grand = (exact(invoice[key]) * 100 for key in ("totalAmount", "taxAmount", "grandTotal"))
    assert total == sum(price * count for price, count in prices)
    assert total + tax == grand
    assert tax == tax.to_integral_value()


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
        ({"orders": [order(), order()]}, "order o1 stands twice"),
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

    with pytest.raises(Reject, match=r"100,002 items; at most 100,000"):
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

    assert invoice["items"] == [{"id": "7", "name": "Order 7", "price": 99.5, "quantity": 1}]


async def test_keys_of_the_chain_that_are_not_ours_are_ignored() -> None:
    assert (await create(order(shelf=3), workflowId="w"))["grandTotal"] == 275


async def test_undoing_an_invoice_leaves_a_credit_note(tmp_path: Path) -> None:
    app = invoicer(tmp_path)
    payload: dict[str, Any] = {"customerId": "c", "orders": [order()]}
    result = await run(app, "create_invoice", payload)
    recorded = Recorded(task_id=TASK, type="create_invoice", payload=payload, result=result, finished_at=MADE)
    handler = app.get("create_invoice")
    assert handler is not None
    assert handler.compensate is not None

    undo = MemoryContext(payload={"reason": "returned"})
    detail: Any = await handler.compensate(undo, recorded)
    again = await handler.compensate(undo, recorded)

    number = result["invoice"]["invoiceNumber"]
    [note] = files(tmp_path)
    assert detail == again == {"voided": number, "creditNote": str(note)}
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


def test_amounts_are_written_for_their_reader() -> None:
    assert spoken(Decimal(275), "USD") == "$275"
    assert spoken(Decimal("1234.5"), "USD") == "$1234.50"
    assert written(Decimal("1234.5"), "EUR") == "€1,234.50"
    assert written(Decimal(3), "CHF") == "CHF 3.00"
