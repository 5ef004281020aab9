from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.task.handler_api import Reject, Retry
from qw.handlers import Handlers
from qw.handlers.invoice.orders import SAMPLES, OrdersOptions, add_fetch_orders, parse_orders, read_orders
from tests.handlers.context import MemoryContext, run
from tests.handlers.local import service

CSV = """order_id,customer_id,customer_name,delivery_date,status,item_name,quantity,price
1,ada,Ada L.,2026-03-01,delivered,Pen,2,1.10
1,ada,Ada L.,2026-03-01,delivered,Ink,1,0.30
2,ada,Ada L.,,shipped,Desk,1,300
3,bob,Bob,2026-03-02,delivered,Pen,1,1.10
"""


def fetcher(orders: str | Path | None = None) -> Handlers:
    app = Handlers()
    add_fetch_orders(app, OrdersOptions(orders=orders))
    return app


async def fetch(orders: str | Path | None = None, **payload: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await run(fetcher(orders), "fetch_orders", payload))["orders"]
    return found


def ids(orders: list[dict[str, Any]]) -> list[str]:
    return [order["id"] for order in orders]


async def test_nothing_is_invented_for_a_customer_that_the_samples_do_not_know() -> None:
    context = MemoryContext()

    result = await run(fetcher(), "fetch_orders", {"customerId": "customer-123"}, context)

    assert result["orders"] == []
    assert result["note"].startswith("customer 'customer-123' has no orders in the samples, which know acme, eleni, ")
    assert "QW_ORDERS_URL" in result["note"]
    assert ("WARNING", result["note"]) in context.logs
    assert "note" not in await run(fetcher(), "fetch_orders", {"customerId": "zoe", "dateTo": "2020-02-29"})


async def test_only_delivered_orders_not_yet_invoiced_are_fetched() -> None:
    assert ids(await fetch(customerId="zoe")) == ["S-1001", "S-1003"]
    assert await fetch(customerId="nordwind") == []


async def test_a_day_as_end_of_the_range_is_meant_whole() -> None:
    assert ids(await fetch(customerId="zoe", dateFrom="2026-09-15", dateTo="2026-10-02")) == ["S-1003"]
    assert ids(await fetch(customerId="zoe", dateTo="2026-10-01")) == ["S-1001"]


async def test_sums_are_exact_and_names_keep_their_letters() -> None:
    acme = await fetch(customerId="acme")
    zoe = await fetch(customerId="zoe")

    assert [order["totalAmount"] for order in acme] == [435.75, 310.1]
    assert zoe[0]["customerName"] == "Zoë Müller-Łukasiewicz"
    assert zoe[0]["totalAmount"] == 219.6  # 189.90 + 6 × 4.95


async def test_a_numeric_customer_is_text(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(CSV.replace("ada", "42"))

    assert (await fetch(file, customerId=42))[0]["customerId"] == "42"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"customerId": ""},
        {"customerId": "c", "dateFrom": "yesterday"},
        {"customerId": "c", "dateFrom": 20240101},
        {"customerId": "c", "dateFrom": "2026-02-02", "dateTo": "2026-02-01"},
    ],
)
async def test_a_payload_that_cannot_be_meant_is_rejected(payload: dict[str, Any]) -> None:
    with pytest.raises(Reject, match=r"customerId|dateFrom"):
        await fetch(**payload)


async def test_a_csv_file_gives_its_customers_orders(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("\ufeff" + CSV)

    orders = await fetch(file, customerId="ada")

    assert orders == [
        {
            "id": "1",
            "customerId": "ada",
            "customerName": "Ada L.",
            "status": "delivered",
            "invoiced": False,
            "items": [
                {"id": None, "name": "Pen", "price": 1.1, "quantity": 2},
                {"id": None, "name": "Ink", "price": 0.3, "quantity": 1},
            ],
            "totalAmount": 2.5,
            "deliveryDate": "2026-03-01",
        }
    ]
    assert await fetch(file, customerId="unknown here") == []


async def test_a_csv_file_may_say_what_an_invoice_shows(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "order_id,customer_id,delivery_date,status,item_name,quantity,price,tax_rate,order_date,reference\n"
        "1,ada,2026-03-01,delivered,Pen,2,1.10,7,2026-02-20,PO-7\n"
        "1,ada,2026-03-01,delivered,Ink,1,0.30,,2026-02-20,PO-7\n"
    )

    [order] = await fetch(file, customerId="ada")

    assert (order["orderDate"], order["reference"]) == ("2026-02-20", "PO-7")
    assert [item.get("taxRate") for item in order["items"]] == [7, None]


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("Desk,1,300", "Desk,1,cheap", r"orders.csv: line 4, column price: .*'cheap' is not a number"),
        ("Desk,1,300", "Desk,1,-3", "line 4, column price: .*greater than or equal to 0"),
        ("Desk,1,300", "Desk,,300", "line 4, column quantity: is empty"),
        ("Desk,1,300", "Desk", "line 4, column quantity: is empty; .*line 4, column price: is empty"),
        ("2,ada,Ada L.,,", "2,ada,Ada L.,soon,", "line 4, column delivery_date: .*'soon' is not an ISO 8601 date"),
        (
            "1,ada,Ada L.,2026-03-01,delivered,Ink",
            "1,bob,Ada L.,2026-03-01,delivered,Ink",
            "line 3, column customer_id",
        ),
        ("item_name,quantity", "item,quantity", "line 1: the column 'item_name' is missing"),
        ("Desk,1,300", '"Desk,1,300', "line 4: not CSV"),
    ],
)
async def test_a_fault_in_a_csv_file_is_named_with_line_and_column(
    tmp_path: Path, found: str, put: str, message: str
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(CSV.replace(found, put))

    with pytest.raises(Reject, match=message):
        await fetch(file, customerId="ada")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"orders": [{"id": 1}, {"items": [{"name": "x"}]}]}', r"orders\[1\]\.id: .*orders\[1\]\.items\.0\.price: "),
        ("[{", "not JSON: .*line 1 column 3"),
        ('{"order": []}', "must be a list of orders"),
        ('[{"id": "a", "items": [{"name": "x", "price": true}]}]', r"items\.0\.price"),
    ],
)
def test_a_fault_in_a_json_file_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "orders.json"
    file.write_text(text)

    with pytest.raises(Invalid, match=message):
        read_orders(file)


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Reject, match=r"none\.csv: cannot be read"):
        await fetch(tmp_path / "none.csv", customerId="ada")


def test_all_samples_can_be_read() -> None:
    assert len(parse_orders(json.loads(SAMPLES.read_text()), "samples")) >= 10


async def test_a_service_is_asked_and_its_answer_filtered() -> None:
    item = {"id": "i", "name": "Pen", "price": 0.1, "quantity": 3}
    due = {"id": "o1", "customerId": "ada", "status": "delivered", "items": [item], "deliveryDate": "2026-03-01"}
    others = [{**due, "id": "o2", "invoiced": True}, {**due, "id": "o3", "customerId": "bob"}]

    async with service({"orders": [due, *others]}) as remote:
        orders = await fetch(f"{remote.url}/orders?key=k", customerId="ada", dateFrom="2026-01-01")

    assert ids(orders) == ["o1"]
    assert orders[0]["totalAmount"] == 0.3
    assert remote.received[0].query == {"key": "k", "customerId": "ada", "dateFrom": "2026-01-01"}


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (500, "out of order", "status code 500"),
        (200, b"<html>", "the answer is not JSON"),
        (200, {"no": "orders"}, "must be a list of orders"),
        (302, None, "status code 302"),
    ],
)
async def test_a_service_that_fails_is_asked_again_later(status: int, answer: Any, message: str) -> None:
    async with service(answer, status=status) as remote:
        with pytest.raises(Retry, match=f"Fetching orders failed: .*{message}"):
            await fetch(remote.url, customerId="ada")


async def test_a_result_too_big_to_store_is_rejected_with_advice() -> None:
    order = {"items": [{"name": "x" * 400, "price": 1}] * 700, "deliveryDate": "2026-03-01", "id": 1}

    async with service([order]) as remote:
        with pytest.raises(Reject, match="narrow dateFrom and dateTo"):
            await fetch(remote.url, customerId="ada")
