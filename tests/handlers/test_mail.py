from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult

from qw.core.errors import Misconfigured
from qw.core.task.handler_api import Recorded, Reject, Retry
from qw.handlers import Handlers
from qw.handlers.invoice.mail import MailOptions, add_send_email
from qw.handlers.invoice.post import parse_server
from tests.handlers.context import MemoryContext, files, new_id, run
from tests.handlers.local import service

INVOICE: dict[str, Any] = {"id": "i", "invoiceNumber": "INV-7", "grandTotal": 275, "items": [{"not": "looked at"}]}
STANDARD = {"to": "customer-c@example.com", "subject": "Invoice INV-7"}


def sender(directory: Path, url: str | None = None) -> Handlers:
    app = Handlers()
    add_send_email(app, MailOptions(directory=directory, url=url, sender="billing@qw.example"))
    return app


async def send(directory: Path, url: str | None = None, **payload: Any) -> tuple[dict[str, Any], MemoryContext]:
    context = MemoryContext()
    payload = {"customerId": "c", "invoice": INVOICE, **payload}
    return await run(sender(directory, url), "send_email", payload, context), context


async def written(directory: Path, **payload: Any) -> EmailMessage:
    result, _ = await send(directory, **payload)
    return read_at(result["path"])


def read(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def read_at(path: str) -> EmailMessage:
    return read(Path(path).read_bytes())


def text(message: EmailMessage, kind: str = "plain") -> str:
    body = message.get_body((kind,))
    assert isinstance(body, EmailMessage)
    return str(body.get_content()).strip().replace("\r\n", "\n")


class Mailbox:
    """A mail server's ear: what came, and whom it refuses."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refused: set[str] = set()
        self.logins: list[bytes] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 OK"

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins += [data.login, data.password]
        return AuthResult(success=data.password == b"s3cret/")


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[Mailbox, str]]:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, authenticator=mailbox.log_in, auth_require_tls=False, loop=loop), "127.0.0.1", 0
    )
    async with server:
        yield mailbox, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_without_a_server_the_mail_lies_in_the_outbox(tmp_path: Path) -> None:
    result, context = await send(tmp_path)

    path = tmp_path / "outbox" / f"{context.task_id}.eml"
    assert result == {**STANDARD, "messageId": f"<{context.task_id}@qw.example>", "path": str(path)}
    message = read_at(result["path"])
    assert message["To"] == "customer-c@example.com"
    assert message["From"] == "billing@qw.example"
    assert message["Message-ID"] == result["messageId"]
    assert text(message) == "Your invoice INV-7 is ready. Total: $275"


async def test_a_retry_leaves_one_mail(tmp_path: Path) -> None:
    context = MemoryContext()
    for _ in range(2):
        await run(sender(tmp_path), "send_email", {"customerId": "c", "invoice": INVOICE}, context)

    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("total", "currency", "said"), [(1234.5, "USD", "$1234.50"), (0.1, "EUR", "€0.10"), (5, "CHF", "CHF 5")]
)
async def test_the_total_is_said_with_cents_only_where_there_are_some(
    tmp_path: Path, total: float, currency: str, said: str
) -> None:
    message = await written(tmp_path, invoice={**INVOICE, "grandTotal": total, "currency": currency})

    assert text(message).endswith(f"Total: {said}")


async def test_an_invoice_known_by_its_id_alone_is_named(tmp_path: Path) -> None:
    message = await written(tmp_path, invoice=None, invoiceId="INV-99")

    assert message["Subject"] == "Invoice INV-99"
    assert text(message) == "Your invoice INV-99 is ready."


async def test_own_words_and_recipients_are_taken(tmp_path: Path) -> None:
    to = ["zoe@example.org", "ivan@example.org", "zoe@example.org"]

    message = await written(tmp_path, invoice=None, to=to, subject="Привет, Zoë", body="Ελένη\nsays hi")

    assert message["To"] == "zoe@example.org, ivan@example.org"
    assert message["Subject"] == "Привет, Zoë"
    assert text(message) == "Ελένη\nsays hi"


WHOLE = {
    **INVOICE,
    "currency": "EUR",
    "locale": "de",
    "customer": {"name": "Zoë <b> & Söhne", "email": "zoe@example.org"},
    "seller": {"name": "Nordlicht GmbH", "bank": {"iban": "not looked at"}},
    "dueDay": "2026-12-08",
}


async def test_an_invoice_comes_with_a_letter_in_the_language_of_its_customer(tmp_path: Path) -> None:
    message = await written(tmp_path, invoice=WHOLE)

    assert (message["To"], message["Subject"]) == ("zoe@example.org", "Rechnung INV-7")
    assert text(message).replace("\u00a0", " ") == (
        "Guten Tag Zoë <b> & Söhne,\n\nIhre Rechnung INV-7 liegt vor. Rechnungsbetrag: 275,00 €\n\n"
        "Zahlbar bis: 08.12.2026\n\nDie Rechnung ist als PDF angehängt.\n\nFreundliche Grüße\nNordlicht GmbH"
    )


async def test_the_letter_is_there_as_html_too_in_which_names_are_text(tmp_path: Path) -> None:
    message = await written(tmp_path, invoice=WHOLE)

    html = text(message, "html")
    assert message.get_content_type() == "multipart/alternative"
    assert '<html lang="de">' in html
    for part in ("Guten Tag Zoë &lt;b&gt; &amp; Söhne,", "08.12.2026", "Freundliche Grüße<br>Nordlicht GmbH"):
        assert part in html
    assert "Zoë <b>" not in html


async def test_own_words_are_text_in_html(tmp_path: Path) -> None:
    message = await written(tmp_path, subject="s", body='a <script>"x"</script>\nb', pdfUrl='https://f.example/"><i>')

    html = text(message, "html")
    assert "a &lt;script&gt;&quot;x&quot;&lt;/script&gt;<br>b" in html
    assert 'href="https://f.example/&quot;&gt;&lt;i&gt;"' in html


async def test_an_odd_customer_id_makes_an_address_still(tmp_path: Path) -> None:
    message = await written(tmp_path, customerId="ACME & Söhne")

    assert message["To"] == "customer-ACME%20%26%20S%C3%B6hne@example.com"


async def test_the_pdf_is_attached_under_its_name(tmp_path: Path) -> None:
    pdf = tmp_path / "Ελένη Rechnung.pdf"
    pdf.write_bytes(b"%PDF-1.4 \xff")

    for place in (pdf.as_uri(), str(pdf)):
        [attachment] = (await written(tmp_path, pdfUrl=place)).iter_attachments()
        assert attachment.get_filename() == "Ελένη Rechnung.pdf"
        assert attachment.get_content_type() == "application/pdf"
        assert attachment.get_payload(decode=True) == b"%PDF-1.4 \xff"


async def test_a_pdf_elsewhere_on_the_web_is_named_not_fetched(tmp_path: Path) -> None:
    message = await written(tmp_path, pdfUrl="https://files.example/7.pdf")

    assert text(message).endswith("Total: $275\n\nhttps://files.example/7.pdf")
    assert list(message.iter_attachments()) == []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"to": "a@b.example\r\nBcc: x@b.example"}, "recipient contains a line break"),
        ({"to": ["a@b.example", "c@d.example\n"]}, "recipient contains a line break"),
        ({"subject": "Hi\r\nBcc: x@b.example"}, "subject contains a line break"),
        ({"subject": "Hi\u2028there"}, "subject contains a line break"),
        ({"customerId": "c\r\nBcc: x"}, "customerId contains a line break"),
        ({"invoice": {"invoiceNumber": "7\nX: y"}}, "subject contains a line break"),
        ({"to": [f"a{n}@b.example" for n in range(101)]}, "101 recipients"),
        ({"to": ",".join(f"a{n}@b.example" for n in range(10_000))}, "10,000 recipients"),
        ({"to": []}, "0 recipients"),
        ({"to": ""}, "'' is not an e-mail address"),
        ({"to": "Zoë <zoe@example.org>"}, "is not an e-mail address"),
        ({"to": "a@b@c"}, "is not an e-mail address"),
        ({"to": f"{'a' * 65}@b.example"}, "is not an e-mail address"),
    ],
)
async def test_what_would_forge_or_flood_is_refused(tmp_path: Path, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(Reject, match=message):
        await send(tmp_path, **payload)

    assert files(tmp_path) == []


async def test_an_attachment_of_100_mb_is_refused(tmp_path: Path) -> None:
    pdf = tmp_path / "big.pdf"
    with pdf.open("wb") as file:
        file.truncate(100 * 1024 * 1024)  # a hole: no disk is used

    with pytest.raises(Reject, match=r"big\.pdf has 104,857,600 bytes; at most 26,214,400 are sent"):
        await send(tmp_path, pdfUrl=pdf.as_uri())


async def test_attachments_outside_the_directory_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pdf"
    secret.write_text("secret")
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "up").symlink_to(tmp_path)

    for place in (secret.as_uri(), f"file://{directory}/../secret.pdf", "%2e%2e/secret.pdf", "../secret.pdf"):
        with pytest.raises((Reject, Retry)):
            await send(directory, pdfUrl=place)
    for place in (f"{directory}/up/secret.pdf", f"file://{directory}/%2e%2e/secret.pdf", "/etc/passwd", "gopher://x/y"):
        with pytest.raises(Reject):
            await send(directory, pdfUrl=place)
    assert not (directory / "outbox").exists()


async def test_a_link_among_the_documents_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pdf"
    secret.write_text("secret")
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "INV-7.pdf").symlink_to(secret)

    with pytest.raises(Retry, match="Email sending failed"):
        await send(directory, pdfUrl=f"{directory}/INV-7.pdf")


async def test_what_is_no_regular_file_is_not_attached(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(Reject, match="pipe is not a regular file"):
        await send(tmp_path, pdfUrl="pipe")


@pytest.mark.parametrize("payload", [{"invoice": None}, {"invoice": None, "subject": "Hi"}, {"customerId": None}])
async def test_a_mail_about_nothing_or_to_nobody_is_rejected(tmp_path: Path, payload: dict[str, Any]) -> None:
    with pytest.raises(Reject, match=r"nothing to write about|no recipient"):
        await send(tmp_path, **payload)


async def test_a_service_gets_the_documented_body(tmp_path: Path) -> None:
    async with service({"ok": True}) as remote:
        result, context = await send(tmp_path, f"{remote.url}/mails", pdfUrl="https://files.example/7.pdf")

    [received] = remote.received
    assert (received.method, received.path) == ("POST", "/mails")
    assert received.headers["idempotency-key"] == str(context.task_id)
    assert received.body == {
        **STANDARD,
        "body": "Your invoice INV-7 is ready. Total: $275",
        "pdfUrl": "https://files.example/7.pdf",
    }
    assert result == {**STANDARD, "messageId": f"<{context.task_id}@qw.example>"}


async def test_a_service_may_answer_with_nothing(tmp_path: Path) -> None:
    async with service(b"", status=204) as remote:
        await send(tmp_path, remote.url)

    assert "pdfUrl" not in remote.received[0].body


async def test_a_failing_service_has_one_error_text_and_its_reason_in_the_log(tmp_path: Path) -> None:
    context = MemoryContext()

    async with service({"error": "no stamps"}, status=502) as remote:
        with pytest.raises(Retry, match=r"^Email sending failed$"):
            await run(sender(tmp_path, remote.url), "send_email", {"customerId": "c", "invoice": INVOICE}, context)

    assert [level for level, line in context.logs if "no stamps" in line] == ["ERROR"]


async def test_a_mail_server_gets_the_mail_with_its_pdf(tmp_path: Path) -> None:
    (tmp_path / "INV-7.pdf").write_bytes(b"%PDF")

    async with mail_server() as (mailbox, place):
        result, _ = await send(
            tmp_path, f"smtp://{place}", to=["zoe@example.org", "ivan@example.org"], pdfUrl="INV-7.pdf"
        )

    [mail] = mailbox.mails
    message = read(mail.content)
    assert mail.mail_from == "billing@qw.example"
    assert mail.rcpt_tos == ["zoe@example.org", "ivan@example.org"]
    assert message["Message-ID"] == result["messageId"]
    assert [part.get_filename() for part in message.iter_attachments()] == ["INV-7.pdf"]
    assert mailbox.logins == []


async def test_recipients_that_are_refused_are_logged_and_the_others_served(tmp_path: Path) -> None:
    async with mail_server() as (mailbox, place):
        mailbox.refused = {"gone@example.org"}
        _, context = await send(tmp_path, f"smtp://{place}", to="gone@example.org, zoe@example.org")

        with pytest.raises(Retry, match=r"^Email sending failed$"):
            await send(tmp_path, f"smtp://{place}", to="gone@example.org")

    assert [mail.rcpt_tos for mail in mailbox.mails] == [["zoe@example.org"]]
    assert ("WARNING", "refused by the mail server: gone@example.org") in context.logs


async def test_a_password_does_not_travel_in_the_clear(tmp_path: Path) -> None:
    async with mail_server() as (mailbox, place):
        with pytest.raises(Retry, match=r"^Email sending failed$"):
            await send(tmp_path, f"smtp://qw:s3cret%2F@{place}")
        assert mailbox.logins == []

        await send(tmp_path, f"smtp://qw:s3cret%2F@{place}?starttls=never")
        assert mailbox.logins == [b"qw", b"s3cret/"]
        assert len(mailbox.mails) == 1


async def test_a_mail_server_that_is_away_is_tried_again_and_no_password_logged(tmp_path: Path) -> None:
    async with mail_server() as (_, place):
        pass
    context = MemoryContext()

    app = sender(tmp_path, f"smtp://qw:s3cret@{place}")
    with pytest.raises(Retry, match=r"^Email sending failed$"):
        await run(app, "send_email", {"customerId": "c", "invoice": INVOICE}, context)

    assert any(level == "ERROR" for level, _ in context.logs)
    assert "s3cret" not in str(context.logs)


@pytest.mark.parametrize(
    ("url", "port", "tls", "starttls"),
    [
        ("smtp://mail", 25, False, None),
        ("smtp://u:p@mail:587", 587, False, True),
        ("smtp://u:p@mail?starttls=never", 25, False, False),
        ("smtp://mail?starttls=always", 25, False, True),
        ("smtps://u:p@mail", 465, True, False),
    ],
)
def test_the_url_says_how_the_line_is_protected(url: str, port: int, tls: bool, starttls: bool | None) -> None:
    server = parse_server(url)

    assert (server.host, server.port, server.tls, server.starttls) == ("mail", port, tls, starttls)


@pytest.mark.parametrize(
    "url", ["ftp://u:s3cret@mail", "smtp://", "smtp://u:s3cret@mail?tls=1", "smtp://u:s3cret@mail:x", "mail", ""]
)
def test_an_url_that_cannot_send_is_refused_at_the_start_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        sender(tmp_path, url)

    assert "s3cret" not in str(refusal.value)


async def test_undoing_sends_a_correction_that_refers_to_the_mail(tmp_path: Path) -> None:
    app = sender(tmp_path)
    payload: dict[str, Any] = {"customerId": "c", "invoice": INVOICE}
    result, context = await send(tmp_path, to="a@b.example, c@d.example")
    done = Recorded(
        task_id=context.task_id, type="send_email", payload=payload, result=result, finished_at=datetime.now(UTC)
    )
    handler = app.get("send_email")
    assert handler is not None
    assert handler.compensate is not None

    undo: Any = await handler.compensate(MemoryContext(), done)
    again: Any = await handler.compensate(MemoryContext(), done)

    message = read_at(undo["path"])
    assert message["Subject"] == "Correction: invoice INV-7 is void"
    assert message["To"] == "a@b.example, c@d.example"
    assert message["In-Reply-To"] == result["messageId"]
    assert message["Message-ID"] != result["messageId"]
    assert again == undo
    assert len(files(tmp_path)) == 2


async def test_a_task_without_a_mail_in_its_result_has_nothing_to_correct(tmp_path: Path) -> None:
    handler = sender(tmp_path).get("send_email")
    assert handler is not None
    assert handler.compensate is not None
    done = Recorded(task_id=new_id(), type="send_email", payload={}, result=None, finished_at=datetime.now(UTC))

    with pytest.raises(Reject, match="no mail in its result"):
        await handler.compensate(MemoryContext(), done)
