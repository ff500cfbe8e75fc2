"""The pages in a real browser, opened from disk: drawn, alive, silent."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from trajectory.report import marks as marks_of
from trajectory.report.pages import heads
from trajectory.report.run import Run
from trajectory.schemas import HEADS

from . import oracle
from .chromium import choose, click, colours, marks, open_page, settle, silent
from .synthetic import RISING
from .test_site import NAMES

on = pytest.mark.parametrize


def page(name: str) -> Any:
    return pytest.mark.parametrize("opened", [name], indirect=True)


@on("name", NAMES)
def test_every_page_draws_in_silence(browser: webdriver.Chrome, site: Path, name: str) -> None:
    open_page(browser, site / f"{name}.html")
    charts = browser.execute_script(
        "return [...document.querySelectorAll('.chart')].map(c => c.id.slice(6))"
    )
    for chart in charts:
        assert browser.execute_script("return report.marks(arguments[0]).length", chart) > 0, chart
    silent(browser, site.as_uri())


@pytest.mark.thorough
@on("width", [390, 1440])
def test_pages_fit_their_window(browser: webdriver.Chrome, site: Path, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800},
    )
    try:
        for name in NAMES:
            open_page(browser, site / f"{name}.html")
            overflow = browser.execute_script(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert overflow <= 0, f"{name} is {overflow} pixels wider than a window of {width}"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_shows_charts_before_choices(browser: webdriver.Chrome, site: Path) -> None:
    """The choices fold away, the colours' names stay, and names of rows leave room for marks."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        open_page(browser, site / "dynamics.html")
        assert not browser.find_element(By.NAME, "chosen_phenomenon").is_displayed()
        assert browser.find_element(By.CLASS_NAME, "group").is_displayed()
        ends = browser.execute_script(
            "const view = report.views.get('onsets').view; return [view.origin()[0], view.width()]"
        )
        assert ends[0] < ends[1], "names take more room than marks"
        browser.find_element(By.CSS_SELECTOR, "#choices summary").click()
        assert browser.find_element(By.NAME, "chosen_phenomenon").is_displayed()
        open_page(browser, site / "heads.html")
        assert browser.find_element(By.NAME, "chosen_record").is_displayed(), "what it is about"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@page("laboratory")
def test_a_press_on_a_columns_title_sorts_by_it(opened: webdriver.Chrome) -> None:
    """By value and back, what is missing last; the names stay in sight at the left."""
    table = opened.find_element(By.CSS_SELECTOR, "#compared table")
    assert not table.is_displayed(), "folded at first"
    opened.find_element(By.CSS_SELECTOR, "details:has(#compared) > summary").send_keys(Keys.ENTER)

    def column(place: int) -> list[str]:
        return [row.text for row in table.find_elements(By.CSS_SELECTOR, f"td:nth-child({place})")]

    titles = table.find_elements(By.CSS_SELECTOR, "thead button")
    place = 1 + [t.text for t in titles].index("sink excess")
    opened.execute_script(
        "const cells = document.querySelectorAll(`#compared td:nth-child(${arguments[0]})`);"
        "const row = cells[0].parentNode.cloneNode(true);"
        "row.cells[arguments[0] - 1].textContent = '—';"
        "delete row.cells[arguments[0] - 1].dataset.order;"
        "row.cells[0].textContent = 'none'; cells[0].parentNode.before(row);"
        "cells[1].dataset.order = '-10'; cells[0].dataset.order = '-9'",
        place,
    )
    names = [row.text for row in table.find_elements(By.CSS_SELECTOR, "tbody th")]
    for expected in ([2, 1, 0], [1, 2, 0]):
        titles[place - 1].click()
        shown = [row.text for row in table.find_elements(By.CSS_SELECTOR, "tbody th")]
        assert shown == [names[i] for i in expected]
    assert column(place)[-1] == "—"
    opened.execute_script("document.querySelector('#compared').style.width = '260px'")
    left = "return document.querySelector('#compared tbody th').getBoundingClientRect().left"
    before = opened.execute_script(left)
    opened.execute_script("document.querySelector('#compared').scrollLeft = 300")
    assert opened.execute_script("return document.querySelector('#compared').scrollLeft") > 0
    assert opened.execute_script(left) == before


@page("trajectories")
def test_every_panel_draws_both_worlds(opened: webdriver.Chrome) -> None:
    for panel in ("sink", "delta_logit", "value_ratio", "loss"):
        assert len(colours(marks(opened, panel))) == 4, f"{panel}: three variants and one suite"
    assert len(colours(marks(opened, "residual_ratio"))) == 2, "one layer has no stream between two"
    assert len(colours(marks(opened, "excess_risk"))) == 3


@page("trajectories")
def test_filters_change_the_marks(opened: webdriver.Chrome) -> None:
    before = marks(opened, "sink")
    click(opened, "[name=shown][value='nano-olmo']")
    without = marks(opened, "sink")
    assert 0 < len(without) < len(before)
    click(opened, "[name=shown][value='nano-olmo']")
    click(opened, "[name=shown_domains][value=code]")
    assert len(marks(opened, "sink")) > len(before)
    click(opened, "[name=shown_domains][value=code]")
    choose(opened, "chosen_head", "all")
    assert len(marks(opened, "sink")) > len(before), "all heads of the lead layer"
    choose(opened, "chosen_layer", "2")
    only = marks(opened, "sink")
    assert 0 < len(only) < len(before), "only the three-layer run has a block 2"


@page("trajectories")
def test_a_variant_is_hidden_with_all_its_seeds(opened: webdriver.Chrome) -> None:
    before = marks(opened, "sink")
    group = opened.find_element(By.XPATH, "//span[@class='group'][contains(., '1 layer, AdamW')]")
    group.find_element(By.CSS_SELECTOR, "[data-all]").click()
    settle(opened)
    assert len(colours(marks(opened, "sink"))) == len(colours(before)) - 1
    group.find_elements(By.CSS_SELECTOR, "[data-list]")[0].click()
    settle(opened)
    assert len(colours(marks(opened, "sink"))) == len(colours(before))
    assert group.find_element(By.CSS_SELECTOR, "[data-all]").get_property("indeterminate")


@page("trajectories")
def test_the_axis_can_be_time_since_onset_or_loss(opened: webdriver.Chrome) -> None:
    def title() -> list[str]:
        found = opened.find_elements(By.CSS_SELECTOR, "#chart-sink .role-axis-title text")
        return [element.text for element in found]

    before = marks(opened, "sink")
    assert "training step" in title()
    choose(opened, "chosen_axis", "step / sink's onset")
    relative = marks(opened, "sink")
    assert "step / sink's onset" in title()
    assert relative != before
    assert colours(relative) < colours(before), "the ReLU run has no onset"
    choose(opened, "chosen_axis", "loss (nats/token), falling")
    assert marks(opened, "sink") not in (before, relative)


@page("trajectories")
def test_any_statistic_can_be_drawn_and_is_then_defined(opened: webdriver.Chrome) -> None:
    before = marks(opened, "any")
    opened.find_element(By.CSS_SELECTOR, "#any .defined summary").click()
    caption = opened.find_element(By.CSS_SELECTOR, "#any figcaption")
    assert "mean weight A_is" in caption.text
    choose(opened, "chosen_statistic", "residual ratio, sink / rest")
    after = marks(opened, "any")
    assert after and after != before
    assert "median ‖h_j‖" in caption.text and "3.67 (nano-olmo on prose)" in caption.text
    titles = opened.find_elements(By.CSS_SELECTOR, "#chart-any .role-axis-title text")
    assert "residual ratio, sink / rest" in [element.text for element in titles]


@page("trajectories")
def test_a_statistic_with_a_floor_is_drawn_with_it(opened: webdriver.Chrome) -> None:
    """The sink's weight and the column mass have one, Δlogit has none."""
    lines = []
    for name in ("sink weight", "top mass", "Δlogit (nats)"):
        choose(opened, "chosen_statistic", name)
        lines.append(len(marks(opened, "any", "line")))
    assert lines[0] == lines[1] == 2 * lines[2]


@page("trajectories")
def test_fits_can_be_hidden(opened: webdriver.Chrome) -> None:
    before = marks(opened, "delta_logit", "line")
    click(opened, "[name=draw_laws]")
    assert 0 < len(marks(opened, "delta_logit", "line")) < len(before)


@page("trajectories")
def test_hovering_tells_the_numbers_with_units(opened: webdriver.Chrome) -> None:
    point = opened.find_elements(By.CSS_SELECTOR, "#chart-delta_logit .mark-symbol path")[-1]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(opened).move_to_element(point).perform()
    told = opened.find_element(By.CSS_SELECTOR, '.readout[data-of="delta_logit"]').text
    for word in ("training step: 1,000", "Δlogit (nats)", "nano-olmo, prose", "layer 0, head 0"):
        assert word in told


@page("trajectories")
def test_filters_that_leave_nothing_say_so(opened: webdriver.Chrome) -> None:
    for box in opened.find_elements(By.CSS_SELECTOR, "[name=shown_domains]:checked"):
        box.click()
    settle(opened)
    assert opened.find_element(By.CSS_SELECTOR, "figure .empty").is_displayed()


@page("laboratory")
def test_charts_without_rows_are_laid_out_too(opened: webdriver.Chrome) -> None:
    """A legend that took its entries from the rows had none, and the console an error."""
    for box in opened.find_elements(By.CSS_SELECTOR, "[name=shown_domains]:checked"):
        box.click()
    settle(opened)
    assert opened.find_element(By.CSS_SELECTOR, "#intervention-steps .empty").is_displayed()
    assert marks(opened, "intervention-ends", "rect"), "it shows both domains"


@page("heads")
def test_the_slider_moves_the_map_through_training(opened: webdriver.Chrome) -> None:
    last = marks(opened, "map", "rect")
    slider = opened.find_element(By.NAME, "chosen_record")
    assert slider.get_attribute("aria-valuetext") == "step 1,000"
    slider.send_keys(Keys.HOME)
    settle(opened)
    first = marks(opened, "map", "rect")
    assert [m[:2] for m in first] == [m[:2] for m in last]
    assert slider.get_attribute("aria-valuetext") == "step 0"
    assert len(colours(last)) == 2 and len(colours(first)) == 1, "no head is a sink at step 0"


@page("heads")
def test_a_click_on_a_head_shows_its_trajectory(opened: webdriver.Chrome) -> None:
    before = marks(opened, "head")
    cells = opened.find_elements(By.CSS_SELECTOR, "#chart-map .mark-rect path")
    place = opened.execute_script(
        "return report.marks('map').filter(m => m.type === 'rect')"
        ".map(m => [m.item.datum.layer, m.item.datum.head])"
    )
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", cells[0])
    ActionChains(opened).move_to_element(cells[place.index([1, 2])]).click().perform()
    settle(opened)
    assert opened.find_element(By.NAME, "chosen_layer").get_property("value") == "1"
    assert opened.find_element(By.NAME, "chosen_head").get_property("value") == "2"
    assert marks(opened, "head") != before, "the dormant head's line is flat"


@page("heads")
def test_a_smaller_trajectory_bounds_the_choices(opened: webdriver.Chrome) -> None:
    choose(opened, "chosen_trajectory", "1 layer, ReLU, AdamW, seed 0")
    assert len(marks(opened, "map", "rect")) == 1
    assert opened.find_element(By.NAME, "chosen_layer").get_attribute("max") == "0"
    assert opened.find_element(By.NAME, "chosen_domain").get_property("value") == "non-trigger"
    choose(opened, "chosen_statistic", "value ratio, sink / rest")
    assert len(marks(opened, "map", "rect")) == 1


@page("heads")
def test_the_plane_of_two_domains_follows_training(opened: webdriver.Chrome) -> None:
    last = marks(opened, "pair")
    assert len(last) == 6
    choose(opened, "chosen_trajectory", "3 layers, AdamW, seed 0")
    toy = marks(opened, "pair")
    assert len(toy) == 3
    opened.find_element(By.NAME, "chosen_record").send_keys(Keys.HOME)
    settle(opened)
    assert marks(opened, "pair") != toy


def reading(browser: webdriver.Chrome, figure: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, f"#{figure} .reading").text


@page("heads")
def test_the_script_s_sentences_are_those_of_the_tables(
    opened: webdriver.Chrome, site: Path, run: Run
) -> None:
    """Of charts that the script cuts out of the page's cube; the other ones are written."""
    cuts = heads.make(run).cuts
    named, threshold = marks_of.spoken(HEADS, "sink_excess"), run.config.dynamics.sink_threshold
    assert reading(opened, "map") == oracle.of_map(cuts["map"], named, threshold)
    assert reading(opened, "head") == oracle.of_head(cuts["head"], named, ["prose", "code"])
    assert reading(opened, "layer") == oracle.of_layer(cuts["layer"], named)
    pair = run.measured("heads", 10**6, "trajectory", "step", "layer", "head", "domain",
                        "sink_log_odds").filter(trajectory="nano-olmo")  # fmt: skip
    last = pair.filter(pl.col("step") == pl.col("step").max()).pivot(
        "domain", index=["trajectory", "step", "layer", "head"], values="sink_log_odds"
    )
    both = last.rename({"prose": "first", "code": "second"}).drop_nulls(["first", "second"])
    assert reading(opened, "pair") == oracle.of_pair(both, "prose", "code", threshold)
    written = re.findall(r'class="reading">([^<]+)<', (site / "heads.html").read_text())
    shown = {e.text for e in opened.find_elements(By.CSS_SELECTOR, ".reading")}
    # the browser's driver gives a no-break space as a space
    told = {html.unescape(text).replace("\u00a0", " ") for text in written}
    assert len(written) > 3 and told < shown


@page("heads")
def test_sentences_follow_the_choices(opened: webdriver.Chrome) -> None:
    """The synthetic language model has one sink, layer 0 head 0, which rises with RISING."""
    opened.find_element(By.NAME, "chosen_record").send_keys(Keys.HOME)
    settle(opened)
    assert reading(opened, "map").startswith("At step 0, 0 of 6 heads of nano-olmo on prose are")
    choose(opened, "chosen_statistic", "value ratio, sink / rest")
    assert f"ends at {1 - RISING[-1]:.2f} on prose (1.00 at step 0)" in reading(opened, "head")
    number = opened.find_element(By.NAME, "chosen_head")
    number.clear()
    number.send_keys("1" + Keys.TAB)
    settle(opened)
    assert "of L0H1 ends at 1.00 on prose (1.00 at step 0)" in reading(opened, "head")
    told = "head 1 ends with the greatest value ratio: 1.00"
    assert told in reading(opened, "layer")
    assert reading(opened, "depths").startswith("On prose 1 of nano-olmo's 2 layers")
    choose(opened, "chosen_trajectory", "1 layer, ReLU, AdamW, seed 0")
    assert reading(opened, "depths").startswith(
        "No layer of “1 layer, ReLU, AdamW, seed 0”'s 1 reaches"
    )
    chart = opened.find_element(By.ID, "chart-depths")
    assert "No layer of “1 layer, ReLU, AdamW, seed 0”'s" in (
        chart.get_attribute("aria-label") or ""
    )


@on(("opened", "figure"), [("heads", "head")], indirect=["opened"])
def test_a_legend_has_room_for_the_domains_of_another_trajectory(
    opened: webdriver.Chrome, figure: str
) -> None:
    """The names of a toy's domains are longer than those of the language model drawn at first."""
    choose(opened, "chosen_trajectory", "3 layers, AdamW, seed 0")
    found = opened.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map(e => [e.textContent, e.getBoundingClientRect()])"
        ".map(([text, box]) => [text, box.left, box.right, box.top])",
        f"#chart-{figure} .role-legend-label text",
    )
    assert [label[0] for label in found] == ["non-trigger", "trigger"]
    (_, _, end, line), (_, start, _, other) = found
    assert other > line or start > end, "one name stands on the other"
    drawn = {mark[2] for mark in marks(opened, figure)}
    assert len(drawn) == 2


@on("width", [390, 1440])
def test_every_decade_of_a_logarithmic_axis_is_named(
    browser: webdriver.Chrome, site: Path, width: int
) -> None:
    """From step 5 to step 1,000."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800},
    )
    try:
        open_page(browser, site / "trajectories.html")
        found = browser.execute_script(
            "return [...document.querySelectorAll('#chart-sink .role-axis-label text')]"
            ".filter(e => Number(e.getAttribute('opacity') ?? 1) > 0).map(e => e.textContent)"
        )
        assert {"10", "100", "1k"} <= set(found)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@page("trajectories")
def test_a_linear_axis_has_ticks_of_its_own(opened: webdriver.Chrome) -> None:
    choose(opened, "chosen_axis", "loss (nats/token), falling")
    linear = opened.execute_script(
        "return [...document.querySelectorAll('#chart-sink .role-axis-label text')]"
        ".map(e => e.textContent)"
    )
    assert "3" in linear or "3.0" in linear


@page("heads")
def test_a_trajectory_offers_its_own_domains(opened: webdriver.Chrome) -> None:
    choose(opened, "chosen_trajectory", "1 layer, ReLU, AdamW, seed 0")
    offered = Select(opened.find_element(By.NAME, "chosen_domain"))
    assert offered.first_selected_option.text == "non-trigger"
    assert [o.text for o in offered.options if o.is_enabled()] == ["non-trigger", "trigger"]
    assert "“1 layer, ReLU, AdamW, seed 0” on non-trigger" in reading(opened, "kinds")


@page("laboratory")
def test_the_map_moves_to_a_record_that_there_is(opened: webdriver.Chrome) -> None:
    steps = Select(opened.find_element(By.NAME, "chosen_step"))
    assert steps.first_selected_option.text == "1,000"
    for option in Select(opened.find_element(By.NAME, "chosen_trajectory")).options:
        choose(opened, "chosen_trajectory", option.text)
        assert marks(opened, "map", "rect"), option.text
        assert option.text in reading(opened, "map")
    first = marks(opened, "map", "rect")
    choose(opened, "chosen_sequence", "1")
    assert "in sequence 1" in reading(opened, "map")
    other = marks(opened, "map", "rect")
    assert [cell[:2] for cell in other] == [cell[:2] for cell in first]
    assert colours(other) != colours(first), "another sequence's weights"


@page("alignment")
def test_light_and_dark_draw_the_same_marks(opened: webdriver.Chrome) -> None:
    def paper() -> str:
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    before, light = marks(opened, "bb"), paper()
    click(opened, "#theme")
    assert paper() != light
    assert marks(opened, "bb") == before
    click(opened, "#theme")
    assert paper() == light


@pytest.mark.thorough
def test_no_name_leaves_its_chart_on_a_phone(browser: webdriver.Chrome, site: Path) -> None:
    """Legends that stood beside each other and titles of narrow plots were cut."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        for name in NAMES:
            open_page(browser, site / f"{name}.html")
            short = browser.execute_script(
                "return [...document.querySelectorAll("
                "  '.chart .role-legend-label text, .chart .role-axis-label text')]"
                "  .map(e => e.textContent).filter(text => text.includes('\u2026'))"
            )
            assert short == [], name
            cut = browser.execute_script(
                "return [...document.querySelectorAll('.chart svg')].flatMap(chart => {"
                "  const {left, right} = chart.getBoundingClientRect();"
                "  return [...chart.querySelectorAll('.role-legend text, .role-axis-title text')]"
                "    .filter(e => e.getBoundingClientRect().right > right + 2 ||"
                "                 e.getBoundingClientRect().left < left - 2)"
                "    .map(e => e.textContent); })"
            )
            assert cut == [], name
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_pages_can_be_walked_with_the_keyboard(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, site / "index.html")
    reached = []
    for _ in range(40):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(
            browser.execute_script(
                "const e = document.activeElement; return e.getAttribute('href') || e.id || e.name"
            )
        )
    assert reached[0] == "#main"
    assert "trajectories.html" in reached and "theme" in reached and "chosen_axis" in reached
    browser.find_element(By.LINK_TEXT, "Claims").send_keys(Keys.ENTER)
    assert "Claims" in browser.title


@pytest.mark.thorough
def test_charts_are_described_for_those_who_cannot_see_them(
    browser: webdriver.Chrome, site: Path
) -> None:
    for name in NAMES:
        open_page(browser, site / f"{name}.html")
        for chart in browser.find_elements(By.CSS_SELECTOR, ".chart"):
            assert chart.get_attribute("role") in ("img", "graphics-document")
            assert len(chart.get_attribute("aria-label") or "") > 40


def test_the_policy_holds(browser: webdriver.Chrome, site: Path) -> None:
    """A request that a page should try to make is refused by the browser itself."""
    open_page(browser, site / "index.html")
    refused = browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        "fetch('https://example.org/').catch(() => {});"
        "setTimeout(() => done('nothing'), 2000)"
    )
    assert refused == "connect-src"
    assert not browser.find_elements(By.CSS_SELECTOR, "meta[content*='unsafe-eval']")
