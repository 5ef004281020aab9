"""A4 pages and how to draw on them: fonts, text that is cut, wrapped or shrunk to fit, lines and codes.

Positions are in millimetres from the left and the top. Text is drawn literally; markup in it is not interpreted.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from qw.handlers.invoice.archive import embed

FONTS = Path(__file__).parent.parent / "fonts"
BODY, BOLD = "DejaVuSans", "DejaVuSans-Bold"
WIDTH, HEIGHT = A4[0] / mm, A4[1] / mm
BLACK, GREY, PALE, RED = (0.1, 0.1, 0.12), (0.4, 0.42, 0.45), (0.8, 0.82, 0.84), (0.75, 0.1, 0.1)
_names = {False: BODY, True: BOLD}  # the regular and bold font; process-wide, like reportlab's fonts
_NEVER_FIRST = frozenset(
    "、。，．・：；？！）］｝〉》」』】〕ー々…)]},.:;?!%ぁぃぅぇぉっゃゅょァィゥェォッャュョ"
)  # of a line
_QUIET = 4  # width of the white border in modules


class Paper:
    """The pages of one document, drawn in order."""

    def __init__(self, *, language: str) -> None:
        self._buffer = io.BytesIO()
        self.canvas: Any = Canvas(
            self._buffer,
            pagesize=A4,
            invariant=1,
            initialFontName=_names[False],
            pageCompression=1,
            lang=language,
            pdfVersion=(1, 7),
        )

    def describe(self, *, title: str, author: str, subject: str, made: datetime) -> None:
        canvas, moment = self.canvas, made.astimezone(UTC)
        canvas.setTitle(title)
        canvas.setAuthor(author)
        canvas.setSubject(subject)
        canvas.setCreator("qw")
        canvas.setProducer("qw")
        self._made = moment
        stamp = canvas._doc._timeStamp  # fixed, so that the same invoice gives the same bytes
        stamp.t, stamp.lt, stamp.YMDhms = moment.timestamp(), moment.timetuple(), tuple(moment.timetuple())[:6]

    def embed(self, name: str, content: bytes) -> None:
        """Make the document a PDF/A-3 with the XML *content* embedded. Call it after `describe`."""
        embed(self.canvas._doc, name=name, content=content, made=self._made)

    def turn(self) -> None:
        """Begin the next page."""
        self.canvas.showPage()

    def finish(self) -> bytes:
        self.canvas.save()
        return self._buffer.getvalue()

    def text(
        self, x: float, y: float, text: str, *, size: float = 9, bold: bool = False, color: Any = BLACK,
        right: bool = False, width: float | None = None,
    ) -> None:  # fmt: skip
        """Draw *text* with its baseline at *y*. *right*: it ends at *x*. *width*: shrink it to fit."""
        font, shown = _names[bold], printable(text)
        if width is not None:
            size = min(size, size * width / max(text_width(shown, size, bold=bold), 0.001))
        self.canvas.setFont(font, size)
        self.canvas.setFillColorRGB(*color)
        (self.canvas.drawRightString if right else self.canvas.drawString)(x * mm, (HEIGHT - y) * mm, shown)

    def line(self, left: float, right: float, y: float, *, thick: float = 0.5, color: Any = PALE) -> None:
        self.canvas.setLineWidth(thick)
        self.canvas.setStrokeColorRGB(*color)
        self.canvas.line(left * mm, (HEIGHT - y) * mm, right * mm, (HEIGHT - y) * mm)

    def code(self, x: float, y: float, size: float, value: str) -> None:
        """Draw a QR code with its white border; *x* and *y* are its upper left corner."""
        code = QrCodeWidget(value, barLevel="M").qr
        code.make()
        module = size / (code.getModuleCount() + 2 * _QUIET)
        self.canvas.setFillColorRGB(0, 0, 0)
        path = self.canvas.beginPath()
        for row, cells in enumerate(code.modules):
            top = HEIGHT - y - (row + _QUIET + 1) * module
            for start, length in _runs(cells):
                path.rect((x + (start + _QUIET) * module) * mm, top * mm, length * module * mm, module * mm)
        self.canvas.drawPath(path, stroke=0, fill=1)


def _runs(cells: Iterable[object]) -> Iterator[tuple[int, int]]:
    """Yield the start and length of each run of dark cells."""
    start = length = 0
    for place, cell in enumerate([*cells, False]):
        if cell:
            start, length = (start, length + 1) if length else (place, 1)
        elif length:
            yield start, length
            length = 0


@lru_cache(maxsize=1)
def load_fonts(font: Path | None = None) -> None:
    """Load the fonts; required before all other functions. *font*: a TrueType file that replaces qw's fonts.

    Raise OSError or reportlab's TTFError if it is unusable.
    """
    names = (str(font), str(font)) if font else (BODY, BOLD)
    for name in names:
        pdfmetrics.registerFont(TTFont(name, name if font else str(FONTS / f"{name}.ttf")))
    _names.update(zip((False, True), names, strict=True))
    text_width.cache_clear()


def printable(text: str) -> str:
    """Return *text* with control characters replaced by blanks."""
    return "".join(char if char.isprintable() or char in "\u00a0\u202f" else " " for char in text)


@lru_cache(maxsize=20_000)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in millimetres."""
    points: float = pdfmetrics.stringWidth(text, _names[bold], size)
    return points / float(mm)


def wrapped(text: str, width: float, *, size: float = 9, bold: bool = False) -> list[str]:
    """Return the lines of *text* at this width; words that are longer are cut."""
    lines, line = [], ""
    for word in printable(text).split(" "):
        longer = f"{line} {word}" if line else word
        if text_width(longer, size, bold=bold) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *full, line = _cut(word, width, size, bold)
        lines += full
    return [*lines, line]


def _cut(word: str, width: float, size: float, bold: bool) -> list[str]:
    """Return the pieces of *word* at this width. No piece begins with punctuation that Chinese or Japanese text
    never begins a line with.
    """
    pieces, piece = [], ""
    for char in word:
        if piece and text_width(piece + char, size, bold=bold) > width:
            text = piece + char
            end = next((end for end in range(len(piece), 0, -1) if text[end] not in _NEVER_FIRST), len(piece))
            pieces.append(piece[:end])
            piece = piece[end:]
        piece += char
    return [*pieces, piece]


def not_shown(texts: Iterable[str]) -> str:
    """Return the characters of *texts* that are drawn wrongly: without a glyph, or of scripts that need shaping."""
    glyphs = pdfmetrics.getFont(_names[False]).face.charToGlyph
    chars = {char for text in texts for char in text if char.isprintable()}
    return "".join(sorted(char for char in chars if ord(char) not in glyphs or _is_shaped(char)))


def _is_shaped(char: str) -> bool:
    """Whether *char* needs shaping: right-to-left scripts (Arabic, Hebrew), or Indic ones that combine glyphs."""
    return unicodedata.bidirectional(char) in ("R", "AL") or "\u0900" <= char <= "\u0dff"
