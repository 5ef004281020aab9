"""How mail is sent: by the operator's e-mail service, by SMTP, or to a folder of ``.eml`` files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from qw.core.errors import Misconfigured
from qw.core.task.handler_api import Context, Reject, Retry
from qw.core.task.payload import JsonObject
from qw.handlers.invoice.documents import file_stem
from qw.handlers.invoice.files import inside, read_file, write_file
from qw.handlers.invoice.letter import Letter
from qw.handlers.invoice.service import ServiceCall, ServiceFailed, answer

FAILED = "Email sending failed"
MAX_ATTACHMENT = 25 * 1024 * 1024  # bytes


@dataclass(frozen=True, kw_only=True)
class MailOptions:
    """``url``: an e-mail service (http, https) or a mail server (smtp, smtps); None: ``directory``/outbox.

    ``smtp://user:password@host:port?starttls=always|never``: a password is sent only over TLS, unless ``never``;
    without a password, TLS is used if the server offers it. PDFs are attached from ``directory`` and nowhere else.
    """

    directory: Path
    url: str | None = None
    sender: str = "invoices@example.com"
    timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Mail:
    """``key``: the same for every attempt to send it. ``body``: for a service. ``letter``: for a mail made by qw."""

    key: str
    to: tuple[str, ...]
    subject: str
    body: str
    letter: Letter
    pdf_url: str | None = None
    in_reply_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class SmtpServer:
    """``starttls``: True: required, False: forbidden, None: optional."""

    host: str
    port: int
    tls: bool
    starttls: bool | None
    user: str | None
    password: str | None


class Post:
    """Sends mail the way the options say. Raise Misconfigured if their URL has an unknown scheme."""

    def __init__(self, options: MailOptions) -> None:
        self._options = options
        self._outbox = options.directory.absolute() / "outbox"
        scheme = urlsplit(options.url).scheme if options.url is not None else ""
        if options.url is not None and scheme not in ("http", "https", "smtp", "smtps"):
            raise Misconfigured(f"the e-mail URL has the scheme {scheme!r}; use http, https, smtp or smtps")
        self._server = parse_server(options.url) if options.url and scheme.startswith("smtp") else None

    async def send(self, mail: Mail, context: Context) -> JsonObject:
        """Send *mail*. Raise Retry with the text FAILED if it cannot be sent now; the log has the reason."""
        result: JsonObject = {
            "messageId": self._message_id(mail),
            "to": ", ".join(mail.to),
            "subject": mail.subject,
        }
        try:
            if self._server is not None:
                refused = await self._to_server(self._server, mail)
                if refused:
                    await context.log(f"refused by the mail server: {', '.join(refused)}", level="WARNING")
            elif self._options.url is not None:
                await self._to_service(self._options.url, mail)
            else:
                result["path"] = await self._to_folder(mail)
        except (ServiceFailed, OSError) as error:
            await context.log(f"sending failed: {type(error).__name__}: {error}", level="ERROR")
            raise Retry(FAILED) from None
        await context.log(f"mail {result['messageId']} sent to {len(mail.to)} recipients")
        return result

    async def _to_service(self, url: str, mail: Mail) -> None:
        body = {"to": ", ".join(mail.to), "subject": mail.subject, "body": mail.body}
        if mail.pdf_url is not None:
            body["pdfUrl"] = mail.pdf_url
        headers = {"Idempotency-Key": mail.key}
        await answer(ServiceCall(method="POST", url=url, timeout=self._options.timeout, headers=headers, body=body))

    async def _to_folder(self, mail: Mail) -> str:
        message = await self._message(mail)
        path = self._outbox / f"{file_stem(mail.key)}.eml"
        await asyncio.to_thread(write_file, path, message.as_bytes())
        return str(path)

    async def _to_server(self, server: SmtpServer, mail: Mail) -> Sequence[str]:
        """Send *mail* by SMTP. Return the recipients that the server rejected while it accepted others."""
        import aiosmtplib

        message = await self._message(mail)
        try:
            refused, _ = await aiosmtplib.send(
                message,
                sender=self._options.sender,
                recipients=list(mail.to),
                hostname=server.host,
                port=server.port,
                username=server.user,
                password=server.password,
                use_tls=server.tls,
                start_tls=server.starttls,
                validate_certs=server.tls or server.starttls is True,
                timeout=self._options.timeout.total_seconds(),
            )
        except (aiosmtplib.SMTPException, ValueError) as error:
            raise ServiceFailed(f"{type(error).__name__}: {error}") from None
        return list(refused)

    async def _message(self, mail: Mail) -> EmailMessage:
        addresses = "".join((self._options.sender, *mail.to))
        message = EmailMessage(policy=SMTP if addresses.isascii() else SMTPUTF8)
        message["From"] = self._options.sender
        message["To"] = ", ".join(mail.to)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = self._message_id(mail)
        if mail.in_reply_to:
            message["In-Reply-To"] = message["References"] = mail.in_reply_to
        await self._set_content(message, mail)
        return message

    async def _set_content(self, message: EmailMessage, mail: Mail) -> None:
        """Set the letter as text and HTML, with the PDF attached if it is a local file, else with its URL."""
        message.set_content(f"{mail.letter.text}\n")
        message.add_alternative(f"{mail.letter.html}\n", subtype="html")
        if mail.pdf_url and not mail.letter.link:
            scheme = urlsplit(mail.pdf_url).scheme
            if scheme not in ("file", ""):
                raise Reject(f"a pdfUrl that begins with {scheme}: cannot be sent; file, http and https can")
            path = inside(self._options.directory, mail.pdf_url)
            content = await asyncio.to_thread(read_file, path, limit=MAX_ATTACHMENT)
            message.add_attachment(content, maintype="application", subtype="pdf", filename=path.name)

    def _message_id(self, mail: Mail) -> str:
        return f"<{mail.key}@{self._options.sender.rpartition('@')[2]}>"


def parse_server(url: str) -> SmtpServer:
    """Return the server of an ``smtp`` or ``smtps`` URL. Raise Misconfigured, without the URL and its password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Misconfigured(f"the e-mail URL cannot be read: {error}") from None
    if not host:
        raise Misconfigured("the e-mail URL has no host; use the form smtp://user:password@host:587")
    query = parse_qs(parts.query, keep_blank_values=True)
    wish = query.pop("starttls", ["auto"])[-1]
    if query or wish not in ("auto", "always", "never"):
        raise Misconfigured("the e-mail URL has an unknown option; valid are starttls=always and starttls=never")
    tls = parts.scheme == "smtps"
    must = wish == "always" or (wish == "auto" and parts.password is not None)
    return SmtpServer(
        host=host,
        port=port or (465 if tls else 25),
        tls=tls,
        starttls=False if tls or wish == "never" else must or None,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
    )
