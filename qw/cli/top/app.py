"""The screen of ``qw top``: tabs, the rows of the open tab, and keys that act on the selected row."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from qw.cli.output.tables import table_lines
from qw.cli.top.overview import overview_lines
from qw.cli.top.pages import HelpScreen, PageScreen, QuestionScreen, bell_or
from qw.cli.top.tabs import TABS, Rows, Tab
from qw.core.errors import QwError

if TYPE_CHECKING:
    from qw.client import Client

_MARGIN = 4  # cells beside a row: the list's padding and its scroll bar

_HELP = """\
1 to 5, tab   the tabs: overview, tasks, runs, schedules, workers
j k, arrows   select a row         enter   its page
r  retry      c  cancel            p       pause or resume
/  search tasks: status:failed type:send_email queue:mail since:2h
   payload.customerId:zoe "text in the error"
f  on a page: keep its end in view, such as a log that grows
?  this help                       q       quit"""


class TopApp(App[None]):
    """The application, refreshed every *seconds*. Tabs and actions are defined in `qw.cli.top.tabs`."""

    CSS = """
    #tabs { height: 1; background: $panel; }
    #summary { height: auto; padding: 0 1; }
    #titles { height: 1; padding: 0 1; }
    #rows { height: 1fr; border: none; padding: 0; background: $background; }
    #rows > .option-list--option { padding: 0 1; }
    #rows:focus > .option-list--option-highlighted { background: $primary 35%; }
    #search { display: none; height: 1; border: none; padding: 0 1; }
    #search.shown { display: block; }
    ModalScreen { align: center middle; }
    PageScreen { background: $background; }
    #page { padding: 0 1; }
    #question { width: auto; max-width: 76; height: auto; padding: 1 3; background: $panel; border: round $primary; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"tab({number - 1})", show=False) for number in range(1, len(TABS) + 1)),
        Binding("tab,right", "next_tab(1)", "Next tab", show=False, priority=True),
        Binding("shift+tab,left", "next_tab(-1)", show=False, priority=True),
        Binding("j", "move(1)", show=False),
        Binding("k", "move(-1)", show=False),
        Binding("enter", "open", "Open"),
        Binding("r", "act('r')", "Retry"),
        Binding("c", "act('c')", "Cancel"),
        Binding("p", "act('p')", "Pause"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, client: Client, *, seconds: float = 1.0, tab: int = 0) -> None:
        super().__init__()
        self._client = client
        self._seconds = seconds
        self._place = tab
        self._search = ""
        self._rows = Rows(columns=(), items=())
        self._seen_at: float | None = None
        self._error = ""
        self._bell = asyncio.Event()

    @property
    def tab(self) -> Tab:
        return TABS[self._place]

    def compose(self) -> ComposeResult:
        yield Static(id="tabs")
        yield Static(id="summary")
        yield Static(id="titles")
        yield OptionList(id="rows")
        yield Input(id="search", placeholder='status:failed type:send_email since:2h "text in the error"', compact=True)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#rows", OptionList).focus()
        self._switch(self._place)
        self.run_worker(self._keep_looking(), group="look")

    # -- display

    async def _keep_looking(self) -> None:
        while True:
            self._bell.clear()
            if len(self.screen_stack) == 1:  # a page above refreshes itself
                await self._look()
            await bell_or(self._bell, self._seconds)

    def refresh_rows(self) -> None:
        """Refresh now instead of at the next interval."""
        self._bell.set()

    async def _look(self) -> None:
        tab = self.tab
        try:
            summary = await self._summary()
            rows = await tab.rows(self._client, self._search)
        except QwError as error:
            self._error = str(error)
            if self._is_shown:
                self._show_state()
            return
        if tab is not self.tab or not self._is_shown:
            return  # the tab changed during the query, or the app closes
        self._error, self._seen_at = "", time.monotonic()
        self._rows = rows
        self._show_state(summary)
        self._show_rows()

    @property
    def _is_shown(self) -> bool:
        return bool(self.query("#summary"))

    async def _summary(self) -> list[Text]:
        if self._place == 0:
            return overview_lines(await self._client.health.glance(), self.size.width - 2)
        if self.tab.has_search:
            return [Text(f"search: {self._search}" if self._search else "all tasks, newest first; / searches")]
        return []

    def _show_state(self, summary: list[Text] | None = None) -> None:
        if self._error:
            age = "" if self._seen_at is None else f" (shown: {time.monotonic() - self._seen_at:.0f} s old)"
            summary = [Text(f"{self._error}{age}", style="red")]
        self.query_one("#summary", Static).update(Text("\n").join(summary or []))

    def _show_rows(self) -> None:
        rows, listed = self._rows, self.query_one("#rows", OptionList)
        titles, *lines = table_lines(
            rows.columns, rows.items, width=self.size.width - _MARGIN, id_length=rows.id_length
        )
        self.query_one("#titles", Static).update(titles)
        selected = self._selected_name()
        names = [self.tab.name(item) for item in rows.items]
        listed.clear_options()
        if not rows.items:
            listed.add_option(Option(f"no {self.tab.noun}s", disabled=True))
            return
        listed.add_options([Option(line, id=name) for line, name in zip(lines, names, strict=True)])
        listed.highlighted = names.index(selected) if selected in names else 0

    def _selected_name(self) -> str | None:
        listed = self.query_one("#rows", OptionList)
        if listed.highlighted is None:
            return None
        return listed.get_option_at_index(listed.highlighted).id

    def _selected(self) -> Any | None:
        name = self._selected_name()
        return next((item for item in self._rows.items if self.tab.name(item) == name), None)

    # -- keys

    def _switch(self, place: int) -> None:
        self._place = place % len(TABS)
        self._rows = Rows(columns=(), items=())
        self.query_one("#rows", OptionList).clear_options()
        self.query_one("#titles", Static).update("")
        tabs = Text(" ")
        for number, tab in enumerate(TABS):
            tabs.append(f" {number + 1} {tab.title} ", style="reverse" if number == self._place else "")
        self.query_one("#tabs", Static).update(tabs)
        self.refresh_bindings()
        self.refresh_rows()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the keys that do nothing in this tab."""
        if action == "act":
            return parameters[0] in self.tab.actions
        return self.tab.has_search if action == "search" else True

    def action_tab(self, place: int) -> None:
        self._switch(place)

    def action_next_tab(self, step: int) -> None:
        if len(self.screen_stack) == 1 and not self.query_one("#search", Input).has_focus:
            self._switch(self._place + step)

    def action_move(self, step: int) -> None:
        listed = self.query_one("#rows", OptionList)
        if step > 0:
            listed.action_cursor_down()
        else:
            listed.action_cursor_up()

    def action_open(self) -> None:
        if name := self._selected_name():
            self.push_screen(PageScreen(self._client, self.tab.page, name), lambda _: self.refresh_rows())

    def on_option_list_option_selected(self) -> None:
        self.action_open()

    def action_help(self) -> None:
        self.push_screen(HelpScreen(_HELP))

    def action_act(self, key: str) -> None:
        item, tab = self._selected(), self.tab
        if item is None:
            return
        action, name = tab.actions[key], tab.name(item)
        if refusal := action.refusal(item):
            self.notify(f"{tab.noun} {name}: cannot {action.verb} it: {refusal}", severity="warning")
            return

        async def act() -> None:
            try:
                await action.act(self._client, item)
            except QwError as error:
                self.notify(str(error), severity="error", timeout=10)
            else:
                self.notify(f"{action.verb}: {tab.noun} {name}")
            self.refresh_rows()

        def answered(is_yes: bool | None) -> None:
            if is_yes:
                self.run_worker(act(), group="act")

        self.push_screen(QuestionScreen(f"{action.verb.capitalize()} {tab.noun} {name}?"), answered)

    def action_search(self) -> None:
        search = self.query_one("#search", Input)
        search.add_class("shown")
        search.value = self._search
        search.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._search = event.value.strip()
        self._end_search()

    def on_key(self, event: Any) -> None:
        if event.key == "escape" and self.query_one("#search", Input).has_focus:
            event.stop()
            self._end_search()

    def _end_search(self) -> None:
        self.query_one("#search", Input).remove_class("shown")
        self.query_one("#rows", OptionList).focus()
        self.refresh_rows()
