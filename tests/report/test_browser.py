"""The pages in a real browser, opened from disk: drawn, alive, silent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from trajectory.config import parse
from trajectory.report.site import build

from .synthetic import make_results

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
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
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
        "--window-size=1400,1000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = make_results(tmp_path_factory.mktemp("results"))
    variants = {"softmax-1l": {"seeds": [0, 1]}, "relu-1l": {}, "adamw-3l": {"layers": 3}}
    config = parse(
        {
            "name": "synthetic",
            "results": str(results),
            "bb": {"variants": variants},
            "suites": {"nano-olmo": {}},
        }
    )
    build(results, config, results / "report")
    return results / "report"


def requests(browser: webdriver.Chrome) -> list[str]:
    found = []
    for entry in browser.get_log("performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return found


def open_page(browser: webdriver.Chrome, page: Path) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page.as_uri())


def drawn(browser: webdriver.Chrome, axis: str = "step") -> None:
    WebDriverWait(browser, 20).until(
        lambda b: b.execute_script("return document.body.dataset.drawn") == axis
    )


def marks(browser: webdriver.Chrome, panel: str) -> list[str]:
    """Outlines and places of a panel's points, as rendered."""
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(p => p.getAttribute('transform')"
        " + p.getAttribute('fill'))",
        f"#chart-{panel} .mark-symbol path",
    )


def settle(browser: webdriver.Chrome) -> None:
    browser.execute_async_script("setTimeout(arguments[0], 250)")


@pytest.fixture
def page(browser: webdriver.Chrome, site: Path) -> Iterator[webdriver.Chrome]:
    open_page(browser, site / "trajectories.html")
    drawn(browser)
    yield browser
    assert browser.get_log("browser") == [], "the console has messages"
    folder = site.as_uri()
    assert [url for url in requests(browser) if not url.startswith((folder, "data:"))] == []


def test_every_panel_draws_both_worlds(page: webdriver.Chrome) -> None:
    for panel in ("sink", "delta_logit", "value_ratio", "residual_ratio", "loss"):
        colours = {m.rsplit(")", 1)[1] for m in marks(page, panel)}
        assert len(colours) == 4, f"{panel}: three BB variants and one suite, one colour each"
    assert len({m.rsplit(")", 1)[1] for m in marks(page, "excess_risk")}) == 3


def test_filters_change_the_marks(page: webdriver.Chrome) -> None:
    before = marks(page, "sink")
    page.find_element(By.CSS_SELECTOR, "[name=trajectory][value='nano-olmo']").click()
    settle(page)
    without = marks(page, "sink")
    assert 0 < len(without) < len(before)
    page.find_element(By.CSS_SELECTOR, "[name=trajectory][value='nano-olmo']").click()
    page.find_element(By.CSS_SELECTOR, "[name=domain][value=code]").click()
    settle(page)
    assert len(marks(page, "sink")) > len(before)
    page.find_element(By.CSS_SELECTOR, "[name=domain][value=code]").click()
    Select(page.find_element(By.NAME, "head")).select_by_visible_text("all")
    settle(page)
    assert len(marks(page, "sink")) > len(before), "all heads of the lead layer"
    Select(page.find_element(By.NAME, "layer")).select_by_visible_text("2")
    settle(page)
    only = marks(page, "sink")
    assert 0 < len(only) < len(before), "only the three-layer run has a block 2"


def test_the_axis_can_be_time_since_onset(page: webdriver.Chrome) -> None:
    before = marks(page, "sink")
    title = "#chart-sink .role-axis-title text"
    assert "training step" in [e.text for e in page.find_elements(By.CSS_SELECTOR, title)]
    page.find_element(By.CSS_SELECTOR, "[name=axis][value=onset]").click()
    drawn(page, "onset")
    relative = marks(page, "sink")
    assert "training step / step of sink onset" in [
        e.text for e in page.find_elements(By.CSS_SELECTOR, title)
    ]
    assert relative != before
    assert {m.rsplit(")", 1)[1] for m in relative} < {m.rsplit(")", 1)[1] for m in before}, (
        "the ReLU run has no onset"
    )
    note = page.find_element(By.ID, "without-onset")
    assert note.is_displayed()
    assert "bb/relu-1l/seed0 (non_trigger)" in note.text


def test_fits_can_be_hidden(page: webdriver.Chrome) -> None:
    lines = "#chart-delta_logit .mark-line path"
    before = len(page.find_elements(By.CSS_SELECTOR, lines))
    page.find_element(By.NAME, "fits").click()
    settle(page)
    assert len(page.find_elements(By.CSS_SELECTOR, lines)) < before


def test_hovering_tells_the_numbers(page: webdriver.Chrome) -> None:
    from selenium.webdriver import ActionChains

    point = page.find_elements(By.CSS_SELECTOR, "#chart-sink .mark-symbol path")[-1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(page).move_to_element(point).perform()
    tooltip = WebDriverWait(page, 5).until(
        lambda b: b.find_element(By.CSS_SELECTOR, "#vg-tooltip-element.visible")
    )
    for word in ("trajectory", "domain", "step", "sink_excess", "sink_weight_floor"):
        assert word in tooltip.text


def test_filters_that_leave_nothing_say_so(page: webdriver.Chrome) -> None:
    for box in page.find_elements(By.CSS_SELECTOR, "[name=domain]:checked"):
        box.click()
    settle(page)
    assert page.find_element(By.CSS_SELECTOR, "figure .empty").is_displayed()


def test_the_index_opens_and_leads_on(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, site / "index.html")
    assert "bb/softmax-1l/seed0" in browser.find_element(By.CSS_SELECTOR, "table.overview").text
    browser.find_element(By.LINK_TEXT, "See them on the same axes.").click()
    drawn(browser)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1440])
def test_pages_fit_their_window(browser: webdriver.Chrome, site: Path, width: int) -> None:
    for name in ("index.html", "trajectories.html"):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800},
        )
        open_page(browser, site / name)
        if name == "trajectories.html":
            drawn(browser)
        overflow = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"{name} is {overflow} pixels wider than a window of {width}"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
