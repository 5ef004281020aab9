"""Formats of numbers, money and dates by language and region: Unicode CLDR data for the languages of `words`.

Babel has this data for all languages, but adds 36 MB to an installation; `tests/handlers/test_locales.py` compares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from qw.handlers.invoice.money import rounded

_NBSP, _NARROW = "\u00a0", "\u202f"  # narrow: between thousands
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, kw_only=True)
class LocaleFormat:
    """``days``: a `str.format` pattern. ``signs``: currency symbols; other currencies are shown by their code."""

    language: str
    point: str
    group: str
    days: str
    sign_first: bool = False
    sign_space: str = _NBSP
    percent_space: str = _NBSP
    signs: tuple[tuple[str, str], ...] = (("EUR", "€"),)

    def number(self, value: Decimal) -> str:
        """Return the number with all its decimals, without trailing zeros."""
        return self._grouped(f"{value.normalize():f}")

    def amount(self, value: Decimal, currency: str) -> str:
        """Return the amount rounded as the currency requires, without its symbol."""
        return self._grouped(f"{rounded(value, currency):f}")

    def money(self, value: Decimal, currency: str) -> str:
        """Return ``€1,234.50`` in English, ``1.234,50 €`` in German; ``CHF 12.00`` if there is no symbol."""
        sign = dict(self.signs).get(currency)
        text = self.amount(value, currency)
        if not self.sign_first:
            return f"{text}{_NBSP}{sign or currency}"
        return f"{sign}{self.sign_space}{text}" if sign else f"{currency}{_NBSP}{text}"

    def percent(self, value: Decimal) -> str:
        return f"{self.number(value)}{self.percent_space}%"

    def day(self, value: date) -> str:
        return self.days.format(d=value.day, m=value.month, y=value.year, month=_MONTHS[value.month - 1])

    def _grouped(self, plain: str) -> str:
        whole, _, decimals = plain.partition(".")
        return f"{int(whole):,}".replace(",", self.group) + (self.point + decimals if decimals else "")


_ENGLISH = LocaleFormat(
    language="en", point=".", group=",", days="{d} {month} {y}", sign_first=True, sign_space="", percent_space="",
    signs=(("EUR", "€"), ("GBP", "£")),
)  # fmt: skip
_GERMAN = LocaleFormat(language="de", point=",", group=".", days="{d:02}.{m:02}.{y}")

FORMATS = {
    "en": _ENGLISH,
    "en-US": replace(_ENGLISH, days="{month} {d}, {y}", signs=(*_ENGLISH.signs, ("USD", "$"))),
    "de": _GERMAN,
    "de-CH": replace(_GERMAN, point=".", group="’", sign_first=True, percent_space="", signs=()),
    "fr": LocaleFormat(language="fr", point=",", group=_NARROW, days="{d:02}/{m:02}/{y}"),
    "it": LocaleFormat(language="it", point=",", group=".", days="{d:02}/{m:02}/{y}", percent_space=""),
    "es": LocaleFormat(language="es", point=",", group=".", days="{d}/{m}/{y}"),
    "nl": LocaleFormat(
        language="nl", point=",", group=".", days="{d:02}-{m:02}-{y}", sign_first=True, percent_space=""
    ),
}


def format_of(locale: str | None) -> LocaleFormat:
    """Return the format of the language and region, else that of the language, else English."""
    language, _, region = (locale or "").replace("_", "-").partition("-")
    exact = f"{language.lower()}-{region.upper()}"
    return FORMATS.get(exact) or FORMATS.get(language.lower()) or _ENGLISH
