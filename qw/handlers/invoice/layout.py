"""An invoice as a PDF: A4, DejaVu Sans, as many pages as it takes. The same invoice gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from qw.handlers.invoice.documents import Invoice, Item
from qw.handlers.invoice.locales import format_of
from qw.handlers.invoice.money import rounded

FONTS = Path(__file__).parent.parent / "fonts"
BODY, BOLD = "DejaVuSans", "DejaVuSans-Bold"
ROWS_PER_TABLE = 500  # one table over n pages is copied n times: 10,000 items took 16 s, so 10 s
WIDTHS = [85 * mm, 20 * mm, 32.5 * mm, 32.5 * mm]

_PLAIN = ParagraphStyle("plain", fontName=BODY, fontSize=9, leading=12)
_RIGHT = ParagraphStyle("right", parent=_PLAIN, alignment=2)
_STRONG = ParagraphStyle("strong", parent=_PLAIN, fontName=BOLD)
_STRONG_RIGHT = ParagraphStyle("strong-right", parent=_RIGHT, fontName=BOLD)
_TITLE = ParagraphStyle("title", fontName=BOLD, fontSize=16, leading=22)

_rendering = Lock()  # reportlab keeps fonts and their subsets in module globals


@dataclass(frozen=True, kw_only=True)
class Document:
    """``missing`` are the characters that the font cannot show."""

    content: bytes
    pages: int
    missing: str


def render(invoice: Invoice) -> Document:
    """CPU work, about a second per 1,000 items: not for the event loop."""
    with _rendering:
        _load_fonts()
        buffer = io.BytesIO()
        template = SimpleDocTemplate(
            buffer,
            pagesize=A4,
            leftMargin=20 * mm,
            rightMargin=20 * mm,
            topMargin=20 * mm,
            bottomMargin=20 * mm,
            title=f"Invoice {invoice.number}",
            invariant=1,
        )
        template.build([*_head(invoice), *_tables(invoice), *_totals(invoice)], onFirstPage=_foot, onLaterPages=_foot)
        return Document(content=buffer.getvalue(), pages=template.page, missing=_missing(invoice))


@cache
def _load_fonts() -> None:
    for name in (BODY, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(FONTS / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(BODY, normal=BODY, bold=BOLD, italic=BODY, boldItalic=BOLD)


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    """*text* as it stands: reportlab would read markup in it, and stumble over control characters."""
    return Paragraph(escape("".join(char if char.isprintable() else " " for char in text)), style)


def _head(invoice: Invoice) -> Iterator[Any]:
    yield _text(f"Invoice {invoice.number}", _TITLE)
    yield Spacer(0, 4 * mm)
    customer = " · ".join(filter(None, (invoice.customer_name, invoice.customer_id)))
    for label, value in (("Bill to", customer), ("Date", invoice.created_at), ("Due", invoice.due_date)):
        if value:
            yield _text(f"{label}: {value if label == 'Bill to' else value[:10]}", _PLAIN)
    yield Spacer(0, 6 * mm)


def _tables(invoice: Invoice) -> Iterator[Any]:
    heading = [
        _text("Item", _STRONG),
        _text("Quantity", _STRONG_RIGHT),
        _text("Price", _STRONG_RIGHT),
        _text("Amount", _STRONG_RIGHT),
    ]
    style = TableStyle(
        [
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
            ("LINEBELOW", (0, 1), (-1, -1), 0.2, colors.lightgrey),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
    )
    for start in range(0, len(invoice.items), ROWS_PER_TABLE):
        rows = [_row(item, invoice.currency) for item in invoice.items[start : start + ROWS_PER_TABLE]]
        yield Table([heading, *rows], colWidths=WIDTHS, style=style, repeatRows=1)
    yield Spacer(0, 4 * mm)


def _row(item: Item, currency: str) -> list[Any]:
    price = item.price.normalize()
    form = format_of("en-US")
    finer = price != rounded(price, currency)  # a unit price below a cent is shown whole
    return [
        _text(item.name, _PLAIN),
        _text(f"{item.quantity.normalize():f}", _RIGHT),
        _text(f"{price:f} {currency}" if finer else form.money(price, currency), _RIGHT),
        _text(form.money(item.amount(currency), currency), _RIGHT),
    ]


def _totals(invoice: Invoice) -> Iterator[Any]:
    total = invoice.total_amount
    if total is None and invoice.items:
        total = sum((item.amount(invoice.currency) for item in invoice.items), Decimal(0))
    lines = [("Subtotal", total), ("Tax", invoice.tax_amount), ("Total", invoice.grand_total)]
    rows = [
        ["", "", _text(label, _STRONG), _text(format_of("en-US").money(amount, invoice.currency), _STRONG_RIGHT)]
        for label, amount in lines
        if amount is not None
    ]
    if rows:
        yield Table(rows, colWidths=WIDTHS)


def _foot(canvas: Any, template: Any) -> None:
    canvas.setFont(BODY, 8)
    canvas.drawRightString(A4[0] - 20 * mm, 12 * mm, f"Page {template.page}")


def _missing(invoice: Invoice) -> str:
    texts = [invoice.number, invoice.customer_name or "", invoice.customer_id or "", *(i.name for i in invoice.items)]
    glyphs = pdfmetrics.getFont(BODY).face.charToGlyph
    return "".join(sorted({char for text in texts for char in text if char.isprintable() and ord(char) not in glyphs}))
