"""The invoice chain: fetch_orders → create_invoice → generate_pdf → send_email."""

from qw.handlers.invoice.create import InvoiceOptions, add_create_invoice
from qw.handlers.invoice.mail import MailOptions, add_send_email
from qw.handlers.invoice.numbers import GivenNumber, Numbers
from qw.handlers.invoice.orders import OrdersOptions, add_fetch_orders
from qw.handlers.invoice.parties import Seller, read_seller
from qw.handlers.invoice.pdf import PdfOptions, add_generate_pdf

__all__ = [
    "GivenNumber",
    "InvoiceOptions",
    "MailOptions",
    "Numbers",
    "OrdersOptions",
    "PdfOptions",
    "Seller",
    "add_create_invoice",
    "add_fetch_orders",
    "add_generate_pdf",
    "add_send_email",
    "read_seller",
]
