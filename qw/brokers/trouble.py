"""What a broker library raises, as the one error that callers know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from qw.core.errors import Unavailable


@contextmanager
def unavailable(broker: str, url: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn *kinds* and what the network raises into Unavailable, without the passwords in *url*."""
    expected: tuple[type[Exception], ...] = (OSError, EOFError, *kinds)
    try:
        yield
    except TimeoutError:
        raise Unavailable(f"{broker} does not answer") from None
    except expected as error:
        text = str(error).strip() or type(error).__name__
        raise Unavailable(f"{broker}: {without_secrets(text.splitlines()[0], url)}") from error


def without_secrets(text: str, url: str) -> str:
    """*text* without the passwords that stand in *url* (several addresses may have a comma between them)."""
    for part in url.split(","):
        parts = urlsplit(part.strip())
        for secret in (parts.password, parts.username if parts.password is None else None):
            if secret:
                text = text.replace(unquote(secret), "***").replace(secret, "***")
    return text
