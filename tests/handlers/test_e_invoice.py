"""E-invoices, checked by what Factur-X is checked with: its schema and its rules (Schematron) for EN 16931."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from facturx import get_facturx_xml_from_pdf, xml_check_xsd
from pypdf import PdfReader

from qw.core.task.handler_api import Reject
from qw.handlers import Handlers
from qw.handlers.invoice.create import Orders, draft, numbered
from qw.handlers.invoice.documents import Invoice
from qw.handlers.invoice.e_invoice import e_invoice
from qw.handlers.invoice.layout import render
from qw.handlers.invoice.numbers import GivenNumber
from qw.handlers.invoice.parties import DEMO, Address, Bank, Seller
from qw.handlers.invoice.pdf import PdfOptions, add_generate_pdf
from tests.handlers.context import new_id, run

SELLER = Seller(
    name="Nordlicht GmbH & Co. <KG>",
    address=Address(street="Hafenstraße 7", postal_code="20457", city="Hamburg", country="DE"),
    vat_id="DE123456788",
    tax_number="27/123/45678",
    register_entry="HRB 12345",
    email="rechnung@nordlicht.example",
    bank=Bank(iban="DE02120300000000202051", bic="BYLADEM1001"),
    note="Vielen Dank",
    series="nordlicht",
)
FRENCH: dict[str, Any] = {
    "name": "Maison Lefèvre & Fils",
    "address": {"street": "18, rue X", "addition": "2e étage", "postalCode": "75010", "city": "Paris", "country": "FR"},
    "vatId": "FR40303265045",
    "email": "compta@lefevre.example",
    "locale": "fr",
}
SMALL = Seller(
    name="Ada", address=Address(country="DE"), tax_number="27/123/45678", exemption="§ 19 UStG", series="ada"
)
ITEMS = [
    {"id": "1", "name": "Chaise", "price": "0.0125", "quantity": "5000", "taxRate": 19},
    {"name": "Livre <rare>", "price": "34.50", "quantity": "2.5", "taxRate": 7},
    {"name": "Timbre", "price": "0.005", "quantity": 1, "taxRate": 0},
]
ORDERS = [
    {"id": "S-1", "reference": "PO-1", "deliveryDate": "2026-09-14", "items": ITEMS, "currency": "EUR"},
    {"id": "S-2", "deliveryDate": "2026-09-20T10:00:00Z", "items": ITEMS * 40, "currency": "EUR"},
]
FREE = [{"id": "S-3", "items": [{"name": "Conseil", "price": 80, "taxRate": 0}], "currency": "USD"}]


def made(orders: list[dict[str, Any]] = ORDERS, seller: Seller = SELLER, **customer: Any) -> dict[str, Any]:
    payload = {"customerId": "K-1", "customer": FRENCH | customer, "orders": orders}
    wanted = Orders.model_validate(payload)
    given = GivenNumber(year=2026, number=42, at=datetime(2026, 11, 24, 9, tzinfo=UTC))
    return numbered(draft(wanted, seller), wanted, given, seller=seller, task_id=new_id())


CASES = {
    "three rates": (made(), SELLER),
    "one order": (made(ORDERS[:1]), SELLER),
    "exempt, in dollars": (made(FREE, SMALL), SMALL),
    "demo": (made(ORDERS[:1], DEMO), DEMO),
}


def xml(case: str) -> bytes:
    invoice, seller = CASES[case]
    return e_invoice(Invoice.model_validate(invoice), seller)


@pytest.mark.parametrize("case", CASES)
def test_the_xml_is_valid_by_the_schema(case: str) -> None:
    assert xml_check_xsd(xml(case), flavor="factur-x", level="en16931")


def test_what_xml_cannot_hold_becomes_blanks() -> None:
    invoice = Invoice.model_validate(
        made([{**ORDERS[0], "items": [{"name": "Chaise\vbleue", "price": 1}]}], name="A\x01B")
    )

    content = render(invoice, SELLER, with_xml=True).content

    _, found = get_facturx_xml_from_pdf(content)
    assert {"Chaise bleue", "A B"} <= {element.text for element in ElementTree.fromstring(found).iter()}
    catalog: Any = PdfReader(BytesIO(content)).root_object
    metadata = catalog["/Metadata"].get_data().decode()
    ElementTree.fromstring(metadata[metadata.index("<x:xmpmeta") : metadata.index("<?xpacket end")])
    assert f"{SELLER.name} – A B".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in metadata


def judged(directory: Path, *documents: bytes) -> list[dict[str, Any]]:
    files = [directory / f"{number}.xml" for number in range(len(documents))]
    for file, content in zip(files, documents, strict=True):
        file.write_bytes(content)
    command = [sys.executable, str(Path(__file__).with_name("schematron.py")), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_xml_keeps_the_rules_of_en_16931_and_wrong_sums_do_not(tmp_path: Path) -> None:
    wrong = xml("one order").replace(b"<ram:GrandTotalAmount>1", b"<ram:GrandTotalAmount>2")

    *right, other = judged(tmp_path, *map(xml, CASES), wrong)

    for case, report in zip(CASES, right, strict=True):
        assert [text for text, _ in report["failed"] if "still status warning" not in text] == [], case
        assert report["fired"] > 50
    assert any("BR-CO-15" in text for text, _ in other["failed"])


def test_the_pdf_has_the_xml_in_it_and_what_pdf_a_3_asks_for() -> None:
    invoice = Invoice.model_validate(made())

    content = render(invoice, SELLER, with_xml=True).content

    name, found = get_facturx_xml_from_pdf(content)
    assert (name, found) == ("factur-x.xml", e_invoice(invoice, SELLER))
    reader = PdfReader(BytesIO(content))
    catalog: Any = reader.root_object
    assert reader.pdf_header == "%PDF-1.7"
    assert "/ID" in reader.trailer
    assert catalog["/OutputIntents"][0]["/S"] == "/GTS_PDFA1"
    assert catalog["/OutputIntents"][0]["/DestOutputProfile"].get_data()[36:40] == b"acsp"
    assert catalog["/AF"][0]["/AFRelationship"] == "/Alternative"
    assert catalog["/AF"][0]["/EF"]["/F"]["/Subtype"] == "/text/xml"
    fonts = {str(font.get_object()["/BaseFont"]): font for page in reader.pages for font in fonts_of(page)}
    assert fonts
    assert all("/FontFile2" in font["/FontDescriptor"] and "/ToUnicode" in font for font in fonts.values())


def fonts_of(page: Any) -> list[Any]:
    return [font.get_object() for font in page["/Resources"]["/Font"].values()]


def test_the_metadata_say_pdf_a_and_the_same_as_the_document() -> None:
    reader = PdfReader(BytesIO(render(Invoice.model_validate(made()), SELLER, with_xml=True).content))

    catalog: Any = reader.root_object
    text = catalog["/Metadata"].get_data().decode()
    ElementTree.fromstring(text[text.index("<x:xmpmeta") : text.index("<?xpacket end")])
    for part in (
        "<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>",
        "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>",
        ">Facture INV-2026-00042<",
        "<rdf:li>Nordlicht GmbH &amp; Co. &lt;KG&gt;</rdf:li>",
        "<xmp:CreateDate>2026-11-24T00:00:00+00:00</xmp:CreateDate>",
    ):
        assert part in text
    assert reader.metadata is not None
    assert (reader.metadata.title, reader.metadata.author) == ("Facture INV-2026-00042", SELLER.name)


def test_the_same_invoice_gives_the_same_bytes() -> None:
    invoice = Invoice.model_validate(made())

    assert render(invoice, SELLER, with_xml=True).content == render(invoice, SELLER, with_xml=True).content


@pytest.mark.parametrize(
    ("extra", "missing"),
    [
        ({"customer": {"name": "Zoë"}}, "the customer's address"),
        ({"customer": None, "customerName": None}, "the customer's name, the customer's address"),
        ({"items": []}, "items"),
        ({"taxes": []}, "taxes by rate"),
        ({"grandTotal": None}, "totalAmount, taxAmount and grandTotal"),
        ({"seller": {"name": "x", "address": {"country": "DE"}, "series": "x"}}, "the seller's vat_id or tax_number"),
    ],
)
async def test_an_e_invoice_names_what_it_lacks(tmp_path: Path, extra: dict[str, Any], missing: str) -> None:
    app = Handlers()
    add_generate_pdf(app, PdfOptions(directory=tmp_path, with_xml=True))

    with pytest.raises(Reject, match=f"an e-invoice needs {missing}$"):
        await run(app, "generate_pdf", {"invoice": made() | extra})
