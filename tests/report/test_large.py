"""The report of a full suite: small enough, quick enough, and alive."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trajectory.report.site import build

from .chromium import open_page, requests, start
from .large import Size, make_large

MOST_BYTES = 8_000_000


@pytest.mark.slow
def test_a_full_suite_is_reported(tmp_path: Path) -> None:
    """32 layers × 32 heads × 200 checkpoints × 3 domains, and 40 Bigram-Backcopy trajectories.

    Times are benchmarks/report.py's; here they only have to be far from hopeless.
    """
    results, profile = tmp_path / "results", tmp_path / "chromium"
    config = make_large(results, Size())
    start_of_build = time.process_time()
    build(results, config, results / "report", draw=False)
    assert time.process_time() - start_of_build < 120
    pages = sorted((results / "report").glob("*.html"))
    for page in pages:
        assert page.stat().st_size < MOST_BYTES, page.name
    browser = start(profile)
    try:
        for page in pages:
            open_page(browser, page, seconds=120)
            for chart in browser.execute_script(
                "return [...document.querySelectorAll('.chart')].map(c => c.id.slice(6))"
            ):
                assert browser.execute_script("return report.marks(arguments[0]).length", chart), (
                    f"{page.name}: {chart} is empty"
                )
            assert browser.get_log("browser") == [], page.name
            folder = results.as_uri()
            assert [u for u in requests(browser) if not u.startswith((folder, "data:"))] == []
    finally:
        browser.quit()
