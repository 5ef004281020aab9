"""Every screen, in a real browser: it opens without a fault, fits its window, and can be used by everybody."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.ui.work import SCREENS, Shop

Visit = Callable[..., Any]


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_opens_without_a_fault_and_fits_every_window(shop: Shop, visit: Visit, screen: str) -> None:
    opened = visit(shop, SCREENS[screen](shop))
    opened.settled()

    assert opened.overflow() <= 0
    assert opened.axe() == []
    opened.narrow_and_dark()
    assert opened.overflow() <= 0
    assert opened.axe() == []


@pytest.mark.parametrize("path", ["ui/tasks/01890000-0000-7000-8000-000000000000", "ui/tasks/42", "ui/runs/42"])
def test_an_id_that_does_not_exist_is_a_page(shop: Shop, visit: Visit, path: str) -> None:
    opened = visit(shop, path, allow=(400, 404))

    opened.see("There is no")


def test_the_first_page_is_small_and_soon_usable(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "")
    opened.settled()

    sizes = opened.page.evaluate(
        "performance.getEntriesByType('resource').filter(e => e.name.includes('/ui/')).map(e => e.encodedBodySize)"
    )

    assert 0 < sum(sizes) <= 150_000


def newest_failed(shop: Shop) -> str:
    return str(shop.get("/api/tasks?status=failed&limit=1")["tasks"][0]["id"])


def test_the_keys_lead_around(shop: Shop, visit: Visit) -> None:
    assert shop.failed
    opened = visit(shop, "")
    opened.settled()
    keyboard = opened.page.keyboard

    keyboard.press("g")
    keyboard.press("t")
    opened.page.wait_for_url(re.compile("/ui/tasks$"))
    opened.page.wait_for_selector("tbody tr")
    keyboard.press("/")
    assert opened.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Search tasks"
    keyboard.type("status:failed")
    keyboard.press("Enter")
    opened.page.wait_for_url(re.compile(r"q=status%3Afailed"))
    opened.settled()
    opened.page.evaluate("document.activeElement.blur()")
    opened.page.wait_for_function(
        "id => document.querySelector('tbody tr')?.dataset.row === id", arg=newest_failed(shop)
    )
    keyboard.press("j")  # before, a row of the list without the filter would be chosen, and forgotten with it
    opened.page.wait_for_selector("tr.current")
    keyboard.press("?")
    opened.see("Next row", within="dialog")


def test_the_pause_also_stops_the_refresh_on_focus(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/queues")
    opened.settled()
    opened.press("Pause live updates")
    opened.see("Paused")
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))

    opened.page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange')); window.dispatchEvent(new Event('focus'))"
    )
    shop.task("noop")
    opened.page.wait_for_timeout(1500)

    assert asked == []


def test_rows_stay_where_they_are_until_new_ones_are_asked_for(shop: Shop, visit: Visit) -> None:
    first = shop.task("noop", queue="still")
    shop.final(first)
    opened = visit(shop, "ui/tasks?q=queue:still")
    opened.page.wait_for_selector("tbody tr")

    second = shop.task("noop", queue="still")
    opened.see("1 new task")
    assert opened.page.locator(f'tr[data-row="{second}"]').count() == 0
    opened.see("1 new task").click()

    opened.page.wait_for_selector(f'tr[data-row="{second}"]')


def test_a_theme_that_was_chosen_is_kept(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/queues")
    opened.settled()
    opened.press("Theme: system")
    opened.press("Theme: light")

    opened.page.reload()
    opened.settled()

    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_screen_that_cannot_draw_its_data_says_so_and_the_others_go_on(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, "ui/workers")
    opened.settled()
    opened.page.route("**/api/queues", lambda route: route.fulfill(json={"queues": [{"name": 1}]}))

    opened.page.get_by_role("link", name="Queues").click()
    opened.see("This screen could not be loaded")
    opened.page.get_by_role("link", name="Tasks").click()

    opened.page.wait_for_selector("h1:has-text('Tasks')")


@pytest.mark.slow
def test_a_page_that_is_refreshed_all_day_does_not_grow(shop: Shop, visit: Visit) -> None:
    opened = visit(shop, f"ui/runs/{shop.approval}?step=charge")
    opened.settled()
    answers: list[str] = []
    opened.page.on("response", lambda response: answers.append(response.url))

    def heap_after(refreshes: int) -> float:
        """In megabytes."""
        answers.clear()
        while sum(url.endswith("/timeline") for url in answers) < refreshes:
            opened.page.evaluate(_REFRESHES)
        return float(opened.heap())

    first = heap_after(100)
    assert heap_after(200) - first < 0.5


_REFRESHES = """async () => {
  const { beat } = await import(new URL("lib/live.js", document.querySelector("script[src]").src));
  for (let at = 0; at < 20; at++) {
    beat.value++;
    await new Promise((after) => setTimeout(after, 20));
  }
}"""
