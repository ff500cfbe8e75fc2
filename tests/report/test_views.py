"""What a reader does to a chart: points, plays, switches, links, takes it along."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from .chromium import choose, click, colours, marks, open_page, settle
from .synthetic import STEPS
from .test_encode import value_of


def page(name: str) -> Any:
    return pytest.mark.parametrize("opened", [name], indirect=True)


def point(browser: webdriver.Chrome, figure: str, across: float, up: float = 0.5) -> None:
    """Move the pointer to a place of the plot, as parts of its width and height."""
    chart = browser.find_element(By.ID, f"chart-{figure}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    x, y = browser.execute_script(
        "const {view} = report.views.get(arguments[0]);"
        "const [left, top] = view.origin();"
        "const box = arguments[1].querySelector('svg, canvas').getBoundingClientRect();"
        "return [box.left + left + arguments[2] * view.width(),"
        " box.top + top + arguments[3] * view.height()]",
        figure, chart, across, up,
    )  # fmt: skip
    action = ActionChains(browser, duration=0)
    action.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    action.perform()


def readout(browser: webdriver.Chrome, figure: str) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, f'.readout[data-of="{figure}"] > div')
    return [row.text for row in rows]


@page("index")
def test_wherever_one_points_the_nearest_x_is_read_of_all_lines(opened: webdriver.Chrome) -> None:
    random.seed(0)
    for _ in range(40):
        point(opened, "sink", random.random(), random.uniform(0.55, 1))  # the inset is above
        told = readout(opened, "sink")
        assert told and told[0].startswith("step / sink's onset: ")
        assert {row.rsplit(":", 1)[0] for row in told[2:]} <= {
            "1 layer, AdamW", "3 layers, AdamW", "nano-olmo",
        }  # fmt: skip
        assert len(told) >= 3
    # One place on all three panels: their axis is the same.
    point(opened, "sink", 0.3, 0.8)
    places = [readout(opened, name)[0].rsplit(": ", 1)[1] for name in ("sink", "drain", "peak")]
    assert len(set(places)) == 1, places
    assert opened.find_elements(By.CSS_SELECTOR, '.cover[data-of="sink"] polyline')


@pytest.mark.parametrize("opened", ["careers", "heads", "checkpoints"], indirect=True)
def test_every_chart_answers_wherever_one_points(opened: webdriver.Chrome) -> None:
    """Bars, cells and points too: the nearest one, with all that its tooltip tells."""
    random.seed(0)
    names = opened.execute_script(
        "return [...report.views.keys()].filter("
        "name => document.getElementById(`chart-${name}`).clientWidth && report.marks(name).length)"
    )
    assert len(names) > 2
    for name in names:
        for _ in range(5):
            point(opened, name, random.random(), random.random())
            assert any(readout(opened, name)), name


@page("careers")
def test_an_area_is_read_at_the_nearest_x(opened: webdriver.Chrome) -> None:
    """Vega alone tells of an area's first checkpoint, wherever one points."""
    drawn = opened.execute_script(
        "const {view} = report.views.get('population'); const now = name => view.signal(name);"
        "return rows('population', 'trajectory domain step role heads')"
        ".filter(row => row.trajectory === now('chosen_trajectory')"
        " && row.domain === now('chosen_domain')).map(row => [row.step, row.role, row.heads])"
    )
    places = opened.execute_script(
        "const {view} = report.views.get('population');"
        "return arguments[0].map(step => view.scale('x')(step) / view.width())",
        steps := sorted({step for step, _, _ in drawn if step})[1:],
    )
    assert len(steps) > 2
    for step, across in zip(steps, places, strict=True):
        point(opened, "population", across)
        told = dict(row.split(": ") for row in readout(opened, "population") if ": " in row)
        held = {role: heads for at, role, heads in drawn if at == step and role != "none"}
        assert {role: int(told[role]) for role in held} == held
        assert int(told["all"]) == sum(heads for at, _, heads in drawn if at == step)


@page("index")
def test_the_number_that_is_read_is_the_one_that_was_drawn(opened: webdriver.Chrome) -> None:
    click(opened, "[name=chosen_axis][value=step]")
    point(opened, "sink", 0.0, 0.8)
    first = next(step for step in STEPS if step)
    told = readout(opened, "sink")
    assert told[0] == f"training step: {first}"
    (row,) = (row for row in told if row.startswith("nano-olmo"))
    drawn = opened.execute_script(
        "return rows('sink', 'mean x group axis').find((row) =>"
        " row.x === arguments[0] && row.group === 'nano-olmo' && row.axis === 'step').mean",
        first,
    )
    assert float(row.rsplit(": ", 1)[1]) == pytest.approx(drawn, rel=1e-2)


@page("trajectories")
def test_a_page_reads_its_data_as_they_were_written(opened: webdriver.Chrome) -> None:
    kinds = set()
    for name, of in opened.execute_script("return payload.data").items():
        columns = of["columns"]
        kinds |= {key for column in columns.values() if isinstance(column, dict) for key in column}
        found = opened.execute_script(
            "return rows(arguments[0], arguments[1])", name, " ".join(columns)
        )
        assert found == [
            {key: value_of(column, row) for key, column in columns.items()}
            for row in range(of["rows"])
        ], name
    assert kinds >= {"all", "runs", "codes"}


@page("index")
def test_a_finger_reads_a_chart_as_a_pointer_does(opened: webdriver.Chrome) -> None:
    opened.execute_script(
        "const stage = document.getElementById('chart-drain');"
        "const box = stage.querySelector('svg').getBoundingClientRect();"
        "stage.dispatchEvent(new PointerEvent('pointerdown', {pointerType: 'touch',"
        " clientX: box.left + 120, clientY: box.top + 80, bubbles: true}))"
    )
    assert len(readout(opened, "drain")) >= 3


@page("index")
def test_the_switch_changes_the_axis_of_all_three_panels(opened: webdriver.Chrome) -> None:
    inset = opened.find_element(By.ID, "alone")
    assert inset.is_displayed(), "ReLU attention has no onset"
    for value, title in (("step", "training step"), ("tokens", "training tokens")):
        click(opened, f"[name=chosen_axis][value={value}]")
        for name in ("sink", "drain", "peak"):
            found = opened.find_elements(By.CSS_SELECTOR, f"#chart-{name} .role-axis-title text")
            assert title in [element.text for element in found]
        names = opened.execute_script(
            "return report.marks('sink').filter(m => m.type === 'text').map(m => m.item.text)"
        )
        assert "1 layer, ReLU, AdamW" in names and not inset.is_displayed()


@page("index")
def test_play_moves_through_training_and_stops_at_its_end(opened: webdriver.Chrome) -> None:
    slider = opened.find_element(By.NAME, "chosen_frame")
    last = slider.get_property("value")
    before = colours(marks(opened, "model-weights", "rect"))
    slider.send_keys(Keys.HOME)
    settle(opened)
    assert slider.get_property("value") == "0"
    assert colours(marks(opened, "model-weights", "rect")) != before
    assert "step 0" in (slider.get_attribute("aria-valuetext") or "")
    assert "step 0" in opened.find_element(By.CSS_SELECTOR, "#model-weights .reading").text
    button = opened.find_element(By.CSS_SELECTOR, "[data-plays=chosen_frame]")
    button.click()
    assert "pause" in button.text
    WebDriverWait(opened, 60).until(lambda _: slider.get_property("value") == last)
    WebDriverWait(opened, 5).until(lambda _: "play" in button.text)
    settle(opened)
    assert colours(marks(opened, "model-weights", "rect")) == before


@page("index")
def test_every_tile_and_finding_leads_somewhere(opened: webdriver.Chrome, site: Path) -> None:
    links = [
        a.get_attribute("href") or ""
        for a in opened.find_elements(By.CSS_SELECTOR, ".tile, .findings a")
    ]
    assert len(links) > 4
    for link in links:
        name, _, anchor = link.rsplit("/", 1)[1].partition("#")
        text = (site / name).read_text()
        assert not anchor or f'id="{anchor}"' in text, link


def hash_of(browser: webdriver.Chrome) -> str:
    return str(browser.execute_script("return location.hash"))


@page("trajectories")
def test_choices_stand_in_the_address_and_back_undoes_them(opened: webdriver.Chrome) -> None:
    first = marks(opened, "sink")
    choose(opened, "chosen_axis", "loss (nats/token), falling")
    assert hash_of(opened) == "#?chosen_axis=loss"
    second = marks(opened, "sink")
    click(opened, "[name=shown][value='nano-olmo']")
    assert hash_of(opened) == "#?chosen_axis=loss&shown=!nano-olmo"
    assert marks(opened, "sink") != second
    for expected, address in ((second, "#?chosen_axis=loss"), (first, "")):
        opened.back()
        settle(opened)
        assert (marks(opened, "sink"), hash_of(opened)) == (expected, address)
    opened.forward()
    settle(opened)
    assert marks(opened, "sink") == second


def test_a_pasted_link_and_a_reload_restore_the_view(browser: webdriver.Chrome, site: Path) -> None:
    address = (site / "heads.html").as_uri()
    view = "#head?chosen_trajectory=bb%2Fadamw-3l%2Fseed0&chosen_record=3&chosen_layer=2"
    open_page(browser, "about:blank")
    open_page(browser, address + view)
    for _ in range(2):
        assert browser.find_element(By.NAME, "chosen_layer").get_property("value") == "2"
        assert browser.find_element(By.NAME, "chosen_record").get_property("value") == "3"
        text = browser.find_element(By.CSS_SELECTOR, "#map .reading").text
        assert f"At step {STEPS[3]}" in text
        top = browser.execute_script(
            "return document.getElementById('head').getBoundingClientRect().top"
        )
        assert -5 < top < 900, "the chart that the link names is in sight"
        browser.refresh()
        WebDriverWait(browser, 30).until(
            lambda b: b.execute_script("return document.body.dataset.drawn")
        )


@page("trajectories")
def test_a_link_of_a_chart_carries_the_view(opened: webdriver.Chrome) -> None:
    choose(opened, "chosen_head", "all")
    opened.find_element(By.CSS_SELECTOR, "#loss .anchor").click()
    assert hash_of(opened) == "#loss?chosen_head=all"


@pytest.fixture
def downloads(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Path]:
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    yield tmp_path
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "default"})


def taken(browser: webdriver.Chrome, folder: Path, figure: str, kind: str) -> bytes:
    for path in folder.iterdir():
        path.unlink()
    link = browser.find_element(By.CSS_SELECTOR, f"#{figure} [data-kind={kind}]")
    browser.execute_script("arguments[0].click()", link)
    settle(browser)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [p for p in folder.iterdir() if p.suffix == f".{kind}"]
        if found and found[0].stat().st_size:
            return found[0].read_bytes()
        time.sleep(0.1)
    raise AssertionError(f"no {kind} of {figure} came")


@page("trajectories")
def test_what_is_hidden_is_in_no_sentence_and_no_file(
    opened: webdriver.Chrome, downloads: Path
) -> None:
    whole = opened.find_element(By.CSS_SELECTOR, "#sink .reading").text
    assert "1 language model" in whole
    picture = taken(opened, downloads, "sink", "png")
    drawing = taken(opened, downloads, "sink", "svg").decode()
    assert "nano-olmo" in drawing and "<svg" in drawing
    click(opened, "[name=shown][value='nano-olmo']")
    told = opened.find_element(By.CSS_SELECTOR, "#sink .reading").text
    assert "nano-olmo" not in told and told.startswith("Where the lines shown end")
    rows = list(csv.DictReader(taken(opened, downloads, "sink", "csv").decode().splitlines()))
    assert {row["group"] for row in rows} == {"bb/softmax-1l", "bb/relu-1l", "bb/adamw-3l"}
    assert "nano-olmo" not in taken(opened, downloads, "sink", "svg").decode()
    without = taken(opened, downloads, "sink", "png")
    assert without.startswith(b"\x89PNG") and without != picture
    click(opened, "[name=shown][value='nano-olmo']")
    assert opened.find_element(By.CSS_SELECTOR, "#sink .reading").text == whole


@page("trajectories")
def test_a_layer_without_data_says_so_and_has_no_law(opened: webdriver.Chrome) -> None:
    """Laws are of lead heads; block 2 is the three-layer toy's alone."""
    lead = marks(opened, "delta_logit", "line")
    whole = opened.find_element(By.CSS_SELECTOR, "#delta_logit .reading").text
    choose(opened, "chosen_layer", "2")
    left = marks(opened, "delta_logit", "line")
    assert 0 < len(left) < len(lead)
    told = opened.find_element(By.CSS_SELECTOR, "#delta_logit .reading").text
    assert "“3 layers, AdamW”" in told and "nano-olmo" not in told
    click(opened, "[name=draw_laws]")
    assert marks(opened, "delta_logit", "line") == left, "no law was drawn"
    click(opened, "[name=draw_laws]")
    choose(opened, "chosen_head", "2")
    assert marks(opened, "delta_logit", "line") == []
    empty = opened.find_element(By.CSS_SELECTOR, "#delta_logit .empty")
    assert empty.is_displayed() and empty.text.startswith("Nothing was measured in layer 2, head 2")
    choose(opened, "chosen_layer", "lead")
    choose(opened, "chosen_head", "lead")
    assert marks(opened, "delta_logit", "line") == lead
    assert opened.find_element(By.CSS_SELECTOR, "#delta_logit .reading").text == whole


@page("trajectories")
def test_the_chosen_theme_outlives_the_page(opened: webdriver.Chrome) -> None:
    def theme() -> str:
        return str(opened.execute_script("return document.documentElement.dataset.theme"))

    first = theme()
    click(opened, "#theme")
    chosen = theme()
    assert chosen != first and hash_of(opened) == "", "a link carries what is shown, not the paper"
    opened.refresh()
    WebDriverWait(opened, 30).until(
        lambda b: b.execute_script("return document.body.dataset.drawn")
    )
    assert theme() == chosen
    click(opened, "#theme")
    assert theme() == first


@page("trajectories")
def test_the_language_model_is_drawn_and_listed_in_the_ink_of_the_paper(
    opened: webdriver.Chrome,
) -> None:
    ask = (
        "const name = [...document.querySelectorAll('.group')]"
        ".find(g => g.textContent.includes('nano-olmo'));"
        "const css = document.createElement('i'); css.style.color = 'var(--ink)';"
        "document.body.append(css); const ink = getComputedStyle(css).color; css.remove();"
        "return [ink, getComputedStyle(name.querySelector('.swatch')).backgroundColor]"
    )
    inks = set()
    for _ in range(2):
        ink, listed = opened.execute_script(ask)
        drawn = {
            f"rgb({', '.join(str(int(mark[2][i : i + 2], 16)) for i in (1, 3, 5))})"
            for mark in marks(opened, "sink")
        }
        assert listed == ink and ink in drawn and len(drawn) == 4
        inks.add(ink)
        click(opened, "#theme")
    assert len(inks) == 2


@contextmanager
def dark_paper(opened: webdriver.Chrome) -> Iterator[None]:
    """The page in its dark theme; left in the one it had."""
    light = opened.execute_script("return document.documentElement.dataset.theme") == "light"
    if light:
        click(opened, "#theme")
        settle(opened)
    try:
        yield
    finally:
        if light:
            click(opened, "#theme")


@page("trajectories")
def test_a_printed_page_is_light_keeps_its_legend_and_has_no_controls(
    opened: webdriver.Chrome,
) -> None:
    """From dark paper; the list of runs, which is the legend, without its boxes."""
    with dark_paper(opened):
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        try:
            seen = opened.execute_script(
                "const seen = s => [...document.querySelectorAll(s)]"
                ".filter(e => e.checkVisibility());"
                "return {paper: getComputedStyle(document.body).backgroundColor,"
                " legend: seen('fieldset.wide .group').map(e => e.textContent.trim()).join(' '),"
                " patterns: seen('.pattern').length,"
                " boxes: seen('input').length, files: seen('.files').length,"
                " charts: seen('.chart svg').length}"
            )
        finally:
            opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert seen["paper"] == "rgb(255, 255, 255)"
    for name in ("1 layer, AdamW", "1 layer, ReLU, AdamW", "3 layers, AdamW", "nano-olmo"):
        assert name in seen["legend"]
    assert (seen["boxes"], seen["files"]) == (0, 0) and seen["charts"] > 5
    assert seen["patterns"] == 2, "of the domains that are shown"


@page("trajectories")
def test_a_dark_page_is_drawn_light_before_it_is_printed_and_dark_after(
    opened: webdriver.Chrome,
) -> None:
    """Every chart, of elements or of pixels, in time for the browser's picture of the page."""
    ask = (
        "window.texts = () => [...report.views.values()].flatMap(({view}) => {"
        "const found = []; const walk = n => { if (n.marktype === 'text')"
        " found.push(...n.items.map(i => i.fill)); for (const i of n.items ?? []) walk(i); };"
        "walk(view.scenegraph().root); return found; }).filter(c => c);"
        "window.prints = [];"
        "const told = () => report.settled().then(() => prints.push([...new Set(texts())]));"
        "window.addEventListener('beforeprint', told, {once: true});"
        "window.addEventListener('afterprint', () => prints.push('printed'), {once: true});"
        "return [...new Set(texts())]"
    )
    with dark_paper(opened):
        dark = opened.execute_script(ask)
        opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
        settle(opened)
        (light, printed), after = (
            opened.execute_script("return prints"),
            opened.execute_script("return [...new Set(texts())]"),
        )
    assert "#e4e9ee" in dark and set(after) == set(dark)
    assert printed == "printed", "the charts were drawn before the sheet was"
    assert "#1c2430" in light and "#e4e9ee" not in light


@pytest.mark.parametrize("name", ["claims", "laboratory", "data"])
def test_no_column_of_a_table_is_lost_in_print(
    browser: webdriver.Chrome, site: Path, name: str
) -> None:
    """As wide as a sheet of A4 between its margins, 7.5 inches; of many columns on a sheet of its
    own, turned: 10.2 inches."""
    open_page(browser, site / f"{name}.html")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        cut = browser.execute_script(
            "for (const d of document.querySelectorAll('details')) d.open = true;"
            "return [...document.querySelectorAll('table')].filter(e => e.checkVisibility())"
            ".filter(e => e.getBoundingClientRect().right > "
            "(getComputedStyle(e.closest('.scroll')).page === 'broad' ? 979 : innerWidth + 1))"
            ".map(e => [e.caption?.textContent ?? e.className, e.getBoundingClientRect().right])"
        )
        assert cut == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
