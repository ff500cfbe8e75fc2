"""Debian's Chromium, driven by selenium: a browser that keeps what pages say and ask for."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def start(profile: Path | str) -> webdriver.Chrome:
    """A headless browser with its profile in this folder."""
    assert CHROMIUM and DRIVER, "install Debian's chromium and chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        f"--user-data-dir={profile}",
        "--window-size=1400,1000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.get("about:blank")  # the browser's own first page asks for its own files
    return driver


def requests(browser: webdriver.Chrome) -> list[str]:
    """Addresses that were asked for since the last call."""
    found = []
    for entry in browser.get_log("performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            if not address.startswith("chrome://"):
                found.append(address)
    return found


def open_page(browser: webdriver.Chrome, page: Path | str, *, seconds: float = 60) -> None:
    """Open a page and wait until all its charts are drawn."""
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page if isinstance(page, str) else page.as_uri())
    WebDriverWait(browser, seconds).until(
        lambda b: b.execute_script(
            "return !document.getElementById('payload') || document.body.dataset.drawn"
        )
    )


def silent(browser: webdriver.Chrome, folder: str) -> None:
    messages = browser.get_log("browser")
    assert messages == [], f"the console has messages: {messages}"
    outside = [url for url in requests(browser) if not url.startswith((folder, "data:"))]
    assert outside == [], "the page asked for something outside its folder"


def marks(browser: webdriver.Chrome, figure: str, kind: str = "symbol") -> list[tuple[Any, ...]]:
    """Places and colours of a chart's marks of one kind, from the scene that is on the screen."""
    found = browser.execute_script(
        "return report.marks(arguments[0]).filter(m => m.type === arguments[1])"
        ".map(({item: i}) => [Math.round(i.x * 10), Math.round(i.y * 10), i.fill || i.stroke])",
        figure,
        kind,
    )
    return [tuple(mark) for mark in found]


def colours(found: list[tuple[Any, ...]]) -> set[str]:
    return {mark[2] for mark in found}


def settle(browser: webdriver.Chrome) -> None:
    browser.execute_async_script("report.settled().then(arguments[0])")


def choose(browser: webdriver.Chrome, name: str, text: str) -> None:
    Select(browser.find_element(By.NAME, name)).select_by_visible_text(text)
    settle(browser)


def click(browser: webdriver.Chrome, selector: str) -> None:
    browser.find_element(By.CSS_SELECTOR, selector).click()
    settle(browser)


def first_chart(browser: webdriver.Chrome) -> float:
    """Milliseconds from the start of the navigation to the page's first chart."""
    return float(browser.execute_script("return document.body.dataset.first ?? 0"))


def first_charts(folder: Path) -> dict[str, float]:
    """The same for every page of a report."""
    with tempfile.TemporaryDirectory() as profile:
        browser = start(profile)
        try:
            found = {}
            for page in sorted(folder.glob("*.html")):
                open_page(browser, page)
                found[page.stem] = first_chart(browser)
            return found
        finally:
            browser.quit()


GRID = (32, 20)
"""Columns and rows of a coarse picture."""
