from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qw.core.errors import Misconfigured
from qw.handlers.invoice.orders import parse_orders
from qw.handlers.invoice.parties import DEMO, read_seller

FILE = """
name = "Nordlicht Möbel GmbH"
vat_id = "DE123456788"
series = "nordlicht"
timezone = "Europe/Berlin"
tax_rate = 19
payment_days = 14

[address]
street = "Hafenstraße 7"
postal_code = "20457"
city = "Hamburg"
country = "DE"

[bank]
iban = "DE02 1203 0000 0000 2020 51"
bic = "BYLADEM1001"
"""


def written(directory: Path, text: str) -> Path:
    file = directory / "seller.toml"
    file.write_text(text, "utf-8")
    return file


def test_the_seller_is_read_from_a_file(tmp_path: Path) -> None:
    seller = read_seller(written(tmp_path, FILE))

    assert seller.name == "Nordlicht Möbel GmbH"
    assert seller.bank is not None
    assert seller.bank.iban == "DE02120300000000202051"
    assert not seller.is_demo
    assert "timezone" not in seller.to_json()


def test_without_a_file_the_seller_is_marked_as_a_demo() -> None:
    assert read_seller(None) is DEMO
    assert DEMO.is_demo


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("2020 51", "2020 52", r"seller\.toml: bank\.iban: is mistyped"),
        ("DE02 1203 0000 0000 2020 51", "12345", r"bank\.iban: is not an IBAN"),
        ("BYLADEM1001", "byl", r"bank\.bic"),
        ("tax_rate = 19", "tax_rates = 19", r"tax_rates: unknown key; did you mean 'tax_rate'"),
        ('series = "nordlicht"', "", r"series: is missing"),
        ("Europe/Berlin", "Berlin", r"timezone: 'Berlin' is not a time zone"),
        ('country = "DE"', 'country = "Germany"', r"address\.country"),
        ("tax_rate = 19", "tax_rate = 119", r"tax_rate"),
        ("tax_rate = 19", "is_demo = true\nname", r"not TOML"),
    ],
)
def test_a_fault_in_the_file_is_named_at_the_start(tmp_path: Path, found: str, put: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        read_seller(written(tmp_path, FILE.replace(found, put)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"QW_SELLER: cannot read .*none\.toml"):
        read_seller(tmp_path / "none.toml")


def test_the_seller_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "invoices.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)

    for text in (example, re.sub(r"^# (\w+ = )", r"\1", example, flags=re.MULTILINE)):
        assert read_seller(written(tmp_path, text)).number_prefix == "RE-"


def test_the_order_in_the_documentation_is_understood() -> None:
    page = (Path(__file__).parents[2] / "docs" / "invoices.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)

    (order,) = parse_orders([json.loads(example)], "docs")

    assert order.customer is not None
    assert order.to_json().items() >= json.loads(example).items()
