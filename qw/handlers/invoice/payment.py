"""The payment code for European banking apps (EPC069-12, “GiroCode”): a prefilled SEPA credit transfer."""

from __future__ import annotations

from decimal import Decimal

from qw.handlers.invoice.parties import Seller

LARGEST = Decimal("999999999.99")


def payment_code(seller: Seller, amount: Decimal, currency: str, purpose: str) -> str | None:
    """Return the content of the code; None without bank account, for other currencies and amounts out of range."""
    if seller.bank is None or currency != "EUR" or not 0 < amount <= LARGEST:
        return None
    lines = (
        "BCD",
        "002",  # version 2, in which the BIC is optional
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
    """Return the IBAN as ``DE02 1203 0000 0000 2020 51``."""
    return " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
