"""What axe-core asks for first, asked of every page in Chromium in both themes: a language,
landmarks, one title and headings in order, names of all that can be operated, keys that reach what
scrolls, contrast of text."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from .chromium import open_page, settle
from .test_site import NAMES

CHECK = Path(__file__).with_name("accessible.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [name if name == "index" else pytest.param(name, marks=pytest.mark.thorough) for name in NAMES],
)
def test_nothing_is_without_a_name_or_hard_to_read(
    browser: webdriver.Chrome, site: Path, name: str
) -> None:
    open_page(browser, site / f"{name}.html")
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    try:
        for width in (390, 1440):
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
            )
            for _ in range(2):
                theme = browser.execute_script("return document.documentElement.dataset.theme")
                assert browser.execute_script(CHECK) == [], (theme, width)
                browser.find_element(By.ID, "theme").click()
                if browser.execute_script("return typeof report !== 'undefined'"):  # charts
                    settle(browser)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_check_finds_what_is_wrong(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, site / "data.html")
    browser.execute_script(
        "document.documentElement.lang = '';"
        "document.querySelector('main').insertAdjacentHTML('beforeend',"
        ' \'<p style="color: #aaa; background: #fff">pale</p><button></button>'
        '<input name="lone"><h1>two</h1><i id="main"></i>'
        '<p style="width: 2rem; white-space: nowrap; overflow: auto">cut off</p>\')'
    )
    found = " ".join(browser.execute_script(CHECK))
    for fault in (
        "no language",
        "pale",
        "BUTTON",
        "lone without",
        "not one h1",
        "two are main",
        "P scrolls",
    ):
        assert fault in found
