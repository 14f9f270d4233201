"""The live page in a real Chromium: what a person sees and does.

Needs Debian's `chromium` (or another one by FLEETLAKE_CHROMIUM): `make browser-test`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, expect, sync_playwright
from playwright.sync_api import Page as Tab

from schemas import wire
from schemas.topics import ALARM_ACTIONS
from tests.alarm_service.service import PARTITIONS, publish
from tests.support.kafka import read_all
from tests.support.lake import ask as ask_table
from tests.support.paths import ROOT
from tests.support.waiting import eventually_blocking
from tests.ui.chromium import chromium
from tests.ui.running import QUERY_SECONDS, ROWS, SENSOR, Page

pytestmark = pytest.mark.browser

AXE = (ROOT / "tests" / "fixtures" / "axe" / "axe.min.js").read_text()
DEVICE = f"/device?id={quote(SENSOR, safe='')}"
PAGES = ("/fleet", DEVICE, f"{DEVICE}&tab=timeline", "/alarms", "/pipeline", "/ask", "/map")
SLOW = 30_000
expect.set_options(timeout=SLOW)


def run(asking: Callable[[], Any]) -> Any:
    """A coroutine, in a thread of its own: Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(asking())).result()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield started
        started.close()


def signed_in(page: Page, browser: Browser, role: str = "operate", **options: Any) -> BrowserContext:
    context = browser.new_context(base_url=page.base, locale="en-GB", timezone_id="Europe/Helsinki", **options)
    answer = context.request.post("/api/sign-in", data={"key": page.keys[role]}, headers={"Origin": page.base})
    assert answer.ok
    return context


@pytest.fixture
def tab(page: Page, browser: Browser) -> Iterator[Tab]:
    """An open page of somebody who has signed in. Errors on its console fail the test."""
    context = signed_in(page, browser, viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors


def violations(tab: Tab) -> list[str]:
    tab.evaluate(AXE)
    result = tab.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in result["violations"]]


def settle(tab: Tab, path: str) -> None:
    tab.goto(path)
    expect(tab.get_by_text("live", exact=True)).to_be_visible()
    expect(tab.locator(".skeleton")).to_have_count(0)
    tab.locator("main").get_by_role("heading", level=1).first.wait_for(state="attached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    page: Page, browser: Browser, scheme: Any, width: int
) -> None:
    context = signed_in(page, browser, color_scheme=scheme, viewport={"width": width, "height": 800})
    tab = context.new_page()
    for path in PAGES:
        settle(tab, path)
        assert not violations(tab), path
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


def test_a_stranger_signs_in_and_out(page: Page, browser: Browser) -> None:
    context = browser.new_context(base_url=page.base)
    tab = context.new_page()
    tab.goto("/alarms")
    tab.get_by_label("Key").fill("wrong")
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("alert")).to_contain_text("not in force")
    assert not violations(tab)
    tab.get_by_label("Key").fill(page.keys["read"])
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("table", name="Alarms")).to_be_visible()
    expect(tab.get_by_role("button", name="Acknowledge", exact=True)).to_be_disabled()  # the key may read only
    assert tab.evaluate("document.cookie") == ""
    tab.get_by_role("button", name="Sign out").click()
    expect(tab.get_by_label("Key")).to_be_visible()
    context.close()


def test_from_the_fleet_to_a_device_and_its_values(tab: Tab) -> None:
    settle(tab, "/fleet?q=sensor-001")
    tab.get_by_role("link", name="sensor-001").first.click()
    expect(tab.get_by_role("heading", level=1)).to_contain_text("sensor-001")
    row = tab.get_by_role("row").filter(has_text="environment.temperature")
    expect(row).to_contain_text("°C")
    expect(tab.get_by_role("img", name="environment.temperature")).to_be_visible()
    tab.get_by_role("button", name="24h").click()
    expect(tab).to_have_url(re.compile("range=24h"))
    tab.get_by_role("button", name="Timeline").click()
    expect(tab.locator(".timeline li").first).to_be_visible()
    moment = tab.locator(".timeline time").first
    assert (moment.get_attribute("title") or "").endswith("UTC")
    tab.get_by_role("button", name="Raw messages").click()
    expect(tab.locator(".raw li").first).to_contain_text("wayscloud.publish")
    tab.go_back()
    tab.go_back()


def test_filters_stand_in_the_address(tab: Tab) -> None:
    settle(tab, "/fleet")
    tab.get_by_role("searchbox").fill("no such device")
    expect(tab.get_by_text("No device matches")).to_be_visible()
    address = tab.url
    assert "q=no+such+device" in address
    settle(tab, address)
    expect(tab.get_by_role("searchbox")).to_have_value("no such device")


def test_a_value_changes_without_a_reload(page: Page, tab: Tab) -> None:
    run(lambda: publish(page, "sensor-live", temperature=20.0))
    settle(tab, f"/device?id={quote('wayscloud:sensor-live', safe='')}")
    value = tab.get_by_role("row").filter(has_text="environment.temperature").get_by_role("cell").nth(0)
    tab.evaluate("window.untouched = true")
    run(lambda: publish(page, "sensor-live", temperature=27.25))
    expect(value).to_have_text("27.25")
    assert tab.evaluate("window.untouched")


def test_one_key_acknowledges_which_kafka_and_the_table_show(page: Page, tab: Tab) -> None:
    device = "wayscloud:sensor-key"
    run(lambda: publish(page, "sensor-key", temperature=46.0))
    settle(tab, "/alarms?q=sensor-key")
    row = tab.get_by_role("table", name="Alarms").get_by_role("row").filter(has_text="sensor-key")
    expect(row).to_contain_text("active")
    tab.keyboard.press("a")
    expect(row).to_contain_text("acknowledged")
    expect(tab.get_by_text("1 acknowledged")).to_be_visible()
    parts: dict[int, Any] = run(lambda: read_all(page.kafka, ALARM_ACTIONS, PARTITIONS))
    actions = [wire.decode_alarm_action(one.value) for records in parts.values() for one in records]
    [action] = [one for one in actions if one.device_id == device]
    assert (action.action, action.actor) == ("acknowledge", "operate@example.com")

    def in_table() -> bool:
        query = f"SELECT status FROM alarms WHERE device_id = '{device}'"
        return ask_table(page.folder / "data", query) == [("acknowledged",)]

    eventually_blocking(in_table, 60, page.logs)
    tab.keyboard.press("o")
    detail = tab.get_by_role("complementary", name="Alarm")
    expect(detail).to_contain_text("High temperature alert")
    expect(detail.get_by_role("listitem").first).to_contain_text("acknowledged by operate@example.com")
    assert not violations(tab)
    tab.keyboard.press("r")
    tab.get_by_label("Note").fill("Fan replaced")
    tab.get_by_role("dialog").get_by_role("button", name="Resolve").click()
    expect(detail).to_contain_text("Fan replaced")
    expect(detail).to_contain_text("resolved by")


def test_the_pipeline_says_what_the_doctor_says(tab: Tab) -> None:
    settle(tab, "/pipeline")
    said = tab.get_by_label("What the doctor says")
    said.get_by_text("found well").click()
    expect(said.get_by_text("disk", exact=True)).to_be_visible(timeout=30_000)
    expect(tab.get_by_role("region", name="Times when nobody listened")).to_be_visible()


def test_an_alarms_rule_is_tried_on_history(tab: Tab) -> None:
    settle(tab, "/alarms?status=all")
    tab.locator(".rows-body .device-link").first.click()
    tab.get_by_text("Try it on history").click()
    tab.get_by_role("button", name="Try", exact=True).click()
    expect(tab.locator(".trial [role=status]")).to_contain_text("readings of", timeout=60_000)
    tab.get_by_label("Rule, to be changed at will").fill("{")
    tab.get_by_role("button", name="Try", exact=True).click()
    expect(tab.get_by_role("alert")).to_contain_text("This is no JSON")
    assert not violations(tab)


def test_a_query_its_limits_and_a_saved_question(tab: Tab) -> None:
    settle(tab, "/ask")
    editor = tab.get_by_label("SQL query")
    expect(tab.locator(".table-info").first).to_be_visible()  # completion knows the tables
    editor.fill("FROM dev")
    editor.press("End")
    editor.type("i")
    expect(tab.get_by_role("option", name="devices")).to_be_visible()
    editor.press("Tab")
    expect(editor).to_have_value(re.compile("^FROM device"))
    editor.fill("SELECT device_id, last_seen FROM devices")
    editor.press("Control+Enter")
    expect(tab.get_by_role("table", name="Rows of the answer")).to_contain_text(SENSOR)
    tab.get_by_role("button", name="Save question").click()
    tab.reload()
    expect(tab.get_by_role("button", name="SELECT device_id, last_seen FROM devices", exact=True)).to_be_visible()
    for sql, shown in (
        ("FROM range(1000)", f"the first {ROWS} rows"),
        ("FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("COPY (SELECT 1) TO 'x.csv'", "Only queries are run here"),
        ("SELECT count(*) FROM range(10000000) a, range(10000000) b", f"longer than {QUERY_SECONDS} s"),
        ("SELEC 1", "syntax error"),
    ):
        editor.fill(sql)
        editor.press("Control+Enter")
        expect(tab.locator(".ask-main")).to_contain_text(shown)
    assert not violations(tab)


def test_a_banner_shows_an_outage_and_goes_with_it(page: Page, tab: Tab) -> None:
    settle(tab, "/fleet")
    [ui] = [one for one in page.processes if one.args[3:4] == ["ui"] and one.poll() is None]  # type: ignore[index]
    ui.kill()
    ui.wait()
    expect(tab.locator(".banner.bad")).to_contain_text("No connection to the server")
    expect(tab.get_by_role("table", name="Devices")).to_contain_text("sensor-001")  # what was known stays
    page.start_ui()
    # Sessions end with the process that held them.
    tab.get_by_label("Key").fill(page.keys["operate"])
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.locator(".banner")).to_have_count(0)
    expect(tab.get_by_text("live", exact=True)).to_be_visible()
    run(lambda: publish(page, "sensor-after", temperature=20.0))
    expect(tab.get_by_role("table", name="Devices")).to_contain_text("sensor-after")


def test_the_page_is_painted_within_a_second(tab: Tab) -> None:
    settle(tab, "/fleet")
    tab.reload()
    tab.get_by_role("table", name="Devices").wait_for()
    paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 1000


def test_nothing_is_loaded_from_elsewhere(page: Page, tab: Tab) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        settle(tab, path)
    assert asked and all(url.startswith(page.base) for url in asked)
    with pytest.raises(Error):
        tab.evaluate("fetch('http://127.0.0.1:1/')")
