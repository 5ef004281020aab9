"""Settings that are on or off."""

from __future__ import annotations

from qw.core.errors import Invalid

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def switch(value: object) -> bool:
    known = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if known is None:
        raise Invalid(f"{value!r} is not true or false")
    return known
