"""The report of a large run: what it takes to build, how large its pages are, how fast they draw.

    python benchmarks/report.py            # build it
    python benchmarks/report.py --browser  # and time every page's first chart in headless Chromium

32 layers × 32 heads × 200 checkpoints × 3 domains, and 40 Bigram-Backcopy trajectories.

The numbers are made up; the tables are written through the schemas as a run writes them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.large import Size, make_large  # noqa: E402
from trajectory.report.site import build  # noqa: E402


def main() -> None:
    """Build, measure, and open if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true", help="open every page in Chromium")
    parser.add_argument("--keep", type=Path, help="folder that keeps tables and pages")
    parser.add_argument("--no-figures", action="store_true", help="leave SVG and PNG out")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="trajectory-large-"))
    try:
        start = time.perf_counter()
        config = make_large(folder, Size())
        print(f"tables: {time.perf_counter() - start:.1f} s")
        start, cpu = time.perf_counter(), time.process_time()
        build(folder, config, folder / "report", draw=not options.no_figures)
        print(
            f"build: {time.perf_counter() - start:.1f} s wall, "
            f"{time.process_time() - cpu:.1f} s of processor time"
        )
        for page in sorted((folder / "report").glob("*.html"), key=lambda p: -p.stat().st_size):
            print(f"  {page.name:20} {page.stat().st_size / 1e6:6.2f} MB")
        if options.browser:
            from tests.report.chromium import first_charts

            for name, milliseconds in first_charts(folder / "report").items():
                print(f"  {name:20} first chart after {milliseconds:5.0f} ms")
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
