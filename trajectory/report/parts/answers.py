"""What trainings answer: forks against their predictions, and motion against force."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Cell, Chart, Figure, Grid, Missing
from trajectory.report.palette import KINDS, QUIET
from trajectory.report.parts.answered import P_VALUE
from trajectory.report.run import Run
from trajectory.schemas import FORKS, MOTION_TESTS

KEYS = {"sink": KINDS[1], "position": QUIET, "token": KINDS[0]}
ARROWS = {"value": "drain → sink (value hooked)", "logit": "sink → drain (logit hooked)"}


def forks(run: Run, data: dict[str, pl.DataFrame]) -> Figure | Missing:
    """Answers to hooks against what the gradients predict, means over seeds."""
    title = "Forks of the training: measured against predicted"
    if not run.has("forks"):
        return Missing(title, reason("forks"), "forks")
    table = with_group(run.frame("forks"))
    found = [
        {**f.__dict__, "updates": updates, "arrow": ARROWS[f.hooked]}
        for updates in sorted(table["updates"].unique())
        for f in levels.forked(table, updates)
    ]
    rows = pl.DataFrame(found, infer_schema_length=None).drop_nulls("predicted")
    if rows.is_empty():
        return Missing(title, "no prediction was computed for its forks", "forks")
    data["forks"] = rows
    near = rows.filter((pl.col("kind") == "sink") & (pl.col("predicted") != 0))
    ratios = (near["mean"] / near["predicted"]).to_list()
    same = sum(ratio > 0 for ratio in ratios)
    return Figure(
        "forks",
        title,
        _scatter(),
        f"At sinks {same} of {words.count(len(ratios), 'answer')} have the predicted sign; they "
        f"are {words.number(words.median(pl.Series(ratios)))} of the prediction in the median.",
        data="forks",
        table="forks",
        definition=f"{marks.definition(FORKS, 'predicted_log_odds_response')}. Bars: 95 % "
        "intervals over seeds; the line is the prediction",
        height=300,
    )


def table(forks: list[levels.Forked]) -> Grid:
    """Every answer of a fork over seeds, with how many seeds reinforce and what was predicted."""
    rows: list[list[str | Cell]] = []
    digits = _digits([fork.mean for fork in forks])
    for fork in sorted(forks, key=lambda f: (f.group, f.hooked, f.step, f.kind != "sink")):
        ends = "" if fork.low is None else f" [{fork.low:.{digits}f}, {fork.high:.{digits}f}]"
        rows.append(
            [
                Cell(fork.group),
                ARROWS[fork.hooked],
                Cell(f"{fork.step:,}", "number"),
                fork.kind if fork.kind == "sink" else f"sham: {fork.kind}",
                Cell(f"{fork.positive} of {fork.seeds}", "number"),
                Cell(f"{fork.mean:.{digits}f}{ends}", "number"),
                Cell("—" if fork.predicted is None else f"{fork.predicted:.{digits}f}", "number"),
            ]
        )
    return Grid(
        "forked",
        ["variant", "arrow", "step", "key", "seeds that reinforce", "answer", "predicted"],
        rows,
        f"Forks of {levels.UPDATES} updates; means over seeds with 95 % Student intervals, in nats "
        "per e-fold where the value is hooked, e-folds per nat where the logit is. Positive: "
        "reinforcement.",
        fold=12,
        title="What forks answer, over seeds",
    )


def _digits(values: list[float]) -> int:
    """Decimals that show two digits of the median of these numbers' sizes."""
    middle = words.median(pl.Series(values).abs())
    return min(9, max(2, 1 - math.floor(math.log10(middle)))) if middle else 2


def _scatter() -> Chart:
    base = marks.named("forks")
    x = alt.X("predicted:Q", title="predicted")
    color = (
        alt.Color("kind:N", title="key").scale(domain=list(KEYS), range=list(KEYS.values()))
    ).legend(orient="top")
    tips = [
        *(alt.Tooltip(f"{n}:N") for n in ("group", "kind", "arrow")),
        *marks.tips(FORKS, ["step", "updates"]),
        *marks.tips(None, ["positive", "seeds", "mean", "low", "high", "predicted"],
                    positive="seeds with reinforcement", mean="measured, mean over seeds"),
    ]  # fmt: skip
    shared = base.encode(x=x, color=color, tooltip=tips)
    bars = shared.transform_filter("isValid(datum.low)").mark_rule()
    line = base.mark_line(color=marks.GREY, strokeDash=[3, 3]).encode(x=x, y="predicted:Q")
    return alt.layer(
        line,
        bars.encode(y=alt.Y("low:Q", title="measured"), y2="high:Q"),
        shared.mark_point(filled=True, size=50, opacity=0.9).encode(
            y="mean:Q",
            shape=alt.Shape("arrow:N", title=None).legend(
                orient="top",
                columns=1,
                labelLimit=0,
                symbolFillColor=marks.GREY,
                symbolStrokeColor=marks.GREY,
            ),
        ),
    )


def motion(run: Run, data: dict[str, pl.DataFrame]) -> Figure | Missing:
    """How well force and flow order the changes until the next record, against shuffled heads."""
    title = "From force to motion"
    if not run.has("motion_tests"):
        return Missing(title, reason("motion_tests"), "motion")
    rows = run.frame("motion_tests").drop_nulls("rank_correlation")
    rows = rows.filter(pl.col("readers") == "late").join(
        _domains(run, rows), on=["group", "domain"]
    )
    if rows.is_empty():
        return Missing(title, "no head has two neighbouring checkpoints with forces", "motion")
    rows = rows.with_columns(
        pl.format("{}, {}", "group", "key").alias("line"),
        pl.format("{} by {}", "variable", "predictor").alias("test"),
    )
    data["motion"] = rows
    tests = [f"{v} by {p}" for v in ("sink", "drain") for p in ("force", "flow")]
    color = alt.Color("test:N", title="change of").scale(domain=tests, range=list(KINDS[:4]))
    base = marks.named("motion").encode(
        y=alt.Y("line:N", title=None).axis(**marks.rows_axis(260)),
        yOffset=alt.YOffset("test:N").sort(tests),
        color=color.legend(orient="top", symbolOpacity=1),
        tooltip=[
            *(alt.Tooltip(f"{n}:N") for n in ("group", "domain", "key", "variable", "predictor")),
            *marks.tips(MOTION_TESTS, ["pairs", "heads", "sign_agreement", "sign_null", "sign_p"]),
            *marks.tips(MOTION_TESTS, ["rank_correlation", "rank_null", "rank_p", "mobility"]),
        ],
    )
    title_x = ["rank correlation with the change", "until the next checkpoint"]
    x = alt.X("rank_correlation:Q", title=title_x)
    null = base.transform_filter("isValid(datum.rank_null_low)").mark_rule(
        strokeWidth=5, opacity=0.35
    )
    return Figure(
        "motion",
        title,
        alt.layer(
            marks.reference(0.0, "no relation", vertical=True),
            null.encode(x=alt.X("rank_null_low:Q", title=title_x), x2="rank_null_high:Q"),
            base.mark_point(filled=True, size=44, opacity=1).encode(x=x),
        ),
        _motion_reading(rows),
        data="motion",
        table="motion_tests",
        definition="Points: Spearman's rank correlation. Bars: 95 % of it with the predictor "
        f"shuffled among heads. Shuffled: {marks.definition(MOTION_TESTS, 'shuffled')}",
        wide=True,
        height=min(900, max(160, 30 * rows["line"].n_unique())),
    )


def _domains(run: Run, rows: pl.DataFrame) -> pl.DataFrame:
    """Of each group the domain that is drawn: all queries together, or the first that is shown."""
    found = []
    for (group,), part in rows.group_by("group", maintain_order=True):
        own = set(part["domain"])
        order = ["all", *run.shown_domains, *sorted(own)]
        found.append({"group": group, "domain": next(d for d in order if d in own)})
    return pl.DataFrame(found, {"group": pl.String, "domain": pl.String})


def _motion_reading(rows: pl.DataFrame) -> str:
    sinks = rows.filter(pl.col("key_kind") == "sink").drop_nulls("rank_p")
    told: list[str] = []
    for predictor in ("force", "flow"):
        own = sinks.filter(pl.col("predictor") == predictor)
        if own.height:
            better = (own["rank_p"] <= P_VALUE) & (own["rank_correlation"] > 0)
            does = "" if told else "does "
            told.append(
                f"the {predictor} {does}in {better.sum()} of {words.count(own.height, 'test')}"
            )
    if not told:
        return "No sink has heads to shuffle: nothing is told from chance."
    return (
        f"Right of its bar a predictor beats shuffled heads: at sinks {words.listed(told)} (p ≤ "
        f"{P_VALUE:g})."
    )
