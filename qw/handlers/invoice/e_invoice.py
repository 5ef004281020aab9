"""An invoice as EN 16931 XML, in the CII syntax that Factur-X and ZUGFeRD embed in PDFs.

Tests validate it against the schema and the Schematron rules of Factur-X 1.0, profile EN 16931.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from xml.etree.ElementTree import Element, SubElement, indent, register_namespace, tostring

from qw.core.task.handler_api import Reject
from qw.handlers.invoice.documents import Invoice, Item
from qw.handlers.invoice.money import rounded
from qw.handlers.invoice.parties import Address, Customer, Seller
from qw.handlers.invoice.sums import TaxLine, category

FILE_NAME = "factur-x.xml"
PROFILE = "urn:cen.eu:en16931:2017"
_INVOICE, _CREDIT_TRANSFER, _SEPA_TRANSFER, _PIECE = "380", "30", "58", "C62"  # UNTDID 1001, 4461, UN/ECE Rec. 20
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACES = {
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
}


def e_invoice(invoice: Invoice, seller: Seller) -> bytes:
    """Return the XML. Raise Reject, naming everything that EN 16931 requires and the invoice lacks."""
    customer = invoice.customer or Customer()
    if missing := [*_missing(invoice, seller, customer)]:
        raise Reject(f"an e-invoice needs {', '.join(missing)}")
    root = Element(_name("rsm", "CrossIndustryInvoice"))
    _add(root, "rsm:ExchangedDocumentContext/GuidelineSpecifiedDocumentContextParameter/ID", PROFILE)
    document = _add(root, "rsm:ExchangedDocument")
    _add(document, "ID", invoice.number)
    _add(document, "TypeCode", _INVOICE)
    _day(document, "IssueDateTime", invoice.issued)
    if seller.note:
        _add(document, "IncludedNote/Content", seller.note)
    trade = _add(root, "rsm:SupplyChainTradeTransaction")
    for number, item in enumerate(invoice.items, 1):
        _line(trade, number, item, invoice)
    _agreement(trade, invoice, seller, customer)
    _delivery(trade, invoice)
    _settlement(trade, invoice, seller)
    for prefix, space in _SPACES.items():
        register_namespace(prefix, space)
    indent(root)
    xml: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def _missing(invoice: Invoice, seller: Seller, customer: Customer) -> Iterator[str]:
    known = {
        "the seller's vat_id or tax_number": seller.vat_id or seller.tax_number,
        "the customer's name": customer.name or invoice.customer_name,
        "the customer's address": customer.address,
        "an issueDate": invoice.issued,
        "items": invoice.items,
        "taxes by rate": invoice.taxes and all(item.tax_rate is not None for item in invoice.items),
        "totalAmount, taxAmount and grandTotal": None not in (
            invoice.total_amount, invoice.tax_amount, invoice.grand_total,
        ),
    }  # fmt: skip
    return (what for what, there in known.items() if not there)


def _line(trade: Element, number: int, item: Item, invoice: Invoice) -> None:
    line = _add(trade, "IncludedSupplyChainTradeLineItem")
    _add(line, "AssociatedDocumentLineDocument/LineID", str(number))
    product = _add(line, "SpecifiedTradeProduct")
    if item.id:
        _add(product, "SellerAssignedID", item.id)
    _add(product, "Name", item.name)
    _add(line, "SpecifiedLineTradeAgreement/NetPriceProductTradePrice/ChargeAmount", _plain(item.price))
    _add(line, "SpecifiedLineTradeDelivery/BilledQuantity", _plain(item.quantity), unitCode=_PIECE)
    settlement = _add(line, "SpecifiedLineTradeSettlement")
    rate = item.tax_rate or Decimal(0)
    exempt = any(tax.category == "E" for tax in invoice.taxes)
    _tax_kind(_add(settlement, "ApplicableTradeTax"), category(rate, is_exempt=exempt), rate)
    amount = _amount(item.amount(invoice.currency))
    _add(settlement, "SpecifiedTradeSettlementLineMonetarySummation/LineTotalAmount", amount)


def _agreement(trade: Element, invoice: Invoice, seller: Seller, customer: Customer) -> None:
    agreement = _add(trade, "ApplicableHeaderTradeAgreement")
    party = _add(agreement, "SellerTradeParty")
    if not seller.vat_id and not seller.register_entry:  # one of the three ids is required
        _add(party, "ID", seller.tax_number)
    _add(party, "Name", seller.name)
    if seller.register_entry:
        _add(party, "SpecifiedLegalOrganization/ID", seller.register_entry)
    _address(party, seller.address)
    _mail(party, seller.email)
    for scheme, id in (("FC", seller.tax_number), ("VA", seller.vat_id)):
        if id:
            _add(party, "SpecifiedTaxRegistration/ID", id, schemeID=scheme)
    party = _add(agreement, "BuyerTradeParty")
    if invoice.customer_id:
        _add(party, "ID", invoice.customer_id)
    _add(party, "Name", customer.name or invoice.customer_name or "")
    if customer.address:
        _address(party, customer.address)
    _mail(party, customer.email)
    if customer.vat_id:
        _add(party, "SpecifiedTaxRegistration/ID", customer.vat_id, schemeID="VA")
    references = {order.reference for order in invoice.order_details if order.reference}
    if len(references) == 1:
        _add(agreement, "BuyerOrderReferencedDocument/IssuerAssignedID", references.pop())


def _address(party: Element, address: Address) -> None:
    postal = _add(party, "PostalTradeAddress")
    parts = (
        ("PostcodeCode", address.postal_code),
        ("LineOne", address.street),
        ("LineTwo", address.addition),
        ("CityName", address.city),
        ("CountryID", address.country),
        ("CountrySubDivisionName", address.region),
    )
    for name, text in parts:
        if text:
            _add(postal, name, text)


def _mail(party: Element, address: str | None) -> None:
    if address:
        _add(party, "URIUniversalCommunication/URIID", address, schemeID="EM")


def _delivery(trade: Element, invoice: Invoice) -> None:
    delivery = _add(trade, "ApplicableHeaderTradeDelivery")
    if days := _delivered(invoice):
        _day(delivery, "ActualDeliverySupplyChainEvent/OccurrenceDateTime", days[-1])


def _settlement(trade: Element, invoice: Invoice, seller: Seller) -> None:
    settlement = _add(trade, "ApplicableHeaderTradeSettlement")
    _add(settlement, "PaymentReference", invoice.number)
    _add(settlement, "InvoiceCurrencyCode", invoice.currency)
    if bank := seller.bank:
        means = _add(settlement, "SpecifiedTradeSettlementPaymentMeans")
        _add(means, "TypeCode", _SEPA_TRANSFER if invoice.currency == "EUR" else _CREDIT_TRANSFER)
        account = _add(means, "PayeePartyCreditorFinancialAccount")
        _add(account, "IBANID", bank.iban)
        _add(account, "AccountName", bank.holder or seller.name)
        if bank.bic:
            _add(means, "PayeeSpecifiedCreditorFinancialInstitution/BICID", bank.bic)
    for tax in invoice.taxes:
        _tax(settlement, tax, seller)
    if len(days := _delivered(invoice)) > 1:
        period = _add(settlement, "BillingSpecifiedPeriod")
        _day(period, "StartDateTime", days[0])
        _day(period, "EndDateTime", days[-1])
    terms = _add(settlement, "SpecifiedTradePaymentTerms")
    _day(terms, "DueDateDateTime", invoice.due or invoice.issued)
    sums = _add(settlement, "SpecifiedTradeSettlementHeaderMonetarySummation")
    _add(sums, "LineTotalAmount", _amount(invoice.total_amount))
    _add(sums, "TaxBasisTotalAmount", _amount(invoice.total_amount))
    _add(sums, "TaxTotalAmount", _amount(invoice.tax_amount), currencyID=invoice.currency)
    _add(sums, "GrandTotalAmount", _amount(invoice.grand_total))
    _add(sums, "DuePayableAmount", _amount(invoice.grand_total))


def _tax(settlement: Element, tax: TaxLine, seller: Seller) -> None:
    element = _add(settlement, "ApplicableTradeTax")
    _add(element, "CalculatedAmount", _amount(tax.tax))
    reason = seller.exemption if tax.category == "E" else None
    _tax_kind(element, tax.category, tax.rate, base=tax.base, reason=reason)


def _tax_kind(
    element: Element, category: str, rate: Decimal, *, base: Decimal | None = None, reason: str | None = None
) -> None:
    _add(element, "TypeCode", "VAT")
    if reason:
        _add(element, "ExemptionReason", reason)
    if base is not None:
        _add(element, "BasisAmount", _amount(base))
    _add(element, "CategoryCode", category)
    _add(element, "RateApplicablePercent", _plain(rate))


def _delivered(invoice: Invoice) -> list[date]:
    """Return the distinct delivery dates, in order."""
    days = (order.delivery_day for order in invoice.order_details)
    return sorted({day for day in days if day is not None})


def _day(parent: Element, path: str, day: date | None) -> None:
    if day is not None:
        _add(parent, f"{path}/udt:DateTimeString", f"{day:%Y%m%d}", format="102")


def _amount(value: Decimal | None) -> str:
    return f"{rounded(value or Decimal(0), None):.2f}"


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _add(parent: Element, path: str, text: str | None = None, **attributes: str) -> Element:
    """Append an element to *parent*, below the elements of *path*; names without prefix are in ``ram``."""
    for step in path.split("/"):
        prefix, _, name = step.rpartition(":")
        parent = SubElement(parent, _name(prefix or "ram", name))
    parent.text = text and xml_text(text)
    parent.attrib.update(attributes)
    return parent


def xml_text(text: str) -> str:
    """Replace control characters that XML does not allow with blanks; names from spreadsheets contain some."""
    return _NOT_XML.sub(" ", text)


def _name(prefix: str, name: str) -> str:
    return f"{{{_SPACES[prefix]}}}{name}"
