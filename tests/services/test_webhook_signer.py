"""What is signed, with which key, and for whom."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from qw.core.errors import Misconfigured
from qw.core.event.webhook import HEADER, KEY_HEADER, Webhook
from qw.core.task.handler_api import Retry
from qw.daemon.handlers import stored_webhooks
from qw.services.events.webhooks import Signer, check_secrets
from qw.store.connection import Connection
from qw.store.pool import Pool

RULE = Webhook(name="audit", url="http://there/hook", events=frozenset(), secret_env="AUDIT_KEY")
VARIABLES = {"AUDIT_KEY": "secret", "OTHER": "password"}


async def _nothing(name: str) -> Webhook | None:
    return None


def signer(environ: Mapping[str, str] = VARIABLES) -> Signer:
    return Signer({"audit": RULE}, environ, _nothing)


def asked(name: str = "audit", key: str = "AUDIT_KEY") -> dict[str, str]:
    return {HEADER: name, KEY_HEADER: key, "qw-event": "e1"}


async def test_a_request_of_a_rule_is_signed_with_the_key_of_the_rule() -> None:
    signed = await signer()(asked(), RULE.url, b"{}")

    assert signed["webhook-id"] == "e1"
    assert signed["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        (asked(key="OTHER"), RULE.url),
        (asked(name="unknown"), RULE.url),
        (asked(), "http://elsewhere/hook"),
    ],
    ids=["another variable", "no such rule", "another receiver"],
)
async def test_nothing_is_signed_that_no_rule_made(headers: dict[str, str], url: str) -> None:
    with pytest.raises(Retry, match=r"no webhook '(audit|unknown)' with this URL and secret_env"):
        await signer()(headers, url, b"pay mallory")


async def test_a_task_that_is_no_delivery_is_not_signed() -> None:
    assert await signer()({KEY_HEADER: "AUDIT_KEY"}, RULE.url, b"") == {}


async def test_an_applied_rule_signs_too(pool: Pool, conn: Connection) -> None:
    sign = Signer({}, VARIABLES, stored_webhooks(pool))
    with pytest.raises(Retry):
        await sign(asked(), RULE.url, b"{}")

    document = '{"url": "http://there/hook", "secret_env": "AUDIT_KEY"}'
    await conn.execute("insert into qw.owned values ('webhook', 'audit', 'me', %s)", (document,))

    assert "webhook-signature" in await sign(asked(), RULE.url, b"{}")


def test_a_rule_without_its_secret_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"webhooks\.audit\.secret_env: environment variable is not set"):
        check_secrets([RULE], {})


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a plain secret, not in base64"])
async def test_receivers_that_follow_the_specification_accept_what_is_signed(secret: str) -> None:
    standardwebhooks = pytest.importorskip("standardwebhooks")
    receiver = standardwebhooks.Webhook(secret if secret.startswith("whsec_") else secret.encode())
    body = b'{"type":"qw.task.completed.v1","data":{"name":"Zo\xc3\xab"}}'

    headers = await signer({"AUDIT_KEY": secret})(asked(), RULE.url, body)

    assert receiver.verify(body, headers)["type"] == "qw.task.completed.v1"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.verify(body + b" ", headers)


def test_a_secret_that_is_no_base64_after_its_prefix_is_told_at_the_start() -> None:
    with pytest.raises(Misconfigured, match=r"webhooks.audit.secret_env: .* must continue in base64"):
        check_secrets([RULE], {"AUDIT_KEY": "whsec_ä!"})
