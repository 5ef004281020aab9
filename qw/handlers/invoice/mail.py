"""`send_email`: mails an invoice to its customer. Its compensation sends a correction.

If a mail is sent again after a crash, it has the same Message-ID, which is derived from the task's id.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, Field

from qw.core.task.handler_api import Context, Recorded, Reject
from qw.core.task.payload import Json, JsonObject
from qw.handlers.invoice.documents import CAMEL, Id, Name
from qw.handlers.invoice.letter import Letter
from qw.handlers.invoice.locales import LocaleFormat, format_of
from qw.handlers.invoice.money import Amount, Currency, rounded, spoken
from qw.handlers.invoice.parties import Customer, Locale
from qw.handlers.invoice.post import Mail, MailOptions, Post
from qw.handlers.invoice.words import Words, words_of
from qw.handlers.registry import Handlers

__all__ = ["MailOptions", "add_send_email"]

MAX_RECIPIENTS = 100


class Named(BaseModel):
    name: Name


class InvoiceNamed(BaseModel):
    """The invoice data that a mail uses; with a ``seller``, the mail is a complete letter."""

    model_config = CAMEL

    id: Id | None = None
    invoice_number: Id | None = None
    customer_id: Id | None = None
    customer: Customer | None = None
    seller: Named | None = None
    locale: Locale | None = None
    currency: Currency = "USD"
    grand_total: Amount | None = None
    due_day: date | None = None


class MailWanted(BaseModel):
    """``to``: one address, several separated by commas, or a list; None: the customer's address."""

    model_config = CAMEL

    to: str | list[str] | None = None
    customer_id: Id | None = None
    invoice: InvoiceNamed | None = None
    invoice_id: Id | None = None
    subject: Annotated[str, Field(max_length=500)] | None = None
    body: str | None = None
    pdf_url: Annotated[str, Field(max_length=2048)] | None = None


def add_send_email(app: Handlers, options: MailOptions) -> None:
    """Register `send_email`. Raise Misconfigured if ``options.url`` cannot send mail."""
    post = Post(options)

    async def correct(context: Context, recorded: Recorded) -> Json:
        return await post.send(correction(recorded), context)

    @app.handler("send_email", compensate=correct)
    async def send_email(payload: MailWanted, context: Context) -> Json:
        return await post.send(compose(payload, key=context.idempotency_key), context)


def compose(wanted: MailWanted, *, key: str) -> Mail:
    """Return the requested mail, or the standard one about its invoice. Raise Reject if it must not be sent."""
    invoice = wanted.invoice or InvoiceNamed()
    number = invoice.invoice_number or invoice.id or wanted.invoice_id
    if number is None and (wanted.subject is None or wanted.body is None):
        raise Reject("nothing to write about: give an invoice, an invoiceId, or subject and body")
    form = format_of(invoice.locale)
    words = words_of(form.language)
    subject = _line("subject", f"{words.invoice} {number}" if wanted.subject is None else wanted.subject)
    body = _sentence(invoice, str(number), form, words) if wanted.body is None else wanted.body
    letter = Letter(language=form.language, title=subject, paragraphs=[body], link=_link(wanted.pdf_url))
    if wanted.body is None and invoice.seller is not None:
        letter = _whole(letter, invoice, invoice.seller, form, words)
    return Mail(key=key, to=_recipients(wanted), subject=subject, body=body, letter=letter, pdf_url=wanted.pdf_url)


def _sentence(invoice: InvoiceNamed, number: str, form: LocaleFormat, words: Words) -> str:
    sentence, total = words.ready.format(number=number), invoice.grand_total
    if total is None:
        return sentence
    total = rounded(total, invoice.currency)
    amount = spoken(total, invoice.currency) if form.language == "en" else form.money(total, invoice.currency)
    return f"{sentence} {words.total}: {amount}"


def _whole(letter: Letter, invoice: InvoiceNamed, seller: Named, form: LocaleFormat, words: Words) -> Letter:
    """Return *letter* with a greeting, the due date and the sender."""
    customer = invoice.customer
    greeting = [words.greeting.format(name=customer.name)] if customer and customer.name else []
    attached = [] if letter.link else [words.attached]
    return replace(
        letter,
        paragraphs=[*greeting, *letter.paragraphs, *attached, f"{words.regards}\n{seller.name}"],
        facts=[(words.due, form.day(invoice.due_day))] if invoice.due_day else [],
        before=len(greeting) + 1,
    )


def _link(pdf_url: str | None) -> str | None:
    """Return the URL of the PDF; None if it is a local file, which is attached."""
    return pdf_url if pdf_url and pdf_url.startswith(("http://", "https://")) else None


def correction(recorded: Recorded) -> Mail:
    """Return the mail that withdraws the one sent by the task."""
    result = recorded.result if isinstance(recorded.result, dict) else {}
    if not isinstance(to := result.get("to"), str) or not isinstance(sent := result.get("messageId"), str):
        raise Reject(f"task {recorded.task_id} has no mail in its result that could be corrected")
    what = f"invoice {number}" if (number := _number(recorded.payload)) else f"message “{result.get('subject')}”"
    subject, body = _line("subject", f"Correction: {what} is void"), f"Our {what} is void. Please disregard it."
    return Mail(
        key=f"{recorded.task_id}.correction",
        to=tuple(to.split(", ")),
        subject=subject,
        body=body,
        letter=Letter(language="en", title=subject, paragraphs=[body]),
        in_reply_to=sent,
    )


def _number(payload: JsonObject) -> str | None:
    invoice = payload.get("invoice")
    named = invoice if isinstance(invoice, dict) else {}
    number = named.get("invoiceNumber") or named.get("id") or payload.get("invoiceId")
    return None if number is None else str(number)


def _recipients(wanted: MailWanted) -> tuple[str, ...]:
    if wanted.to is None:
        addresses = [_address_of_customer(wanted)]
    else:
        texts = wanted.to.split(",") if isinstance(wanted.to, str) else wanted.to
        addresses = [_line("recipient", address).strip(" ") for address in texts]
    if not 0 < len(addresses) <= MAX_RECIPIENTS:
        raise Reject(f"{len(addresses):,} recipients; a mail goes to 1 to {MAX_RECIPIENTS}")
    for address in addresses:
        _check_address(address)
    return tuple(dict.fromkeys(addresses))


def _address_of_customer(wanted: MailWanted) -> str:
    if wanted.invoice and wanted.invoice.customer and wanted.invoice.customer.email:
        return wanted.invoice.customer.email
    customer = wanted.customer_id or (wanted.invoice.customer_id if wanted.invoice else None)
    if customer is None:
        raise Reject("no recipient: give `to` or a customerId")
    return f"customer-{quote(_line('customerId', customer), safe='')}@example.com"


def _line(what: str, text: str) -> str:
    """Return *text* for a header. Raise Reject if it has a line break, which would start another header."""
    if any(ord(char) < 32 or ord(char) == 127 or char in "\x85\u2028\u2029" for char in text):
        raise Reject(f"the {what} contains a line break or another control character")
    return text


def _check_address(address: str) -> None:
    name, at, domain = address.partition("@")
    odd = set('()<>[]:;,\\" ') & set(address)
    if not (name and at and domain) or "@" in domain or odd or len(name.encode()) > 64 or len(address) > 254:
        raise Reject(f"{address[:100]!r} is not an e-mail address")
