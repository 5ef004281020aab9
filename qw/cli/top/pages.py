"""Pages of top: the output of commands about one object, and confirmation dialogs."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from qw.core.errors import QwError

if TYPE_CHECKING:
    from qw.client import Client

REFRESH_SECONDS = 1.0


class _Terminal(io.StringIO):
    """A text stream that passes for a terminal, so that output is coloured."""

    def isatty(self) -> bool:
        return True


async def printed(work: Awaitable[None]) -> Text:
    """Return what *work* prints, as on a terminal. It replaces sys.stdout, so only one call can run at a time."""
    out = _Terminal()
    with contextlib.redirect_stdout(out):
        await work
    return Text.from_ansi(out.getvalue().rstrip("\n"))


async def bell_or(bell: asyncio.Event, seconds: float) -> None:
    """Wait until *bell* is set, at most *seconds*."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()


class PageScreen(ModalScreen[None]):
    """The page of one object, refreshed every second. ``f`` keeps its end in view."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Back"),
        Binding("f", "follow", "Follow its end"),
        Binding("j", "scroll('scroll_down')", show=False),
        Binding("k", "scroll('scroll_up')", show=False),
    ]

    def __init__(self, client: Client, page: Callable[[Client, str], Awaitable[None]], name: str) -> None:
        super().__init__()
        self._client = client
        self._page = page
        self._name_of_row = name
        self._follows = False
        self._bell = asyncio.Event()

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="page"):
            yield Static(id="text")
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._keep_showing())

    async def _keep_showing(self) -> None:
        while True:
            self._bell.clear()
            await self._show()
            await bell_or(self._bell, REFRESH_SECONDS)

    async def _show(self) -> None:
        try:
            text = await printed(self._page(self._client, self._name_of_row))
        except QwError as error:
            text = Text(str(error), style="red")
        self.query_one("#text", Static).update(text)
        if self._follows:
            self.query_one("#page", VerticalScroll).scroll_end(animate=False)

    def action_follow(self) -> None:
        self._follows = not self._follows
        self.notify("follows the end" if self._follows else "stays where it is")
        self._bell.set()

    def action_scroll(self, way: str) -> None:
        getattr(self.query_one("#page", VerticalScroll), way)(animate=False)


class QuestionScreen(ModalScreen[bool]):
    """A yes-or-no question."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(Text.assemble((self._question, "bold"), "\n\ny: yes   n: no"), id="question")

    def action_answer(self, is_yes: bool) -> None:
        self.dismiss(is_yes)


class HelpScreen(ModalScreen[None]):
    """The list of keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "Back")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Static(self._text, id="question")

    def key_any(self, *_: Any) -> None:
        self.dismiss()
