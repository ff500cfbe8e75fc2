"""Pictures from Python: what they draw, in which look, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import altair as alt
import polars as pl
import pytest
import vl_convert

from trajectory import plot
from trajectory.dynamics.portraits import floor_log_odds
from trajectory.errors import TrajectoryError
from trajectory.report.figures import THEMES
from trajectory.summary import as_html, as_text, summary

STEPS, LAYERS, HEADS = (0, 10, 100, 1000), 3, 2


def heads(*trajectories: str, domains: tuple[str, ...] = ("prose", "code")) -> pl.DataFrame:
    """Head 1 of layer 1 becomes a sink; every other one does not."""
    return pl.DataFrame(
        [
            {
                **{"trajectory": t, "step": s, "domain": d, "layer": layer, "head": h},
                "sink_excess": n / 4 if (layer, h) == (1, 1) else 0.01 * h,
                "sink_weight": 0.1 + n / 5 if (layer, h) == (1, 1) else 0.1,
                "sink_rate": float((layer, h) == (1, 1)),
                "sink_log_odds": float(n),
                "sink_weight_floor": 0.1,
                "value_ratio": 1 / (1 + n),
            }
            for t in trajectories or ("run",)
            for d in domains
            for n, s in enumerate(STEPS)
            for layer in range(LAYERS)
            for h in range(HEADS)
        ]
    )


def layers() -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                **{"trajectory": "run", "step": s, "domain": "prose", "layer": depth},
                "residual_ratio": 1.0 + n * depth,
                "residual_norm_sink": 2.0 + n * depth,
                "residual_norm_rest": 2.0,
            }
            for n, s in enumerate(STEPS)
            for depth in range(LAYERS + 1)
        ]
    )


def rows(chart: Any, *, of: str) -> list[dict[str, Any]]:
    """What the marks of a kind draw."""
    spec = chart.to_dict()
    found: list[dict[str, Any]] = []

    def walk(node: Any, data: Any) -> None:
        if isinstance(node, dict):
            data = node.get("data", data)
            mark = node.get("mark")
            if (mark if isinstance(mark, str) else (mark or {}).get("type")) == of:
                found.extend(spec["datasets"][data["name"]])
            for key in ("layer", "hconcat", "spec"):
                walk(node.get(key), data)
        elif isinstance(node, list):
            for part in node:
                walk(part, data)

    walk(spec, None)
    return found


def drawn(chart: Any) -> str:
    """The chart as a notebook draws it, in the report's look."""
    spec = chart.to_dict()
    assert spec["config"]["axis"]["labelColor"] == THEMES["light"].ink
    assert "application/vnd.vegalite" in str(alt.renderers.names()) or chart._repr_mimebundle_
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.startswith("<svg") and "NaN" not in svg
    return svg


def test_a_map_has_a_cell_per_head_of_the_last_record_and_frames_the_lead() -> None:
    cells = rows(plot.heads(heads()), of="rect")
    assert len(cells) == 2 * LAYERS * HEADS
    assert {cell["step"] for cell in cells} == {1000}
    assert [(c["layer"], c["head"]) for c in cells if c["picked"]] == [(1, 1)] * 2
    earlier = rows(plot.heads(heads(), "value_ratio", step=10), of="rect")
    assert {cell["value_ratio"] for cell in earlier} == {0.5}
    assert "sink excess" in drawn(plot.heads(heads(domains=("prose",))))
    drawn(plot.heads(heads().lazy(), "value_ratio"))


def test_over_training_the_lead_is_in_front_of_all_heads() -> None:
    chart = plot.over_training(heads("a", "b"), "sink_excess")
    points = rows(chart, of="point")
    assert {(p["layer"], p["head"]) for p in points} == {(1, 1)}
    assert sorted({p["step"] for p in points}) == [10, 100, 1000]
    assert len(points) == 2 * 2 * 3
    every = rows(chart, of="line")
    assert len(every) == len(points) + 2 * 2 * 3 * LAYERS * HEADS
    assert "sink excess" in drawn(chart)


def of_family() -> pl.DataFrame:
    names = ("a", "b", "c")
    told = pl.DataFrame(
        {
            "trajectory": names,
            "parameters": [7_000_000, 29_000_000, 29_000_000],
            "data": ["c4", "c4", "falcon"],
        }
    )
    measured = heads(*names, domains=("prose",)).with_columns(tokens=pl.col("step") * 1000)
    return measured.join(told, on="trajectory")


def test_runs_of_a_family_are_coloured_and_parted_by_what_tells_them_apart() -> None:
    chart = plot.over_family(of_family(), axis="tokens")
    drawn(chart)
    spec = chart.to_dict()
    points = rows(chart, of="point")
    assert {(r["trajectory"], r["layer"], r["head"]) for r in points} == {
        (name, 1, 1) for name in "abc"
    }
    assert [r["tokens"] for r in points if r["trajectory"] == "a"] == [10_000, 100_000, 1_000_000]
    assert {r["parameters"] for r in points} == {7_000_000, 29_000_000}
    assert spec["layer"][0]["encoding"]["color"]["scale"]["type"] == "log"
    parted = plot.over_family(of_family(), "value_ratio", colour="data", panels="data")
    drawn(parted)
    spec = parted.to_dict()
    assert spec["facet"]["field"] == "data"
    assert spec["spec"]["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["c4", "falcon"]
    with pytest.raises(TrajectoryError, match="over_family: the frame has no column 'parameters'"):
        plot.over_family(heads())
    with pytest.raises(TrajectoryError, match="no record after step 0 has the statistic"):
        plot.over_family(of_family().filter(step=0))


def test_over_training_reads_depths_and_records_too() -> None:
    points = rows(plot.over_training(layers(), "residual_ratio"), of="point")
    assert {p["layer"] for p in points} == {LAYERS - 1}, "the greatest of the inner ones"
    losses = layers().filter(layer=0).select("trajectory", "step", "domain", loss=pl.lit(3.0))
    drawn(chart := plot.over_training(losses, "loss"))
    assert len(rows(chart, of="point")) == 3


def test_a_phase_portrait_is_a_line_per_trajectory_or_a_point_per_head() -> None:
    chart = plot.phase(heads("a", "b", domains=("prose",)))
    assert len(rows(chart, of="point")) == 2 * 3
    above, uniform = [r["above"] for r in rows(chart, of="line")[:2]], floor_log_odds(0.1)
    assert uniform < 0 and above == pytest.approx([1 - uniform, 2 - uniform], abs=1e-3)
    drawn(chart)
    single = plot.phase(heads().filter(step=1000).drop("step", "trajectory"))
    assert len(rows(single, of="point")) == 2 * LAYERS * HEADS
    drawn(single)


def test_by_depth_there_are_norms_or_weights() -> None:
    norms = rows(plot.depth(layers()), of="line")
    assert {r["what"] for r in norms} == {"sink", "median of the rest"}
    assert max(r["value"] for r in norms) == 2 + 3 * LAYERS
    weights = rows(plot.depth(heads(domains=("prose",)), step=100), of="line")
    found = {(r["what"], r["layer"]): r["value"] for r in weights}
    assert found["strongest head", 1] == 0.5
    assert found["mean over heads", 1] == 0.3
    drawn(plot.depth(layers()))


def test_an_overview_has_both_pictures_with_their_own_legends() -> None:
    chart = plot.overview(heads().filter(step=1000), layers().filter(step=1000))
    assert {r["domain"] for r in rows(chart, of="rect")} == {"prose", "code"}
    assert {r["what"] for r in rows(chart, of="line")} == {"sink", "median of the rest"}
    assert chart.to_dict()["resolve"]["scale"] == {
        "color": "independent",
        "strokeDash": "independent",
    }
    drawn(chart)


def test_reinforcement_draws_both_arrows_of_every_key() -> None:
    place = [
        {"domain": "prose", "readers": "late", "layer": 0, "head": h, "key": key}
        for h in range(2)
        for key in ("sink", "position 4")
    ]
    forces = pl.DataFrame(
        {**p, "key_kind": "sink" if p["key"] == "sink" else "position", "weight": 0.4,
         "coupling": 0.02 * (n + 1), "coupling_se": 0.001, "fisher": 0.01}
        for n, p in enumerate(place)
    )  # fmt: skip
    both = {
        "sink_arrow": 0.03,
        "sink_arrow_se": 0.001,
        "drain_arrow": 0.02,
        "drain_arrow_se": 0.002,
    }
    chart = plot.reinforcement(forces, pl.DataFrame({**p, **both} for p in place))
    spec = chart.to_dict()
    points = spec["datasets"]["agreement"]
    assert len(points) == 2 * len(place)
    assert {p["value"] for p in points if p["arrow"] == "sink_arrow"} == {0.03}
    drawn(chart)
    with pytest.raises(TrajectoryError, match="^reinforcement: no key has a coupling and both"):
        none = pl.lit(None, pl.Float64)
        arrows = pl.DataFrame({**p, **both} for p in place)
        plot.reinforcement(forces, arrows.with_columns(sink_arrow=none))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (
            lambda: plot.heads(heads().drop("head")),
            "heads: the frame has no column 'head'; it need",
        ),
        (lambda: plot.heads(heads(), "sinks"), "heads: the frame has no column 'sinks'"),
        (lambda: plot.heads(heads("a", "b")), r"heads: the frame has 2 trajectories \(a, b…\); ch"),
        (lambda: plot.heads(heads(), step=7), "heads: no record of step 7; there are 4, 0 to 1000"),
        (lambda: plot.heads(heads().clear()), "heads: the frame has no rows"),
        (lambda: plot.over_training(heads().filter(step=10)), "over_training: fewer than two reco"),
        (
            lambda: plot.over_training(heads().drop("sink_excess"), "value_ratio"),
            "the frame has no",
        ),
        (lambda: plot.phase(heads().with_columns(value_ratio=0.0)), "phase: no head has log-odds"),
        (lambda: plot.depth(heads("a", "b")), "depth: the frame has 2 trajectories"),
    ],
)
def test_what_cannot_be_drawn_is_named(picture: Any, message: str) -> None:
    with pytest.raises(TrajectoryError, match=f"^{message}"):
        picture()


def test_a_summary_has_the_lead_head_and_the_peak_of_each_domain() -> None:
    last = heads().filter(step=1000)
    found = summary(last, layers().filter(step=1000), {"prose": 3.5})
    assert found.to_dicts() == [
        {**{"domain": "prose", "loss": 3.5, "sink_rate": 1 / 6, "layer": 1, "head": 1},
         **{"sink_excess": 0.75, "value_ratio": 0.25, "residual_ratio": 7.0, "depth": 2}},
        {**{"domain": "code", "loss": None, "sink_rate": 1 / 6, "layer": 1, "head": 1},
         **{"sink_excess": 0.75, "value_ratio": 0.25, "residual_ratio": None, "depth": None}},
    ]  # fmt: skip
    head, prose, code = (line.split() for line in as_text(found).split("\n"))
    columns = "domain loss sink rate strongest sink sink excess value ratio peak at depth"
    assert head == columns.split()
    assert prose == ["prose", "3.5", "0.167", "layer", "1,", "head", "1", "0.75", "0.25", "7", "2"]
    assert code[-2:] == ["—", "—"]
    assert as_html(found).count("<td>") == 16


def test_pictures_need_no_torch_and_the_package_starts_at_once() -> None:
    """Nor do the names of what measures: torch comes when something is measured."""
    code = (
        "import sys, time; t = time.process_time(); import trajectory; "
        "print(time.process_time() - t); import trajectory.api, trajectory.plot, trajectory.record;"
        "from trajectory.api import Measured, MeasuredForces, forces, measure;"
        "from trajectory.record import log_spaced;"
        "print(*({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.split("\n")[:2]
    assert float(seconds) < 0.3
    assert heavy == ""
