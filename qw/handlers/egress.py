"""Which addresses handlers may connect to: public ones, and those that the operator allows by network, host or URL.

The policy checks the resolved addresses when a connection is opened, and the connection goes to a checked address: no
second look-up could return a different one. Redirects are checked like any other connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

from qw.core.errors import Misconfigured
from qw.core.task.handler_api import Reject

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS = {"http": 80, "https": 443, "smtp": 25}
_NAT64 = IPv6Network("64:ff9b::/96")


class EgressRefused(Reject):
    """The policy forbids this connection."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of *host* from the system's resolver, in its order. Raise OSError if there are none."""
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in addresses))


@dataclass(frozen=True, kw_only=True)
class EgressRule:
    """Allows a host by name, or a network, on one port; on all ports if *port* is None."""

    host: str | None = None
    network: Network | None = None
    port: int | None = None

    def allows(self, host: str, port: int, address: Address) -> bool:
        if self.port not in (None, port):
            return False
        return address in self.network if self.network else self.host == host


@dataclass(frozen=True, kw_only=True)
class Egress:
    """The egress policy. *resolve* returns the addresses of a host and port."""

    rules: tuple[EgressRule, ...] = ()
    resolve: Resolve = system_resolve

    @classmethod
    def allowing(cls, *allow: str, resolve: Resolve = system_resolve) -> Egress:
        """Allow ``10.0.0.0/8``, ``127.0.0.1``, ``intranet``, ``intranet:8080``, ``[::1]:80`` or the host of a URL."""
        return cls(rules=tuple(map(_rule, allow)), resolve=resolve)

    def also(self, url: str) -> Egress:
        """Return this policy, extended by the host and port of *url*."""
        return replace(self, rules=(*self.rules, _rule(origin(url))))

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Return the addresses to try, in order. Raise EgressRefused if any is forbidden, OSError if there is none."""
        name = host.rstrip(".").lower()
        addresses = [_unmapped(ip_address(text)) for text in await self.resolve(host, port)]
        for address in addresses:
            if not is_public(address) and not any(rule.allows(name, port, address) for rule in self.rules):
                raise EgressRefused(f"{host}:{port} is {address}, not a public address; QW_HTTP_ALLOW can allow it")
        if not addresses:
            raise OSError(f"{host} has no address")
        return addresses


def is_public(address: Address) -> bool:
    """Whether *address* is globally reachable, as well as any IPv4 address embedded in it."""
    if isinstance(address, IPv6Address) and (inner := _carried(address)):
        return is_public(inner)
    odd = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not odd


def redact(url: str) -> str:
    """Return *url* for an error or a log: without user and password, the query replaced by ``?…``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an unreadable URL"
    host = parts.netloc.rpartition("@")[2]
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{host}{parts.path}{query}" if parts.scheme else f"{host}{parts.path}{query}"


def origin(url: str) -> str:
    """Return the scheme, host and port of *url*."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme)}"


def _rule(text: str) -> EgressRule:
    try:
        return EgressRule(network=ip_network(text.strip(), strict=False))
    except ValueError:
        pass
    try:
        parts = urlsplit(text.strip() if "://" in text else f"//{text.strip()}")
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        host, port = None, None
    if not host or "*" in host or (parts.path and not parts.scheme):
        raise Misconfigured(f"{redact(text)!r} is not a network, a host, host:port or a URL")
    try:
        return EgressRule(network=ip_network(host), port=port)
    except ValueError:
        return EgressRule(host=host.rstrip("."), port=port)


def _unmapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _carried(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to *address* finally reach: mapped, 6to4, Teredo or NAT64."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
