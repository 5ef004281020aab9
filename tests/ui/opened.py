"""A page in a browser of its own profile, with what went wrong in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.processes import slowed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Request, Response

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SECONDS = min(60.0, slowed(15))  # for what should be there soon, beside all else that the machine does


class Opened:
    """``faults``: errors in the console, reports of the policy, requests to other hosts, answers that tell of an error.

    ``allow`` are statuses of answers that are no fault.
    """

    def __init__(self, browser: Browser, base: str, *, allow: tuple[int, ...] = ()) -> None:
        self.base, self.allow = base, allow
        self.faults: list[str] = []
        self.context = browser.new_context(
            viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._requested)
        self.page.on("response", self._answered)

    def goto(self, path: str) -> None:
        self.page.goto(f"{self.base}/{path}", wait_until="domcontentloaded")

    def settled(self) -> None:
        """Nothing is being loaded any more."""
        from playwright.sync_api import expect

        self.page.wait_for_selector("main h1, form h1, .empty")
        expect(self.page.locator(".skeleton")).to_have_count(0, timeout=SECONDS * 1000)

    def see(self, text: str, *, within: str = "body") -> Locator:
        """Wait for *text*; return its element."""
        found = self.page.locator(within).get_by_text(text).first
        found.wait_for()
        return found

    def press(self, name: str, *, within: str = "body") -> None:
        """Click the button or link of that name."""
        self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()

    def narrow_and_dark(self) -> None:
        """On a phone in the night."""
        self.page.set_viewport_size({"width": 390, "height": 844})
        self.page.emulate_media(color_scheme="dark")

    def axe(self) -> list[str]:
        """What is serious for people who cannot see it, or see it badly."""
        from axe_playwright_python.sync_playwright import Axe

        found: Any = Axe().run(self.page).response
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return width

    def heap(self) -> float:
        """The megabytes of JavaScript that are in use once garbage is collected."""
        session = self.context.new_cdp_session(self.page)
        session.send("HeapProfiler.collectGarbage")
        used: int = session.send("Runtime.getHeapUsage")["usedSize"]
        session.detach()
        return used / 1e6

    def _said(self, message: ConsoleMessage) -> None:
        is_answer = message.text.startswith("Failed to load resource")  # `_answered` judges these
        if message.type == "error" and not is_answer:
            self.faults.append(f"console: {message.text}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.faults.append(f"request to {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.allow:
            self.faults.append(f"{response.status} for {response.request.method} {response.url}")
