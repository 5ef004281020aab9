"""The content of a mail as text and as HTML. The HTML is one column with inline styles, as mail programs need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_PAGE = (
    '<!DOCTYPE html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title></head>'
    '<body style="margin:0;padding:24px;background:#f4f5f6">'
    '<div style="max-width:560px;margin:0 auto;padding:28px 32px;background:#fff;border-radius:6px;'
    'font:15px/1.5 Helvetica,Arial,sans-serif;color:#1a1a1f">{content}</div></body></html>'
)
_CELL = "padding:3px 16px 3px 0;vertical-align:top"


@dataclass(frozen=True, kw_only=True)
class Letter:
    """Paragraphs, with ``facts`` (label, text) after the first ``before`` of them. ``link``: the URL of the PDF."""

    language: str
    title: str
    paragraphs: Sequence[str]
    facts: Sequence[tuple[str, str]] = ()
    before: int = 0
    link: str | None = None

    @property
    def text(self) -> str:
        parts = list(self.paragraphs)
        if self.facts:
            parts.insert(self.before, "\n".join(f"{label}: {text}" for label, text in self.facts))
        return "\n\n".join([*parts, *([self.link] if self.link else [])])

    @property
    def html(self) -> str:
        parts = [f'<p style="margin:0 0 14px">{_lines(text)}</p>' for text in self.paragraphs]
        if self.facts:
            parts.insert(self.before, _table(self.facts))
        if self.link:
            address = escape(self.link)
            parts.append(f'<p style="margin:0"><a href="{address}" style="color:#0b57d0">{address}</a></p>')
        return _PAGE.format(language=self.language, title=escape(self.title), content="".join(parts))


def _table(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><td style="{_CELL};color:#666">{escape(label)}</td><td style="{_CELL}"><b>{escape(text)}</b></td></tr>'
        for label, text in facts
    )
    return f'<table role="presentation" style="margin:0 0 14px;border-collapse:collapse">{rows}</table>'


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.splitlines())
