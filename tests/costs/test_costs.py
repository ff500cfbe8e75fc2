from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trajectory.costs.benchmarks import by_rule, read_benchmarks
from trajectory.schemas import COSTS
from trajectory.tables import from_rows

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def test_benchmarks_become_rows(tmp_path: Path) -> None:
    (tmp_path / "measure" / "pythia").mkdir(parents=True)
    (tmp_path / "measure" / "pythia" / "step0.tsv").write_text(
        HEADER + "12.50\t0:00:12\t100.00\t200.00\t90.00\t95.00\t2.00\t0.50\t80.00\t10.00\n"
    )
    (tmp_path / "measure" / "pythia" / "step8.tsv").write_text(
        HEADER + "0.20\t0:00:00\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n"
    )
    (tmp_path / "gather.tsv").write_text(
        HEADER + "90.00\t0:01:30\t50.00\t2.00\t9.00\t9.00\t0.00\t8.00\t10.00\t9.00\n"
    )
    rows, damaged = read_benchmarks(tmp_path)
    assert not damaged
    frame = pl.DataFrame(from_rows(rows, COSTS))
    assert frame["job"].to_list() == ["", "pythia/step0", "pythia/step8"]
    assert frame["peak_memory"].to_list() == [50 * 2**20, 100 * 2**20, None]
    summary = by_rule(frame).to_dicts()
    assert [(r["rule"], r["jobs"], r["seconds"]) for r in summary] == [
        ("gather", 1, 90.0),
        ("measure", 2, 12.7),
    ]
    assert summary[1]["bytes_read"] == 2 * 2**20
    assert summary[1]["peak_memory"] == 100 * 2**20


@pytest.mark.parametrize(
    "text",
    [
        *("", "s\n", "a\tb\n1\t2\n"),
        *(f"{HEADER}{s}\t0\t0\t0\t0\t0\t0\t0\t0\t0\n" for s in ("many", "nan", "-1", "1e400")),
        f"{HEADER}1\t0\tinf\t0\t0\t0\t0\t0\t0\t0\n",
    ],
)
def test_what_is_no_benchmark_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "gather.tsv").write_text(text)
    (tmp_path / "claims.tsv").write_text(
        HEADER + "1.00\t0:00:01\t1.00\t2.00\t1.00\t1.00\t0.00\t0.00\t1.00\t1.00\n"
    )
    rows, (message,) = read_benchmarks(tmp_path)
    assert [row["rule"] for row in rows] == ["claims"], "a damaged one costs its row and no more"
    assert message.startswith(f"{tmp_path / 'gather.tsv'}: not a benchmark")
