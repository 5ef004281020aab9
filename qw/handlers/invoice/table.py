"""Orders from CSV: one line per item; the lines of an order have the same ``order_id`` and need not be adjacent.

| column          |          |                                                       |
|-----------------|----------|-------------------------------------------------------|
| `order_id`      | required |                                                       |
| `customer_id`   | required |                                                       |
| `customer_name` |          |                                                       |
| `delivery_date` | required | ISO 8601 date or time; empty: not delivered yet       |
| `order_date`    |          | as `delivery_date`                                    |
| `reference`     |          | the customer's own number for the order               |
| `status`        | required | only `delivered` orders are invoiced                  |
| `invoiced`      |          | `true`, `false`, `yes`, `no`, `1`, `0`; empty: false  |
| `currency`      |          | three capitals, such as `EUR`                         |
| `item_id`       |          |                                                       |
| `item_name`     | required |                                                       |
| `quantity`      | required |                                                       |
| `price`         | required | of one unit, without tax, with a decimal point        |
| `tax_rate`      |          | in percent; empty: the seller's default               |

Other columns are ignored. The first line names the columns, in any order.
"""

from __future__ import annotations

import csv
import io
from typing import Any

from pydantic import ValidationError

from qw.core.errors import Fault, Invalid, guess
from qw.handlers.invoice.documents import Item, Order

REQUIRED = ("order_id", "customer_id", "delivery_date", "status", "item_name", "quantity", "price")
OF_ORDER = {
    "order_id": "id",
    "customer_id": "customer_id",
    "customer_name": "customer_name",
    "delivery_date": "delivery_date",
    "order_date": "order_date",
    "reference": "reference",
    "status": "status",
    "invoiced": "invoiced",
    "currency": "currency",
}
OF_ITEM = {"item_id": "id", "item_name": "name", "quantity": "quantity", "price": "price", "tax_rate": "tax_rate"}


def parse_table(text: str, source: str) -> list[Order]:
    """Return the orders of the CSV *text*, by their first lines. Raise Invalid with line and column."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    orders: dict[str, Order] = {}
    faults: list[Fault] = []
    try:
        _check_columns(list(reader.fieldnames or ()), source)
        for row in reader:
            faults += _add(row, orders, f"{source}: line {reader.line_num}")
            if len(faults) >= 10:
                break
    except csv.Error as error:
        raise Invalid(Fault(path=f"{source}: line {reader.line_num + 1}", message=f"not CSV: {error}")) from None
    if faults:
        raise Invalid(*faults[:10])
    return list(orders.values())


def _check_columns(columns: list[str], source: str) -> None:
    missing = [
        Fault(path=f"{source}: line 1", message=f"the column {name!r} is missing{guess(name, columns)}")
        for name in REQUIRED
        if name not in columns
    ]
    if missing:
        raise Invalid(*missing)


def _add(row: dict[str, Any], orders: dict[str, Order], line: str) -> list[Fault]:
    """Add the item of *row* to its order, or return the faults and add nothing."""
    if empty := [name for name in REQUIRED if name != "delivery_date" and not (row[name] or "").strip()]:
        return [Fault(path=f"{line}, column {name}", message="is empty") for name in empty]
    try:
        item = Item.model_validate(_fields(row, OF_ITEM))
    except ValidationError as error:
        return _faults(error, OF_ITEM, line)
    try:
        order = Order.model_validate({**_fields(row, OF_ORDER), "items": [item]})
    except ValidationError as error:
        return _faults(error, OF_ORDER, line)
    known = orders.setdefault(order.id, order)
    if known is order:
        return []
    if differing := [column for column, name in OF_ORDER.items() if getattr(known, name) != getattr(order, name)]:
        message = f"differs from an earlier line of the order {order.id!r}"
        return [Fault(path=f"{line}, column {column}", message=message) for column in differing]
    known.items.append(item)
    return []


def _fields(row: dict[str, Any], names: dict[str, str]) -> dict[str, str]:
    return {name: row[column].strip() for column, name in names.items() if (row.get(column) or "").strip()}


def _faults(error: ValidationError, names: dict[str, str], line: str) -> list[Fault]:
    columns = {name: column for column, name in names.items()}
    return [
        Fault(path=f"{line}, column {_column(fault['loc'], columns)}", message=fault["msg"])
        for fault in error.errors(include_url=False)
    ]


def _column(place: tuple[int | str, ...], columns: dict[str, str]) -> str:
    """Return the column of a field, which pydantic names as in Python or as in JSON."""
    from pydantic.alias_generators import to_snake

    return columns.get(to_snake(str(place[0])), str(place[0])) if place else "?"
