"""`process_order`: checks orders and totals them in Decimal."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from qw.core.task.handler_api import Reject
from qw.core.task.payload import Json, JsonObject
from qw.handlers.data.payload import DataPayload

MAX_ITEMS = 100_000

_CENT = Decimal("0.01")
_LARGEST = Decimal(10) ** 12


def process_order(payload: DataPayload) -> JsonObject:
    """Count and total ``order``, ``orders``, or the orders in the previous step's ``response``; there may be none.

    Raise Reject, listing the faults of the orders.
    """
    faults: list[str] = []
    items, total = 0, Decimal(0)
    orders = dict(_orders(payload))
    for path, order in orders.items():
        amount = Decimal(0)
        for place, item in _items(path, order, faults):
            amount += _line(place, item, faults)
            items += 1
        total += _agreed(path, order, amount, faults)
    if items > MAX_ITEMS:
        faults.append(f"{items:,} items; at most {MAX_ITEMS:,} are taken")
    if faults:
        raise Reject("; ".join(faults[:10]))
    return {"orders": len(orders), "items": items, "totalAmount": float(total.quantize(_CENT))}


def _orders(payload: DataPayload) -> Iterator[tuple[str, Json]]:
    """Yield the orders with their paths. A response is used only if it looks like an order or contains orders."""
    response = payload.response if isinstance(payload.response, dict) else {}
    if payload.order is not None:
        yield "order", payload.order
    elif isinstance(payload.orders, list):
        yield from ((f"orders[{n}]", order) for n, order in enumerate(payload.orders))
    elif "items" in response:
        yield "response", response
    elif response.get("order") is not None:
        yield "response.order", response["order"]
    elif isinstance(listed := response.get("orders"), list):
        yield from ((f"response.orders[{n}]", order) for n, order in enumerate(listed))


def _items(path: str, order: Json, faults: list[str]) -> Iterator[tuple[str, Json]]:
    items = order.get("items") if isinstance(order, dict) else None
    if isinstance(items, list) and items:
        yield from ((f"{path}.items[{n}]", item) for n, item in enumerate(items))
    else:
        faults.append(f"{path}.items: must be a list of at least one item")


def _line(place: str, item: Json, faults: list[str]) -> Decimal:
    """Return price times quantity."""
    fields = item if isinstance(item, dict) else {}
    price, quantity = _number(fields.get("price")), _number(fields.get("quantity"))
    if price is None or price < 0:
        faults.append(f"{place}.price: must be a number, 0 or more")
    if quantity is None or quantity <= 0 or quantity != quantity.to_integral_value():
        faults.append(f"{place}.quantity: must be an integer, 1 or more")
    return (price or Decimal(0)) * (quantity or Decimal(0))


def _agreed(path: str, order: Json, amount: Decimal, faults: list[str]) -> Decimal:
    """Return *amount*; it is a fault if the order states a different total."""
    said = order.get("totalAmount") if isinstance(order, dict) else None
    number = _number(said)
    if said is not None and (number is None or abs(number - amount) >= _CENT):
        faults.append(f"{path}.totalAmount: is {said!r}, but the items come to {amount}")
    return amount


def _number(value: Json) -> Decimal | None:
    """Convert *value*, a number or its text, by way of text, so that 0.1 stays 0.1."""
    if value is None or isinstance(value, (bool, dict, list)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < _LARGEST else None
