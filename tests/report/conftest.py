"""One report of made-up results for all files, and a browser for each."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from selenium import webdriver

import trajectory
from trajectory.config import Config
from trajectory.report.labelled import labelled
from trajectory.report.names import Names
from trajectory.report.page import Page
from trajectory.report.pages import PAGES
from trajectory.report.run import Run
from trajectory.report.site import build

from .chromium import open_page, silent, start
from .synthetic import configured, make_results


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


ROOMS = ("report", "dynamics", "schemas", "config")
"""Whose code decides the synthetic run and its report; single modules and this folder beside."""

KEPT = 24 * 3600
"""Seconds for which a folder of other code is left to a test run that may still read it."""


def content() -> str:
    """What the synthetic run and its report are made from, in one word."""
    package = Path(trajectory.__file__).parent
    folders = [package / room for room in ROOMS]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [*package.glob("*.py"), *Path(__file__).parent.glob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.suffix != ".pyc" and not path.name.startswith("test_"):
            digest.update(f"{path}\0".encode() + path.read_bytes())
    for name in ("altair", "polars", "pyarrow", "numpy", "scipy", "vl-convert-python"):
        digest.update(f"{name} {version(name)}\0".encode())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this code, which test runs and their processes share."""
    own = tmp_path_factory.getbasetemp()
    above = own.parent.parent if "PYTEST_XDIST_WORKER" in os.environ else own.parent
    folder = above / f"synthetic-{content()}"
    folder.mkdir(exist_ok=True)
    for other in above.glob("synthetic-*"):
        if other != folder and time.time() - other.stat().st_mtime > KEPT:
            shutil.rmtree(other, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def results(shared: Path) -> Path:
    """The synthetic run, made once for all tests, which only read it."""
    folder = shared / "results"
    with FileLock(shared / "results.lock"):
        if not (shared / "results.done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make_results(folder)
            (shared / "results.done").touch()
    return folder


@pytest.fixture(scope="session")
def config(results: Path) -> Config:
    return configured(results)


@pytest.fixture(scope="session")
def run(results: Path, config: Config) -> Run:
    return Run(results, config)


@pytest.fixture(scope="session")
def pages(run: Run) -> list[Page]:
    """Pages as their modules make them, with the names of the config."""
    return [make(run) for make in PAGES]


@pytest.fixture(scope="session")
def labelled_pages(run: Run, pages: list[Page]) -> list[Page]:
    """Pages as people read them."""
    names = Names(run.config)
    return [labelled(page, run, names) for page in pages]


@pytest.fixture(scope="session")
def site(shared: Path, results: Path, config: Config) -> Path:
    """The report of the synthetic run, built once for all tests, which only read it."""
    folder = shared / "report"
    with FileLock(shared / "report.lock"):
        if not (shared / "report.done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            build(results, config, folder, draw=False)
            (shared / "report.done").touch()
    return folder


@pytest.fixture
def opened(browser: webdriver.Chrome, site: Path, request: Any) -> Iterator[webdriver.Chrome]:
    """The page named by the test's marker, watched."""
    open_page(browser, site / f"{request.param}.html")
    yield browser
    silent(browser, site.as_uri())
