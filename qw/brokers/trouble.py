"""Turns errors of broker libraries into errors of qw: no contact, login refused, setup refused, or other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from qw.brokers import LoginRefused, SetupRefused
from qw.core.errors import Unavailable, Unreachable

_WORDS: dict[type[Unavailable], tuple[str, str]] = {  # before and after what the library says
    Unreachable: (" cannot be reached: ", ""),
    LoginRefused: (" refuses the login: ", "; check user and password of QW_BROKER_URL"),
    SetupRefused: (" refuses the setup: ", ""),
    Unavailable: (": ", ""),
}


@contextmanager
def unavailable(
    broker: str, url: str, *kinds: type[Exception], kind_of: Callable[[Exception], type[Unavailable]] | None = None
) -> Iterator[None]:
    """Turn errors of *kinds* and network errors into Unavailable, without the passwords in *url*.

    *kind_of* returns the kind of Unavailable for an error of *kinds*; without it, the error counts as lost contact.
    """
    expected: tuple[type[Exception], ...] = (OSError, EOFError, *kinds)
    try:
        yield
    except TimeoutError:
        raise Unreachable(f"{broker} does not respond") from None
    except expected as error:
        text = str(error).strip() or type(error).__name__
        kind = kind_of(error) if kind_of and isinstance(error, kinds) else Unreachable
        before, after = _WORDS[kind]
        raise kind(f"{broker}{before}{without_secrets(text.splitlines()[0], url)}{after}") from error


def reason_of(error: Exception) -> str | None:
    """Why a broker accepts nothing, as stored: unreachable, login or setup; None: another reason."""
    match error:
        case Unreachable():
            return "unreachable"
        case LoginRefused():
            return "login"
        case SetupRefused():
            return "setup"
        case _:
            return None


def without_secrets(text: str, url: str) -> str:
    """*text* without the passwords in *url*, which may contain several addresses separated by commas."""
    for part in url.split(","):
        parts = urlsplit(part.strip())
        for secret in (parts.password, parts.username if parts.password is None else None):
            if secret:
                text = text.replace(unquote(secret), "***").replace(secret, "***")
    return text
