"""Pages built from tables that the test makes: what they say, and that no text can break out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import vl_convert

from trajectory.config import Config, parse
from trajectory.errors import TrajectoryError
from trajectory.report import charts, findings, series
from trajectory.report.site import build, payload_json

from .synthetic import RISING, make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def config(results: Path) -> Config:
    return parse(
        {
            "name": "synthetic",
            "results": str(results),
            "bb": {
                "variants": {
                    "softmax-1l": {"seeds": [0, 1]},
                    "relu-1l": {"attention": "relu"},
                    "adamw-3l": {"layers": 3},
                }
            },
            "suites": {"nano-olmo": {}},
        }
    )


@pytest.fixture(scope="module")
def site(results: Path, config: Config) -> Path:
    build(results, config, results / "report")
    return results / "report"


def test_pages_ask_for_nothing_outside_their_folder(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text()
        for target in re.findall(r'(?:src|href)="([^"]*)"', text):
            if target != "data:,":
                assert (site / target.split("#")[0]).is_file(), target
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "Content-Security-Policy" in text


def test_the_overview_tells_sink_drain_and_peak_apart(results: Path, config: Config) -> None:
    lines = {(x.trajectory, x.domain): x for x in findings.overview(series.load(results), config)}
    shown = {key: {p: c.shown for p, c in x.cells.items()} for key, x in lines.items()}
    assert shown["bb/softmax-1l/seed0", "non_trigger"] == {
        "sink": True, "drain": True, "peak": False,
    }  # fmt: skip
    assert not any(shown["bb/relu-1l/seed0", "non_trigger"].values())
    assert shown["nano-olmo", "prose"] == {"sink": True, "drain": True, "peak": True}
    assert ("bb/softmax-1l/seed0", "trigger") not in lines, "heads are active on triggers"


def test_differences_from_the_paper_are_said(results: Path, config: Config) -> None:
    """The synthetic three-layer run has no peak, which the paper's size has."""
    told = findings.differences(findings.overview(series.load(results), config))
    assert told == [
        "bb/adamw-3l/seed0 on non_trigger: the paper's size shows a residual-state peak; "
        "this reduced run ends without one (ratio 1.00 at step 1000)."
    ]


def test_gated_heads_are_counted(results: Path) -> None:
    """In the synthetic runs the sink is on non-triggers only, and prose and code are alike."""
    rows = {row["trajectory"]: row for row in findings.gated_heads(series.load(results))}
    assert (rows["bb/softmax-1l/seed0"]["gated"], rows["bb/softmax-1l/seed0"]["heads"]) == (1, 1)
    assert (rows["bb/adamw-3l/seed0"]["gated"], rows["bb/adamw-3l/seed0"]["heads"]) == (1, 3)
    assert rows["nano-olmo"]["gated"] == rows["bb/relu-1l/seed0"]["gated"] == 0


def test_readings_are_computed_from_the_data(results: Path) -> None:
    run = series.load(results)
    text = findings.reading(run, "sink")
    assert f"{RISING[-1]:.2f} (bb/softmax-1l, mean of 2 seeds)" in text
    assert "0.00 (bb/relu-1l)" in text
    assert "(nano-olmo on prose)" in text
    for panel in charts.PANELS:
        assert findings.reading(run, panel.name).endswith(".")


def test_every_chart_is_one_that_vega_draws(results: Path) -> None:
    run = series.load(results)
    data = {
        "heads": series.head_series(run),
        "layers": series.layer_series(run),
        "checkpoints": series.checkpoint_series(run),
        "fits": series.fit_series(run),
    }
    shown = sorted(set(run.heads["trajectory"]))
    for panel in charts.PANELS:
        chart = charts.trajectory_panel(panel, series.groups(run), ["non_trigger", "prose"])
        chart["width"] = 400
        chart["datasets"] = {**chart.get("datasets", {}), **data}
        for parameter in chart["params"]:
            if parameter["name"] == "shown":
                parameter["value"] = shown
        drawing = vl_convert.vegalite_to_svg(json.dumps(chart))
        assert drawing.count('aria-roledescription="point"') > 10, panel.name


def test_one_colour_per_group_whatever_the_chart(results: Path) -> None:
    groups = series.groups(series.load(results))
    scales = set()
    for panel in charts.PANELS:
        text = json.dumps(charts.trajectory_panel(panel, groups, []))
        scales |= set(re.findall(r'"scale": (\{"domain": \["bb/adamw.*?\]\})', text))
    assert len(scales) == 1


def test_texts_from_outside_cannot_leave_their_element() -> None:
    hostile = "</script><script>alert(1)</script>\u2028&"
    text = payload_json({"token": hostile})
    assert "<" not in text and ">" not in text and "&" not in text
    assert json.loads(text) == {"token": hostile}


def test_a_run_without_tables_is_named(tmp_path: Path, config: Config) -> None:
    with pytest.raises(TrajectoryError, match=r"heads\.parquet: no such file"):
        build(tmp_path, config, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_rebuilt_report_replaces_the_old_one(
    results: Path, config: Config, tmp_path: Path
) -> None:
    output = tmp_path / "report"
    output.mkdir()
    (output / "stale.html").touch()
    build(results, config, output)
    assert not (output / "stale.html").exists()
    assert (output / "index.html").is_file()
    assert list(tmp_path.iterdir()) == [output]
