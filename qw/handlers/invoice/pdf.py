"""`generate_pdf`: renders an invoice as PDF, with the operator's PDF service or, without one, in this process.

Its compensation deletes a document rendered here; a document of the service is kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from qw.core.task.handler_api import Context, Recorded, Reject, Retry
from qw.core.task.payload import Json, JsonObject
from qw.handlers.invoice.documents import Invoice, file_stem
from qw.handlers.invoice.files import inside, write_file
from qw.handlers.invoice.parties import DEMO, Seller
from qw.handlers.invoice.service import ServiceCall, ServiceFailed, answer
from qw.handlers.registry import Handlers

FAILED = "PDF generation failed"


@dataclass(frozen=True, kw_only=True)
class PdfOptions:
    """``service_url``: the service that renders documents; None: they are rendered here, into ``directory``.

    ``seller``: for invoices that name none. ``with_xml``: embed the invoice as XML. ``font``: replaces qw's fonts.
    """

    directory: Path
    service_url: str | None = None
    seller: Seller = DEMO
    with_xml: bool = False
    font: Path | None = None
    timeout: timedelta = timedelta(seconds=60)


class InvoiceToPrint(BaseModel):
    """The invoice is passed to a service unchanged."""

    invoice: dict[str, Any]


def add_generate_pdf(app: Handlers, options: PdfOptions) -> None:
    directory = options.directory.absolute()

    async def delete(context: Context, recorded: Recorded) -> Json:
        return await asyncio.to_thread(_delete, recorded, directory)

    @app.handler("generate_pdf", compensate=delete)
    async def generate_pdf(payload: InvoiceToPrint, context: Context) -> Json:
        if options.service_url is not None:
            return await _ask_service(payload.invoice, options.service_url, options.timeout, context)
        return await _print(payload.invoice, options, context)


async def _ask_service(invoice: JsonObject, url: str, timeout: timedelta, context: Context) -> JsonObject:
    headers = {"Idempotency-Key": context.idempotency_key}
    call = ServiceCall(method="POST", url=url, timeout=timeout, headers=headers, body={"invoice": invoice})
    try:
        said = await answer(call)
    except ServiceFailed as error:
        await context.log(f"the PDF service failed: {error}", level="ERROR")
        raise Retry(FAILED) from None
    pdf_url = said.get("pdfUrl") if isinstance(said, dict) else None
    if not isinstance(pdf_url, str) or not 0 < len(pdf_url) <= 2048:
        await context.log("the PDF service answered without a pdfUrl", level="ERROR")
        raise Retry(FAILED)
    return {"pdfUrl": pdf_url}


async def _print(given: JsonObject, options: PdfOptions, context: Context) -> JsonObject:
    with _directory():
        from qw.handlers.invoice.layout import render

    try:
        invoice = Invoice.model_validate(given)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors(include_url=False)[:10])
        raise Reject(f"the invoice cannot be printed: {'; '.join(faults)}") from None
    path = options.directory.absolute() / f"{file_stem(invoice.number)}.pdf"
    document = await asyncio.to_thread(render, invoice, options.seller, with_xml=options.with_xml, font=options.font)
    if document.missing:
        remedy = "QW_INVOICE_FONT names a font with more characters, QW_PDF_URL a service that draws every script"
        await context.log(f"the font cannot draw {document.missing} correctly; {remedy}", level="WARNING")
    await asyncio.to_thread(write_file, path, document.content)
    await context.log(f"{path.name}: {document.pages} pages")
    return {"pdfUrl": path.as_uri(), "pdfPath": str(path), "pages": document.pages}


@contextmanager
def _directory() -> Iterator[None]:
    """Provide a current directory, which reportlab reads on import: the daemon's may have been deleted."""
    try:
        os.getcwd()
    except OSError:
        deleted = os.open(".", os.O_RDONLY)
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(deleted)
            os.close(deleted)
    else:
        yield


def _delete(recorded: Recorded, directory: Path) -> Json:
    result = recorded.result if isinstance(recorded.result, dict) else {}
    if not isinstance(place := result.get("pdfPath"), str):
        return {"kept": result.get("pdfUrl"), "note": "made by the PDF service, which has no call to delete it"}
    path = inside(directory, place)
    path.unlink(missing_ok=True)
    return {"deleted": str(path)}
