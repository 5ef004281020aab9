"""A worker behind a URL is called as `http_request` calls: no proxy, a cap, no way to elsewhere."""

from __future__ import annotations

import gzip
import tracemalloc
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from qw.core.task.handler_api import Reject
from qw.core.task.remote import Remote
from qw.handlers import Handlers, egress
from qw.handlers.answer import ResponseTooLarge
from qw.handlers.invoice.service import ServiceCall, ServiceFailed
from qw.handlers.invoice.service import answer as service_answer
from qw.handlers.remote import _post
from tests.handlers.local import service


def remote(url: str) -> Remote:
    return Remote(type="shout", queue=None, url=url, timeout=timedelta(seconds=5), max_retries=1)


def context() -> Any:
    return SimpleNamespace(
        task_id="1", type="shout", attempt=1, idempotency_key="k", payload={"text": "secret"}, headers={}
    )


async def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service({"result": 1}) as proxy, service({"result": 2}) as worker:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        got = await _post(worker.url, remote(worker.url), context())

    assert got == b'{"result":2}'
    assert proxy.received == []


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_is_cut_off_at_its_cap_while_it_is_read(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr("qw.handlers.remote.MAX_READ", 100_000)
    body = b"x" * 50_000_000
    async with service(gzip.compress(body) if packed else body) as worker:
        worker.headers = {"content-encoding": "gzip"} if packed else {}

        tracemalloc.start()
        with pytest.raises(ResponseTooLarge, match="longer than 100,000 bytes"):
            await _post(worker.url, remote(worker.url), context())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 10_000_000 if packed else True  # what is sent plainly, this process holds as the server


@pytest.mark.parametrize("kind", ["remote", "service"])
async def test_a_redirect_leads_to_no_other_place_in_the_private_network(kind: str) -> None:
    async with service({"result": 1}) as elsewhere, service(b"") as worker:
        worker.status, worker.headers = 307, {"location": elsewhere.url}

        if kind == "remote":
            with pytest.raises(Reject, match="not a public address"):
                await _post(worker.url, remote(worker.url), context())
        else:
            with pytest.raises(ServiceFailed, match="not a public address"):
                await service_answer(ServiceCall(method="POST", url=worker.url, timeout=timedelta(seconds=5)))

    assert elsewhere.received == []


def test_an_exemption_is_for_one_host_and_port() -> None:
    rules = egress.Egress().also("https://10.0.0.5:8443/hook?x=1").rules

    assert [(str(rule.network), rule.port) for rule in rules] == [("10.0.0.5/32", 8443)]
    assert egress.Egress().also("https://intranet/hook").rules[0].port == 443


async def test_a_webhooks_host_is_open_to_deliveries_of_its_rule_only() -> None:
    from functools import partial

    from qw.core.event.webhook import Webhook
    from qw.handlers.http_request import HttpOptions, add_http_request
    from qw.services.events.webhooks import receiver
    from tests.handlers.context import MemoryContext, run

    app = Handlers()
    async with service({"ok": True}) as target:
        hook = Webhook(name="audit", url=f"{target.url}/hook", events=frozenset())
        close = add_http_request(app, HttpOptions(exempt=partial(receiver, {"audit": hook})))
        outcomes = {}
        for name, url, headers in (
            ("delivery", hook.url, {"qw-webhook": "audit"}),
            ("other path", f"{target.url}/admin", {"qw-webhook": "audit"}),
            ("other rule", hook.url, {"qw-webhook": "else"}),
            ("task", hook.url, {}),
        ):
            try:
                await run(app, "http_request", {"url": url, "method": "POST"}, MemoryContext(headers=headers))
                outcomes[name] = "sent"
            except egress.EgressRefused:
                outcomes[name] = "refused"
        await close()

    assert outcomes == {"delivery": "sent", "other path": "refused", "other rule": "refused", "task": "refused"}
    assert [request.path for request in target.received] == ["/hook"]
