"""The README's four pictures: pages of a finished run in headless Chromium, as small PNGs.

    python docs/gallery.py results/report        # writes docs/gallery/*.png

Needs Debian's chromium and chromium-driver, and the development tools of pyproject.toml.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.chromium import open_page, start  # noqa: E402

SHOTS = {
    "overview": ("index", None),
    "reinforcement": ("reinforcement", "agreement"),
    "heads": ("heads", None),
    "phase": ("alignment", "bb"),
}
"""Picture → page and the chart at its top; None where the page's own top is shown."""

WIDTH, HEIGHT = 1240, 940
MOST_BYTES = 250_000


def main() -> None:
    """Take the pictures."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "index.html").is_file():
        sys.exit("error: name a folder with a report, such as results/report")
    site, folder = Path(sys.argv[1]).resolve(), ROOT / "docs" / "gallery"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = start(profile)
        try:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False},
            )
            for name, (page, chart) in SHOTS.items():
                open_page(browser, site / f"{page}.html")
                if chart:
                    browser.execute_script(
                        "document.getElementById(arguments[0]).scrollIntoView()", chart
                    )
                found = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                image = base64.b64decode(found["data"])
                if len(image) > MOST_BYTES:
                    sys.exit(f"error: {name}.png has {len(image)} bytes, at most {MOST_BYTES}")
                (folder / f"{name}.png").write_bytes(image)
                print(f"docs/gallery/{name}.png: {len(image):,} bytes")
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
