"""Encrypted, with a password in the URL, and with the certificate checked against what OpenSSL trusts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from qw.brokers import Broker
from qw.brokers.nats import NatsBroker
from qw.brokers.rabbitmq import RabbitBroker
from qw.brokers.redis import RedisBroker
from qw.core.errors import Unavailable
from qw.core.event import EventFormat
from tests.brokers.places import told
from tests.brokers_services import answers, private
from tests.databases import wait_until
from tests.processes import free_port

MAKERS: dict[str, Any] = {"rabbitmq": RabbitBroker, "nats": NatsBroker, "redis": RedisBroker}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signed by itself, with its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "key.pem").chmod(0o644)
    return folder / "cert.pem"


@contextmanager
def encrypted(name: str, certificate: Path) -> Iterator[str]:
    """The URL, without user and password, of a server that wants ``s3cret-word`` from ``guest``."""
    key, port = certificate.with_name("key.pem"), free_port()
    scheme = {"rabbitmq": "amqps", "nats": "tls", "redis": "rediss"}[name]
    more: dict[str, list[str]] = {
        "rabbitmq": [],
        "nats": ["--tls", "--tlscert", f"{certificate}", "--tlskey", f"{key}", "--user", "guest",
                 "--pass", "s3cret-word"],
        "redis": ["--tls-port", f"{port}", "--tls-cert-file", f"{certificate}", "--tls-key-file", f"{key}",
                  "--tls-ca-cert-file", f"{certificate}", "--tls-auth-clients", "no", "--user",
                  "guest", "on", ">s3cret-word", "~*", "&*", "+@all"],
    }  # fmt: skip

    def configure(directory: Path) -> None:
        if name == "rabbitmq":
            with (directory / "rabbitmq.conf").open("a") as file:
                file.write(f"listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.certfile = {certificate}\n")
                file.write(f"ssl_options.keyfile = {key}\ndefault_pass = s3cret-word\n")

    with private(name, *more[name], configure=configure) as server:
        port = urlsplit(server.url).port or port if name == "nats" else port
        wait_until(lambda: answers(port), 60)
        yield f"{scheme}://{{}}localhost:{port}"


@pytest.mark.parametrize("name", ["redis", "nats", "rabbitmq"])
async def test_a_broker_behind_tls_wants_its_password_and_a_certificate_that_is_trusted(
    name: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broker(login: str) -> Broker:
        made: Broker = MAKERS[name](url.format(login), format=EventFormat.CLOUDEVENTS)
        return made

    with encrypted(name, certificate) as url:
        with pytest.raises(Unavailable, match=r"(?i)certificate") as untrusted:
            await broker("guest:s3cret-word@").publish([told()])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(Unavailable) as refused:
            await broker("guest:wr0ng-word@").publish([told()])
        right, message = broker("guest:s3cret-word@"), told()
        confirmed = await right.publish([message])
        await right.close()

    assert confirmed == {message.id}
    assert "s3cret-word" not in str(untrusted.value)
    assert "wr0ng-word" not in str(refused.value)
