"""The code for banking apps on European invoices (EPC069-12, “GiroCode”): a SEPA credit transfer, filled in."""

from __future__ import annotations

from decimal import Decimal

from qw.handlers.invoice.parties import Seller

LARGEST = Decimal("999999999.99")


def payment_code(seller: Seller, amount: Decimal, currency: str, purpose: str) -> str | None:
    """What the code holds; None where there is none: without an account, in other currencies, for nothing."""
    if seller.bank is None or currency != "EUR" or not 0 < amount <= LARGEST:
        return None
    lines = (
        "BCD",
        "002",  # version: the BIC may be left out
        "1",  # UTF-8
        "SCT",
        seller.bank.bic or "",
        (seller.bank.holder or seller.name)[:70],
        seller.bank.iban,
        f"EUR{amount:.2f}",
        "",  # purpose code
        "",  # structured reference
        purpose[:140],
    )
    return "\n".join(lines)


def grouped(iban: str) -> str:
    """``DE02 1203 0000 0000 2020 51``"""
    return " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
