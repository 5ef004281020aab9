"""The formats of invoices beside those of Babel, which has them from Unicode's CLDR."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from decimal import Decimal
from string import Formatter

import pytest
from babel.dates import format_date, format_skeleton
from babel.numbers import format_currency, format_percent

from qw.handlers.invoice.locales import FORMATS, format_of
from qw.handlers.invoice.words import LANGUAGES, Words

CLDR = {"en": "en_GB"}  # English without a region is that of Europe
PLAIN = str.maketrans({"\u00a0": " ", "\u202f": " ", "’": "'"})


@pytest.mark.parametrize("value", ["0", "0.5", "12", "1234.5", "98765.43"])
@pytest.mark.parametrize("currency", ["EUR", "CHF"])
@pytest.mark.parametrize("locale", FORMATS)
def test_money_is_written_as_in_cldr(locale: str, currency: str, value: str) -> None:
    ours = FORMATS[locale].money(Decimal(value), currency).translate(PLAIN)
    theirs = format_currency(Decimal(value), currency, locale=CLDR.get(locale, locale.replace("-", "_"))).translate(
        PLAIN
    )

    assert ours.replace("CHF ", "CHF") == theirs.replace("CHF ", "CHF")  # Babel forgets the blank after a code


@pytest.mark.parametrize("rate", ["0", "7", "19", "5.5"])
@pytest.mark.parametrize("locale", FORMATS)
def test_rates_are_written_as_in_cldr(locale: str, rate: str) -> None:
    name = CLDR.get(locale, locale.replace("-", "_"))
    theirs = format_percent(Decimal(rate) / 100, locale=name, decimal_quantization=False)

    assert FORMATS[locale].percent(Decimal(rate)).translate(PLAIN) == theirs.translate(PLAIN)


@pytest.mark.parametrize("day", [date(2026, 3, 4), date(2026, 11, 24)])
@pytest.mark.parametrize("locale", FORMATS)
def test_days_are_written_as_in_cldr(locale: str, day: date) -> None:
    name = CLDR.get(locale, locale.replace("-", "_"))
    known = {format_date(day, "medium", name), format_skeleton("yMMdd", day, locale=name)}
    if locale == "nl":
        known = {format_date(day, "dd-MM-yyyy", name)}  # as in trade; CLDR has no leading zeros

    assert FORMATS[locale].day(day) in known


def test_each_language_has_a_format() -> None:
    assert set(LANGUAGES) == {each.language for each in FORMATS.values()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_languages_have_the_same_blanks(language: str) -> None:
    for field in fields(Words):
        texts = getattr(LANGUAGES[language], field.name), getattr(LANGUAGES["en"], field.name)
        ours, english = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in texts)
        assert ours == english, field.name


@pytest.mark.parametrize(
    ("locale", "language"), [("de_AT", "de"), ("DE-ch", "de"), ("pt-BR", "en"), (None, "en"), ("fr-CA", "fr")]
)
def test_a_region_that_is_not_known_reads_as_its_language(locale: str | None, language: str) -> None:
    assert format_of(locale).language == language


def test_a_currency_without_cents_is_written_without() -> None:
    assert FORMATS["de"].money(Decimal("1234.5"), "JPY") == "1.235\u00a0JPY"
