"""The values of a step's secrets, read when an attempt starts and never stored."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias

from qw.core.task.handler_api import Context, Reject
from qw.core.task.secret_mask import SecretMask
from qw.core.workflow.secrets import Secret, SecretName, SecretTexts

MAX_BYTES = 64 * 1024  # maximum size of a secret


@dataclass(frozen=True, kw_only=True)
class Revealed:
    """``values``: variables or headers by name. ``mask`` removes the secrets in them from stored data."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    mask: SecretMask = field(default_factory=SecretMask, repr=False)


Reveal: TypeAlias = Callable[[Context], Awaitable[Revealed]]
"""Returns the secrets that the step of an attempt declares. Raises Reject, naming those that cannot be read."""


async def no_secrets(context: Context) -> Revealed:
    raise Reject("secrets: only a step of a workflow has secrets")


@dataclass(frozen=True, kw_only=True)
class SecretReader:
    """Reads secrets from *environ* and from files. *allowed*: patterns of variables and paths; None allows all."""

    environ: Mapping[str, str] = field(repr=False)
    allowed: tuple[str, ...] | None = None

    async def reveal(self, texts: SecretTexts, declared: Mapping[str, Secret]) -> Revealed:
        names, revealed = sorted(texts.names()), {}
        faults = []
        for name in names:
            try:
                revealed[name] = await self._value(declared[name])
            except _Missing as missing:
                faults.append(f"secret {name}: {missing}")
        if faults:
            raise Reject("; ".join(faults))
        values = {
            target: "".join(revealed[piece.name] if isinstance(piece, SecretName) else piece for piece in text)
            for target, text in texts.texts.items()
        }
        return Revealed(values=values, mask=SecretMask(revealed.values()))

    async def _value(self, secret: Secret) -> str:
        if self.allowed is not None and not any(fnmatchcase(secret.place, pattern) for pattern in self.allowed):
            raise _Missing(f"this daemon may not read {secret}: name it in QW_SECRET_SOURCES")
        if secret.env:
            value = self.environ.get(secret.env)
            if value is None:
                raise _Missing(f"{secret} is not set for this daemon")
        else:
            value = await asyncio.to_thread(_read, secret)
        if not value:
            raise _Missing(f"{secret} is empty")
        if "\0" in value:
            raise _Missing(f"{secret} holds a NUL byte")
        return value


class _Missing(Exception):
    pass


def _read(secret: Secret) -> str:
    try:
        descriptor = os.open(secret.file, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _Missing(f"{secret} is not a regular file")
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _Missing(f"{secret} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise _Missing(f"{secret} is longer than {MAX_BYTES:,} bytes")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise _Missing(f"{secret} is not UTF-8") from None
