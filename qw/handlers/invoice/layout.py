"""Renders an invoice as a PDF of A4 pages. The same invoice always gives the same bytes.

All blocks are measured and assigned to pages before drawing, so that each page shows the page count. Every page but
the last ends with a subtotal, the next page repeats it, and the totals share a page with at least one item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Lock

from reportlab.pdfbase.ttfonts import TTFError

from qw.core.task.handler_api import Reject
from qw.handlers.invoice.countries import country_name
from qw.handlers.invoice.documents import Invoice, Item, OrderFacts
from qw.handlers.invoice.e_invoice import FILE_NAME, e_invoice
from qw.handlers.invoice.locales import LocaleFormat, format_of
from qw.handlers.invoice.money import rounded
from qw.handlers.invoice.paper import (
    BLACK,
    GREY,
    HEIGHT,
    RED,
    WIDTH,
    Paper,
    load_fonts,
    not_shown,
    text_width,
    wrapped,
)
from qw.handlers.invoice.parties import Address, Seller
from qw.handlers.invoice.payment import grouped, payment_code
from qw.handlers.invoice.words import Words, words_of

LEFT, RIGHT = 25.0, WIDTH - 20
FIRST_TOP, TOP, BOTTOM = 112.0, 34.0, HEIGHT - 38  # top of the table on the first and later pages; its bottom
LINE = 4.4
ROOM = BOTTOM - TOP - LINE * 1.5  # height available below the subtotal
# Left edges of text columns, right edges of number columns.
NAME, QUANTITY, PRICE, TAX, AMOUNT = LEFT + 11, 112.0, 142.0, 158.0, RIGHT
NAME_WIDTH = 97.0 - NAME

_rendering = Lock()  # reportlab keeps fonts and their subsets in module globals


@dataclass(frozen=True, kw_only=True)
class Document:
    """``missing``: the characters that the font cannot draw."""

    content: bytes
    pages: int
    missing: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """A unit that is not split across pages. ``draw`` takes its upper edge; ``amount`` adds to the subtotal."""

    height: float
    draw: Callable[[Paper, float], None]
    amount: Decimal = Decimal(0)


def render(invoice: Invoice, seller: Seller, *, with_xml: bool = False, font: Path | None = None) -> Document:
    """Render the PDF: CPU work, about a second per 2,000 items, so not for the event loop.

    *seller*: used if the invoice names none. *with_xml*: produce a PDF/A-3 with the invoice as XML in it. Raise Reject
    if the invoice lacks data that this requires, or if *font* is unusable.
    """
    xml = e_invoice(invoice, invoice.seller or seller) if with_xml else None
    with _rendering:
        _load(font)
        sheet = _Sheet(invoice, invoice.seller or seller)
        pages = list(_dealt(sheet.blocks()))
        paper = Paper(language=sheet.format.language)
        made = datetime.combine(invoice.issued or date(2000, 1, 1), datetime.min.time(), UTC)
        paper.describe(title=sheet.title, author=sheet.seller.name, subject=sheet.subject, made=made)
        if xml is not None:
            paper.embed(FILE_NAME, xml)
        for number, blocks in enumerate(pages, 1):
            sheet.draw_page(paper, number, len(pages), blocks)
        return Document(content=paper.finish(), pages=len(pages), missing=not_shown(_texts(invoice, sheet.seller)))


def _load(font: Path | None) -> None:
    try:
        load_fonts(font)
    except (OSError, TTFError) as error:
        reason = str(error).rpartition('": ')[2]
        hint = "; Noto CJK has them, WenQuanYi Micro Hei does not" if "postscript" in reason else ""
        raise Reject(f"QW_INVOICE_FONT: {font} is not a TrueType font that can be used: {reason}{hint}") from None


def _dealt(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    page: list[Block] = []
    room = BOTTOM - FIRST_TOP
    for block in blocks:
        if page and block.height > room:
            yield page
            page, room = [], ROOM
        page.append(block)
        room -= block.height
    yield page


class _Sheet:
    """One invoice, with the words and formats of its recipient's locale."""

    def __init__(self, invoice: Invoice, seller: Seller) -> None:
        self.invoice = invoice
        self.seller = seller
        self.format: LocaleFormat = format_of(invoice.locale or seller.locale)
        self.words: Words = words_of(self.format.language)
        self.title = f"{self.words.invoice} {invoice.number}"
        customer = invoice.customer
        self.recipient = (customer and customer.name) or invoice.customer_name or invoice.customer_id or ""
        self.subject = f"{seller.name} – {self.recipient}".removesuffix(" – ")
        self._sum = Decimal(0)

    # -- the blocks

    def blocks(self) -> Iterator[Block]:
        """Yield the items, with the order's heading before its first item, and the totals with the last item."""
        items = list(self._items())
        end = list(self._end())
        if not items:
            yield _joined(end)
            return
        yield from items[:-1]
        last = _joined([items[-1], *end])
        yield from [last] if last.height <= ROOM else [items[-1], *end]

    def _items(self) -> Iterator[Block]:
        orders = {order.id: order for order in self.invoice.order_details}
        before: str | None = None
        for number, item in enumerate(self.invoice.items, 1):
            block = self._item(number, item)
            if item.order_id is not None and item.order_id != before:
                block = _joined([self._order(orders.get(item.order_id) or OrderFacts(id=item.order_id)), block])
            before = item.order_id
            yield block

    def _order(self, order: OrderFacts) -> Block:
        words, text = self.words, self.words.order.format(id=order.id)
        if order.order_date:
            text += " " + words.ordered.format(date=self.format.day(order.order_date))
        if order.delivery_date:
            text += ", " + words.delivered.format(date=self.format.day(order.delivery_date))
        if order.reference:
            text += ", " + words.reference.format(reference=order.reference)
        lines = wrapped(text, RIGHT - LEFT, size=8, bold=True)

        def draw(paper: Paper, y: float) -> None:
            for place, line in enumerate(lines):
                paper.text(LEFT, y + 5.2 + place * 4, line, size=8, bold=True, color=GREY)

        return Block(height=2.6 + 4 * len(lines), draw=draw)

    def _item(self, number: int, item: Item) -> Block:
        currency, form = self.invoice.currency, self.format
        amount, price = item.amount(currency), item.price.normalize()
        # unit prices with fractions of a cent are not rounded
        shown = form.amount(price, currency) if price == rounded(price, currency) else form.number(price)
        lines = wrapped(item.name, NAME_WIDTH)

        def draw(paper: Paper, y: float) -> None:
            y += LINE
            paper.text(LEFT, y, str(number), color=GREY, width=NAME - LEFT - 2)
            for place, line in enumerate(lines):
                paper.text(NAME, y + place * LINE, line)
            paper.text(QUANTITY, y, form.number(item.quantity), right=True, width=14)
            paper.text(PRICE, y, shown, right=True, width=28)
            if item.tax_rate is not None:
                paper.text(TAX, y, form.percent(item.tax_rate), right=True, width=15)
            paper.text(AMOUNT, y, form.amount(amount, currency), right=True, width=AMOUNT - TAX - 2)
            paper.line(LEFT, RIGHT, y + (len(lines) - 1) * LINE + 1.6, thick=0.25)

        return Block(height=len(lines) * LINE + 1.6, draw=draw, amount=amount)

    def _end(self) -> Iterator[Block]:
        yield self._totals()
        for text in filter(None, (self._exemption(), self.seller.note)):
            yield self._paragraph(text)
        if self.invoice.grand_total is not None and self.seller.bank:
            yield self._payment(self.invoice.grand_total)

    def _totals(self) -> Block:
        invoice, words, form = self.invoice, self.words, self.format
        total = invoice.total_amount
        if total is None and invoice.items:
            total = sum((item.amount(invoice.currency) for item in invoice.items), Decimal(0))
        rows = [(words.subtotal, total)]
        if invoice.taxes:
            rows += [
                (words.tax_of.format(rate=form.percent(tax.rate), base=form.money(tax.base, invoice.currency)), tax.tax)
                for tax in invoice.taxes
            ]
        else:
            rows.append((words.tax, invoice.tax_amount))
        lines = [(label, form.money(amount, invoice.currency)) for label, amount in rows if amount is not None]

        def draw(paper: Paper, y: float) -> None:
            y += 4
            for label, amount in lines:
                y += 5
                paper.text(AMOUNT - 40, y, label, right=True, color=GREY, width=AMOUNT - 40 - LEFT)
                paper.text(AMOUNT, y, amount, right=True, width=33)
            if invoice.grand_total is not None:
                amount = form.money(invoice.grand_total, invoice.currency)
                paper.line(110, RIGHT, y + 2.4, thick=0.8, color=BLACK)
                paper.text(AMOUNT - 40, y + 8, words.total, right=True, bold=True, size=10.5, width=60)
                paper.text(AMOUNT, y + 8, amount, right=True, bold=True, size=10.5, width=39)

        return Block(height=4 + 5 * len(lines) + (9 if invoice.grand_total is not None else 0), draw=draw)

    def _exemption(self) -> str | None:
        return self.seller.exemption if any(tax.category == "E" for tax in self.invoice.taxes) else None

    def _paragraph(self, text: str) -> Block:
        lines = [line for part in text.splitlines() for line in wrapped(part, RIGHT - LEFT)]

        def draw(paper: Paper, y: float) -> None:
            for place, line in enumerate(lines, 1):
                paper.text(LEFT, y + 3 + place * LINE, line)

        return Block(height=4 + len(lines) * LINE, draw=draw)

    def _payment(self, due: Decimal) -> Block:
        bank, words, invoice = self.seller.bank, self.words, self.invoice
        assert bank is not None
        if not due:
            return self._paragraph(words.paid)
        amount = self.format.money(due, invoice.currency)
        by = invoice.due
        request = (
            words.pay_by.format(amount=amount, date=self.format.day(by)) if by else words.pay.format(amount=amount)
        )
        rows = [(words.holder, bank.holder or self.seller.name), ("IBAN", grouped(bank.iban))]
        rows += [(label, text) for label, text in (("BIC", bank.bic), (words.bank, bank.name)) if text]
        rows.append((words.purpose, invoice.number))
        code = payment_code(self.seller, due, invoice.currency, invoice.number)
        lines = wrapped(request, RIGHT - LEFT - (40 if code else 0))

        def draw(paper: Paper, y: float) -> None:
            y += 9
            if code:
                paper.code(RIGHT - 31, y - 5, 33, code)
                paper.text(RIGHT - 14.5 - text_width(words.scan, 7) / 2, y + 29.5, words.scan, size=7, color=GREY)
            for line in lines:
                paper.text(LEFT, y, line)
                y += LINE
            for label, text in rows:
                y += LINE + 0.4
                paper.text(LEFT, y, label, color=GREY, size=8, width=34)
                paper.text(LEFT + 36, y, text, width=RIGHT - LEFT - 36 - (36 if code else 0))

        return Block(height=max(10 + LINE * len(lines) + 4.8 * len(rows), 40 if code else 0), draw=draw)

    # -- the pages

    def draw_page(self, paper: Paper, number: int, pages: int, blocks: list[Block]) -> None:
        if self.seller.is_demo:
            paper.text(LEFT, 9, self.words.demo, size=8, bold=True, color=RED)
        if number == 1:
            self._first_head(paper)
        else:
            paper.text(LEFT, 20, self.title, size=8, color=GREY, width=90)
            paper.text(RIGHT, 20, self.seller.name, size=8, color=GREY, right=True, width=70)
        self._foot(paper, number, pages)
        y = FIRST_TOP if number == 1 else TOP
        if self.invoice.items:
            self._columns(paper, y - 3)
        if number > 1:
            y = self._carried(paper, y)
        for block in blocks:
            block.draw(paper, y)
            y += block.height
            self._sum += block.amount
        if number < pages:
            self._carried(paper, y)
            paper.turn()

    def _carried(self, paper: Paper, y: float) -> float:
        y += LINE + 0.4
        paper.text(NAME, y, self.words.carried, color=GREY)
        paper.text(AMOUNT, y, self.format.amount(self._sum, self.invoice.currency), right=True, color=GREY, width=32)
        return y + 1.8

    def _first_head(self, paper: Paper) -> None:
        seller, customer = self.seller, self.invoice.customer
        home = seller.address.country
        away = customer.address.country if customer and customer.address else home
        paper.text(LEFT, 22, seller.name, size=15, bold=True, width=95)
        contact = [*_lines_of(seller.address, away), seller.phone, seller.email, seller.website]
        for place, line in enumerate(filter(None, contact)):
            paper.text(RIGHT, 20 + place * 4, line, size=8, color=GREY, right=True, width=60)
        sender = " · ".join([seller.name, *_lines_of(seller.address, home)])
        paper.text(LEFT, 49, sender, size=6.5, color=GREY, width=85)
        address = _lines_of(customer.address, home) if customer and customer.address else []
        for place, line in enumerate([*wrapped(self.recipient, 85, size=10), *address]):
            paper.text(LEFT, 56 + place * 5, line, size=10, width=85)
        self._facts(paper)
        paper.text(LEFT, 100, self.title, size=15, bold=True, width=RIGHT - LEFT)

    def _facts(self, paper: Paper) -> None:
        invoice, words, customer = self.invoice, self.words, self.invoice.customer
        facts = (
            (words.date, invoice.issued and self.format.day(invoice.issued)),
            (words.due, invoice.due and self.format.day(invoice.due)),
            (words.customer_number, invoice.customer_id),
            (words.customer_vat_id, customer and customer.vat_id),
        )
        for place, (label, text) in enumerate((label, text) for label, text in facts if text):
            paper.text(128, 56 + place * 5, label, size=8, color=GREY, width=30)
            paper.text(RIGHT, 56 + place * 5, text, right=True, width=31)

    def _columns(self, paper: Paper, y: float) -> None:
        words, currency = self.words, self.invoice.currency
        paper.text(LEFT, y, words.position, size=8, bold=True)
        paper.text(NAME, y, words.item, size=8, bold=True)
        paper.text(QUANTITY, y, words.quantity, size=8, bold=True, right=True, width=15)
        paper.text(PRICE, y, words.price, size=8, bold=True, right=True, width=28)
        paper.text(TAX, y, words.tax, size=8, bold=True, right=True, width=14)
        paper.text(AMOUNT, y, f"{words.amount} ({currency})", size=8, bold=True, right=True, width=31)
        paper.line(LEFT, RIGHT, y + 2, thick=0.8, color=BLACK)

    def _foot(self, paper: Paper, number: int, pages: int) -> None:
        seller, words, y = self.seller, self.words, HEIGHT - 24
        paper.text(RIGHT, y - 4, words.page.format(page=number, pages=pages), size=8, color=GREY, right=True)
        paper.line(LEFT, RIGHT, y - 1)
        taxes = ((words.vat_id, seller.vat_id), (words.tax_number, seller.tax_number))
        bank = seller.bank
        ids = [f"{label}: {text}" for label, text in taxes if text]
        account = [bank.name, f"IBAN {grouped(bank.iban)}", f"BIC {bank.bic}" if bank.bic else None] if bank else []
        columns: list[list[str | None]] = [
            [seller.name, *_lines_of(seller.address, seller.address.country)],
            [*ids, seller.register_entry],
            account,
        ]
        for x, width, lines in zip((LEFT, 78, 128), (50, 47, RIGHT - 128), columns, strict=True):
            for place, line in enumerate(filter(None, lines)):
                paper.text(x, y + 3.4 + place * 3.4, line, size=6.5, color=GREY, width=width)


def _joined(blocks: list[Block]) -> Block:
    """Return one block that stacks several."""

    def draw(paper: Paper, y: float) -> None:
        for block in blocks:
            block.draw(paper, y)
            y += block.height

    height = sum(block.height for block in blocks)
    return replace(blocks[0], height=height, draw=draw, amount=sum((block.amount for block in blocks), Decimal(0)))


def _lines_of(address: Address, home: str) -> list[str]:
    """Return the lines of the address on a letter; the country only if it is not *home*."""
    town = _town(address)
    country = country_name(address.country) if address.country != home else None
    return [line for line in (address.addition, address.street, town, country) if line]


def _town(address: Address) -> str:
    if address.country in ("US", "CA", "AU"):
        return " ".join(
            filter(None, (f"{address.city}," if address.city else None, address.region, address.postal_code))
        )
    if address.country in ("GB", "IE"):
        return " ".join(filter(None, (address.city, address.postal_code)))
    return " ".join(filter(None, (address.postal_code, address.city, address.region)))


def _texts(invoice: Invoice, seller: Seller) -> Iterator[str]:
    yield from (invoice.number, invoice.customer_name or "", invoice.customer_id or "", seller.name)
    yield from (item.name for item in invoice.items)
    customer = invoice.customer
    if customer:
        yield customer.name or ""
        yield from _lines_of(customer.address, "") if customer.address else ()
