from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from qw.core.task.handler_api import Recorded, Reject, Retry
from qw.core.task.payload import Json
from qw.handlers import Handlers
from qw.handlers.invoice.create import Orders, draft, numbered
from qw.handlers.invoice.documents import Invoice
from qw.handlers.invoice.layout import render
from qw.handlers.invoice.numbers import GivenNumber
from qw.handlers.invoice.paper import FONTS, load_fonts, not_shown, wrapped
from qw.handlers.invoice.parties import DEMO, Address, Bank, Seller
from qw.handlers.invoice.payment import payment_code
from qw.handlers.invoice.pdf import PdfOptions, add_generate_pdf
from tests.handlers.context import MemoryContext, files, new_id, run
from tests.handlers.local import service

SELLER = Seller(
    name="Nordlicht GmbH",
    address=Address(street="Hafenstraße 7", postal_code="20457", city="Hamburg", country="DE"),
    vat_id="DE123456788",
    bank=Bank(iban="DE02120300000000202051"),
    series="nordlicht",
)
NAMES = "Zoë Müller-Łukasiewicz Ελένη Иван"


def invoice(**extra: Any) -> dict[str, Any]:
    return {
        "invoiceNumber": "INV-7",
        "customerId": "c",
        "items": [{"name": "Pen", "price": 125, "quantity": 2}],
        "totalAmount": 250,
        "taxAmount": 25,
        "grandTotal": 275,
        **extra,
    }


def printer(directory: Path, service_url: str | None = None) -> Handlers:
    app = Handlers()
    add_generate_pdf(app, PdfOptions(directory=directory, service_url=service_url))
    return app


async def generate(directory: Path, given: dict[str, Any], context: MemoryContext | None = None) -> dict[str, Any]:
    result: dict[str, Any] = await run(printer(directory), "generate_pdf", {"invoice": given}, context)
    return result


def text(path: str) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


GONE = """
import asyncio, os, sys
from qw.handlers import Handlers
from qw.handlers.invoice.pdf import PdfOptions, add_generate_pdf
from tests.handlers.context import run
from pathlib import Path
app, amounts = Handlers(), dict.fromkeys(("totalAmount", "taxAmount", "grandTotal"), 0)
given = {"invoiceNumber": "7", "customerId": "c", "items": [], **amounts}
add_generate_pdf(app, PdfOptions(directory=Path(sys.argv[1])))
os.mkdir(sys.argv[2])
os.chdir(sys.argv[2])
os.rmdir(sys.argv[2])
print(asyncio.run(run(app, "generate_pdf", {"invoice": given}))["pages"])
"""


def test_a_pdf_is_made_though_the_directory_is_gone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        GONE,
        str(tmp_path),
        str(tmp_path / "gone"),
    ]  # a process that has not imported reportlab yet
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


async def test_a_pdf_holds_names_items_and_totals(tmp_path: Path) -> None:
    result = await generate(tmp_path, invoice(customerName=NAMES, currency="EUR"))

    path = tmp_path / "INV-7.pdf"
    assert result == {"pdfUrl": path.as_uri(), "pdfPath": str(path), "pages": 1}
    for part in (
        "Invoice INV-7",
        "Zoë Müller-Łukasiewicz Ελένη",
        "Иван",
        "Pen",
        "125.00",
        "€250.00",
        "€25.00",
        "€275.00",
    ):
        assert part in text(result["pdfPath"])


async def test_a_long_invoice_has_many_pages(tmp_path: Path) -> None:
    items = [{"name": f"Thing {n}", "price": 1.5} for n in range(600)]

    result = await generate(tmp_path, invoice(items=items))

    reader = PdfReader(result["pdfPath"])
    assert len(reader.pages) == result["pages"] > 10
    assert "Thing 0" in reader.pages[0].extract_text()
    assert "Thing 599" in reader.pages[-1].extract_text()
    assert all("Quantity" in page.extract_text() for page in reader.pages[:-1])


async def test_html_in_names_is_text(tmp_path: Path) -> None:
    name = '<b>Bobby</b> & <img src="file:///etc/passwd"/> <para>'

    result = await generate(tmp_path, invoice(customerName=name, items=[{"name": name, "price": 1}]))

    assert text(result["pdfPath"]).replace("\n", " ").count("<b>Bobby</b> &") == 2


@pytest.mark.parametrize("number", ["../../etc/passwd", "/etc/passwd", "..", "a\nb"])
async def test_a_pdf_stays_in_its_directory(tmp_path: Path, number: str) -> None:
    directory = tmp_path / "deep" / "out"

    result = await generate(directory, invoice(invoiceNumber=number))

    assert Path(result["pdfPath"]).parent == directory
    assert files(tmp_path) == [Path(result["pdfPath"])]


async def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "INV-7.pdf").symlink_to(precious)

    result = await generate(directory, invoice())

    assert precious.read_text() == "kept"
    assert "Invoice INV-7" in text(result["pdfPath"])


async def test_a_retry_writes_the_same_file_again(tmp_path: Path) -> None:
    first = await generate(tmp_path, invoice())
    content = (tmp_path / "INV-7.pdf").read_bytes()

    again = await generate(tmp_path, invoice())

    assert again == first
    assert (tmp_path / "INV-7.pdf").read_bytes() == content
    assert files(tmp_path) == [tmp_path / "INV-7.pdf"]


async def test_characters_that_the_font_lacks_are_warned_of(tmp_path: Path) -> None:
    context = MemoryContext()

    await generate(tmp_path, invoice(customerName="株式会社 Zoë"), context)

    [warning] = [line for level, line in context.logs if level == "WARNING"]
    assert "cannot draw 会式株社 correctly" in warning


def test_no_line_begins_with_punctuation_that_closes() -> None:
    load_fonts()
    name = "办公椅（黑色，可调节高度，带扶手和头枕，适合长时间办公使用的人体工学座椅系列（新款）），白色"

    broken = {width: wrapped(name, width) for width in range(8, 80)}

    assert {"".join(lines) for lines in broken.values()} == {name}
    assert [lines for lines in broken.values() if any(line[0] in "，）" for line in lines)] == []


async def test_another_font_is_used_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    given = Invoice.model_validate(invoice())
    wrong = tmp_path / "wrong.ttf"
    wrong.write_text("no font")

    pages = PdfReader(BytesIO(render(given, SELLER, font=FONTS / "DejaVuSans-Bold.ttf").content)).pages
    with pytest.raises(Reject, match=r"QW_INVOICE_FONT: .*wrong\.ttf is not a TrueType font that can be used"):
        render(given, SELLER, font=wrong)
    again = PdfReader(BytesIO(render(given, SELLER).content)).pages

    assert all("Bold" in name for name in fonts_of(pages[0]))
    assert any("Bold" not in name for name in fonts_of(again[0]))


def fonts_of(page: Any) -> set[str]:
    return {font.get_object()["/BaseFont"] for font in page["/Resources"]["/Font"].values()}


@pytest.mark.parametrize(("name", "missing"), [("شركة المثال", "شركةالمثال"), ("דוגמה", "דוגמה"), ("उदाहरण", "उदाहरण")])
def test_scripts_that_need_shaping_are_not_taken_for_shown(name: str, missing: str) -> None:
    load_fonts()

    assert set(not_shown([name, "Zoë Ελένη Иван €"])) == set(missing)


def document(items: int, locale: str = "de", seller: Seller = SELLER, **customer: Any) -> PdfReader:
    """The PDF of an invoice over so many items, in orders of seven."""
    lines = [
        {"name": f"Ding {n}", "price": "1.25", "quantity": n, "taxRate": (19, 7)[n % 2]} for n in range(1, items + 1)
    ]
    orders = [
        {
            "id": f"S-{n}",
            "items": lines[n : n + 7],
            "currency": "EUR",
            "orderDate": "2026-09-02",
            "deliveryDate": "2026-09-14",
        }
        for n in range(0, items, 7)
    ]
    wanted = Orders.model_validate({"customerId": "K-1", "customer": {"locale": locale, **customer}, "orders": orders})
    given = GivenNumber(year=2026, number=42, at=datetime(2026, 11, 24, 9, tzinfo=UTC))
    made = numbered(draft(wanted, seller), wanted, given, seller=seller, task_id=new_id())
    return PdfReader(BytesIO(render(Invoice.model_validate(made), seller).content))


def written_on(reader: PdfReader) -> list[str]:
    return [page.extract_text().replace("\u00a0", " ").replace("\u202f", " ") for page in reader.pages]


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        (
            "de",
            (
                "Rechnung INV-2026-00042",
                "24.11.2026",
                "Bestellung S-0 vom 02.09.2026, geliefert am 14.09.2026",
                "35,00 €",
            ),
        ),
        ("fr", ("Facture INV-2026-00042", "24/11/2026", "Commande S-0 du 02/09/2026", "35,00 €", "Page 1 sur 1")),
        ("en-US", ("Invoice INV-2026-00042", "Nov 24, 2026", "Order S-0 of Sep 2, 2026", "€35.00", "Page 1 of 1")),
        ("nl_BE", ("Factuur INV-2026-00042", "24-11-2026", "Bestelling S-0 van 02-09-2026", "€ 35,00")),
        ("it", ("Fattura INV-2026-00042", "Partita IVA")),
        ("es", ("Factura INV-2026-00042", "NIF-IVA")),
        ("ja", ("Invoice INV-2026-00042", "24 Nov 2026")),
    ],
)
def test_an_invoice_speaks_the_language_of_its_customer(locale: str, words: tuple[str, ...]) -> None:
    reader = document(7, locale)

    [page] = written_on(reader)
    for word in words:
        assert word in page


def test_each_page_says_how_many_there_are_and_carries_the_sum() -> None:
    pages = written_on(document(300))

    carried = [re.findall(r"Übertrag\n?\s*([\d.,]+)", page) for page in pages]
    assert len(pages) > 5
    for number, (page, sums) in enumerate(zip(pages, carried, strict=True), 1):
        assert f"Seite {number} von {len(pages)}" in page
        assert "Bezeichnung" in page
        last = max(int(item) for item in re.findall(r"Ding (\d+)", page))
        if number < len(pages):
            assert Decimal(sums[-1].replace(".", "").replace(",", ".")) == Decimal("1.25") * last * (last + 1) / 2
            assert carried[number][0] == sums[-1]


@pytest.mark.parametrize("items", range(1, 60))
def test_totals_never_stand_without_an_item(items: int) -> None:
    last = written_on(document(items))[-1]

    assert f"Ding {items}" in last
    assert "Rechnungsbetrag" in last
    assert "DE02 1203 0000 0000 2020 51" in last


def test_seller_and_customer_stand_on_the_invoice_with_the_country_where_it_is_another() -> None:
    address = {"street": "Weg 1", "postalCode": "75010", "city": "Paris", "country": "FR"}

    [page] = written_on(document(1, name="Zoë & Söhne <b>", address=address, vatId="FR40303265045"))

    for part in (
        "Zoë & Söhne <b>",
        "75010 Paris",
        "FRANCE",
        "FR40303265045",
        "Nordlicht GmbH",
        "GERMANY",
        "DE123456788",
    ):
        assert part in page


def test_a_demo_says_so_on_every_page_and_a_real_invoice_does_not() -> None:
    assert all("MUSTER" in page for page in written_on(document(100, seller=DEMO)))
    assert not any("MUSTER" in page for page in written_on(document(100)))


def test_a_pdf_says_what_it_is() -> None:
    reader = document(1, name="Zoë")

    assert reader.metadata is not None
    assert reader.metadata.title == "Rechnung INV-2026-00042"
    assert reader.metadata.author == "Nordlicht GmbH"
    assert reader.metadata.subject == "Nordlicht GmbH – Zoë"
    assert reader.metadata.creation_date == datetime(2026, 11, 24, tzinfo=UTC)
    assert str(reader.root_object["/Lang"]) == "de"


def test_the_payment_code_holds_a_credit_transfer() -> None:
    code = payment_code(SELLER, Decimal("302.38"), "EUR", "INV-2026-00042")

    assert code == "BCD\n002\n1\nSCT\n\nNordlicht GmbH\nDE02120300000000202051\nEUR302.38\n\n\nINV-2026-00042"


@pytest.mark.parametrize(
    ("seller", "amount", "currency"),
    [
        (SELLER, "0", "EUR"),
        (SELLER, "1000000000", "EUR"),
        (SELLER, "5", "USD"),
        (SELLER.model_copy(update={"bank": None}), "5", "EUR"),
    ],
)
def test_there_is_no_payment_code_for_what_it_cannot_say(seller: Seller, amount: str, currency: str) -> None:
    assert payment_code(seller, Decimal(amount), currency, "INV-1") is None


async def test_control_characters_and_endless_words_are_printed_somehow(tmp_path: Path) -> None:
    items = [{"name": "\x07\x1b bell\tand\nbreak", "price": 1}, {"name": "W" * 500, "price": "0.0125", "quantity": 3}]

    result = await generate(tmp_path, invoice(items=items))

    assert "bell and break" in text(result["pdfPath"])
    assert "0.0125" in text(result["pdfPath"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no invoiceNumber"),
        ({"id": "x", "items": [{"name": "Pen"}]}, r"items\.0\.price: Field required"),
        ({"id": "x", "grandTotal": "much"}, "grandTotal"),
        ({"id": "x", "currency": "dollars"}, "currency"),
        ({"id": "x", "customerName": "n" * 501}, "customerName"),
    ],
)
async def test_an_invoice_that_cannot_be_printed_is_rejected(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(Reject, match=message):
        await generate(tmp_path, given)


async def test_a_service_gets_the_invoice_as_it_is(tmp_path: Path) -> None:
    async with service({"pdfUrl": "https://files.example/7.pdf"}) as remote:
        context = MemoryContext()
        given = invoice(anything={"else": [1]})

        result = await run(printer(tmp_path, f"{remote.url}/pdf"), "generate_pdf", {"invoice": given}, context)

    [received] = remote.received
    assert result == {"pdfUrl": "https://files.example/7.pdf"}
    assert (received.method, received.path, received.body) == ("POST", "/pdf", {"invoice": given})
    assert received.headers["idempotency-key"] == str(context.task_id)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (500, {"error": "no ink"}, "no ink"),
        (404, None, "status code 404"),
        (200, {}, "without a pdfUrl"),
        (200, {"pdfUrl": 7}, "without a pdfUrl"),
        (200, b"%PDF-1.4", "not JSON"),
        (200, b'"' + b"x" * 2_000_000 + b'"', "longer than 1,048,576 bytes"),
    ],
)
async def test_a_failing_service_has_one_error_text_and_its_reason_in_the_log(
    tmp_path: Path, status: int, answer: Any, reason: str
) -> None:
    context = MemoryContext()

    async with service(answer, status=status) as remote:
        with pytest.raises(Retry, match=r"^PDF generation failed$"):
            await run(printer(tmp_path, remote.url), "generate_pdf", {"invoice": invoice()}, context)

    assert [level for level, line in context.logs if reason in line] == ["ERROR"]


async def test_a_service_that_is_away_is_tried_again(tmp_path: Path) -> None:
    async with service() as remote:
        pass

    with pytest.raises(Retry, match=r"^PDF generation failed$"):
        await run(printer(tmp_path, remote.url), "generate_pdf", {"invoice": invoice()})


async def undo(app: Handlers, result: Json) -> Any:
    handler = app.get("generate_pdf")
    assert handler is not None
    assert handler.compensate is not None
    now = datetime.now(UTC)
    recorded = Recorded(task_id=new_id(), type="generate_pdf", payload={}, result=result, finished_at=now)
    return await handler.compensate(MemoryContext(), recorded)


async def test_undoing_deletes_the_pdf_and_does_so_twice_without_harm(tmp_path: Path) -> None:
    result = await generate(tmp_path, invoice())

    assert await undo(printer(tmp_path), result) == {"deleted": result["pdfPath"]}
    assert await undo(printer(tmp_path), result) == {"deleted": result["pdfPath"]}
    assert files(tmp_path) == []


async def test_undoing_leaves_a_services_pdf_and_says_so(tmp_path: Path) -> None:
    kept = await undo(printer(tmp_path), {"pdfUrl": "https://files.example/7.pdf"})

    assert kept["kept"] == "https://files.example/7.pdf"


async def test_undoing_deletes_nothing_outside_the_directory(tmp_path: Path) -> None:
    precious = tmp_path / "precious.pdf"
    precious.write_text("kept")

    for place in (str(precious), f"{tmp_path}/out/../precious.pdf", "..", ""):
        with pytest.raises(Reject, match="is not a file in"):
            await undo(printer(tmp_path / "out"), {"pdfPath": place})

    assert precious.exists()
