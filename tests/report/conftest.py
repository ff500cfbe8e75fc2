"""A browser, and a report of made-up results for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from trajectory.report.site import build

from .chromium import open_page, silent, start
from .synthetic import configured, make_results


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = make_results(tmp_path_factory.mktemp("results"))
    build(results, configured(results), results / "report", draw=False)
    return results / "report"


@pytest.fixture
def opened(browser: webdriver.Chrome, site: Path, request: Any) -> Iterator[webdriver.Chrome]:
    """The page named by the test's marker, watched."""
    open_page(browser, site / f"{request.param}.html")
    yield browser
    silent(browser, site.as_uri())
