"""*Checkpoints*: what was listed, what was measured, and what can be trusted."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import axes, marks, palette, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Figure, Folded, Grid, Heading, Missing, Page
from trajectory.report.run import Run
from trajectory.schemas import COSTS, MANIFEST
from trajectory.schemas.base import UNSTEPPED

STATES = ("measured", "failed", "not selected", "excluded")
STATE_COLOURS = (palette.KINDS[0], palette.KINDS[3], palette.QUIET, palette.KINDS[1])

TRUSTED = ("good", "unaudited")
"""Verdicts of the audit that name no problem."""


def make(run: Run) -> Page:
    """The page."""
    title = "Which checkpoints were measured, and are they what their names say?"
    lead = "The manifest of every suite, each revision pinned to its content and audited."
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    if run.manifests:
        manifest = _manifest(run)
        data["manifest"] = manifest
        blocks += [_plan(manifest), _bytes(manifest), _verdicts(run, manifest)]
        if (suspects := _suspects(manifest)) is not None:
            blocks += [Heading("Suspects", name="suspects"), suspects]
        blocks.append(Folded("Every revision", [_revisions(manifest)]))
    else:
        blocks.append(Missing("Manifests", reason("manifest")))
    blocks += [Missing(f"Suite {name}", why) for name, why in _left_out(run)]
    if run.has("costs"):
        data["costs"] = run.costs
        blocks += [Heading("What the run cost"), _costs(data["costs"])]
    return Page(
        "checkpoints",
        "Checkpoints",
        title,
        lead,
        blocks,
        (),
        data,
        answer=_answer(data["manifest"]) if "manifest" in data else "",
    )


def _answer(manifest: pl.DataFrame) -> str:
    """How many revisions were measured, and how many of these the audit doubts."""
    measured = manifest.filter(pl.col("state") == "measured")
    doubted = measured.filter(~pl.col("verdict").is_in(TRUSTED)).height
    were = words.agree(measured.height, manifest.height, "was", "were")
    return (
        f"{measured.height:,} of {words.count(manifest.height, 'listed revision')} {were} "
        f"measured; the audit doubts {f'{doubted:,}' if doubted else 'none'} of these."
    )


def _left_out(run: Run) -> list[tuple[str, str]]:
    """Suites that could not be listed or chosen from, and why."""
    if not run.has("outcomes"):
        return []
    rows = run.frame("outcomes", "suite", "revision", "reason").filter(revision="*")
    return list(rows.select("suite", "reason").iter_rows())


def _manifest(run: Run) -> pl.DataFrame:
    """Every listed revision with what became of it."""
    listed = pl.concat(run.manifests.values()).with_columns(
        pl.col("trajectory").fill_null(pl.col("suite"))
    )
    if run.has("outcomes"):
        known = run.frame("outcomes", "suite", "revision", "status", "error").with_columns(
            pl.col("status").str.replace("_", " ").alias("state")
        )
    else:
        measured = run.frame("checkpoints", "trajectory", "revision").drop_nulls().unique()
        known = (
            listed.select("suite", "revision", "trajectory")
            .join(measured, on=["trajectory", "revision"])
            .select("suite", "revision", state=pl.lit("measured"), error=pl.lit(None, pl.String))
        )
    joined = listed.join(
        known.select("suite", "revision", "state", "error"), on=["suite", "revision"], how="left"
    )
    state = pl.when(pl.col("excluded")).then(pl.lit("excluded")).otherwise(pl.lit("not selected"))
    return with_group(joined.with_columns(pl.col("state").fill_null(state))).sort(
        "suite", "trajectory", "step", "revision", nulls_last=True
    )


def _plan(manifest: pl.DataFrame) -> Figure | Missing:
    title = "Checkpoints over training"
    if manifest.filter(pl.col("step") > UNSTEPPED).is_empty():
        return Missing(title, "no listed revision states a step", "plan", "Not drawn")
    zero = marks.drawn_zero(manifest["step"])
    points = (
        marks.named("manifest")
        .transform_filter("isValid(datum.step)")
        .transform_calculate(at=f"max(datum.step, {zero})")
        .mark_tick(thickness=2, height=20, opacity=1)
        .encode(
            x=marks.step_axis(f"training step (0 drawn at {zero:g})", "at"),
            y=alt.Y("trajectory:N", title=None).axis(labelLimit=220),
            color=_by_state(manifest),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("suite", "revision", "commit")),
                *marks.tips(MANIFEST, ["step", "tokens", "bytes"]),
                *(alt.Tooltip(f"{name}:N") for name in ("state", "verdict", "reason")),
            ],
        )
    )
    counts = {s: manifest.filter(pl.col("state") == s).height for s in STATES}
    told = words.listed([f"{n:,} {state}" for state, n in counts.items() if n])
    return Figure(
        "plan",
        title,
        points,
        f"Of {words.count(manifest.height, 'listed revision')} of "
        f"{words.count(manifest['suite'].n_unique(), 'suite')}: {told}.",
        data="manifest",
        table="manifest",
        wide=True,
        height=40 + 34 * manifest["trajectory"].n_unique(),
    )


def _by_state(manifest: pl.DataFrame) -> alt.Color:
    """The colour of a state; the legend names those that there are."""
    there = set(manifest["state"])
    return (
        alt.Color("state:N", title=None)
        .scale(domain=list(STATES), range=list(STATE_COLOURS))
        .legend(orient="top", values=[state for state in STATES if state in there])
    )


def _bytes(manifest: pl.DataFrame) -> Figure:
    chart = (
        marks.named("manifest")
        .transform_filter("isValid(datum.bytes)")
        .transform_aggregate(total="sum(bytes)", revisions="count()", groupby=["suite", "state"])
        .mark_bar(height=18)
        .encode(
            x=alt.X("total:Q", title="weights (bytes)", stack="zero").axis(
                labelExpr="format(datum.value, '~s')"
            ),
            y=alt.Y("suite:N", title=None),
            color=_by_state(manifest),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("suite", "state")),
                alt.Tooltip("total:Q", title="bytes", format=",d"),
                alt.Tooltip("revisions:Q"),
            ],
        )
    )
    measured = int(manifest.filter(pl.col("state") == "measured")["bytes"].sum())
    total = int(manifest["bytes"].sum())
    return Figure(
        "bytes",
        "What they weigh",
        chart,
        f"The measured checkpoints hold {_size(measured)} of weights"
        + (f"; all that are listed hold {_size(total)}." if total > measured else "."),
        data="manifest",
        table="manifest",
        definition=marks.definition(MANIFEST, "bytes"),
        height=40 + 34 * manifest["suite"].n_unique(),
    )


def _size(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _verdicts(run: Run, manifest: pl.DataFrame) -> Figure:
    chart = (
        marks.named("manifest")
        .transform_aggregate(revisions="count()", groupby=["suite", "group", "verdict"])
        .mark_bar(height=16)
        .encode(
            x=alt.X("revisions:Q", title="revisions").axis(**axes.whole("x")),
            y=alt.Y("verdict:N", title=None),
            color=marks.colour(run).legend(
                orient="top", title=None, values=sorted(manifest["group"].unique())
            ),
            tooltip=["suite:N", "verdict:N", "revisions:Q"],
        )
    )
    doubted = manifest.filter(~pl.col("verdict").is_in(TRUSTED))
    bad, used = doubted.height, doubted.filter(pl.col("state") == "measured").height
    return Figure(
        "verdicts",
        "What the audit says",
        chart,
        f"The audit doubts {bad:,} of {words.count(manifest.height, 'revision')}; {used:,} of them "
        "were measured all the same."
        if bad
        else f"The audit doubts none of {words.count(manifest.height, 'revision')}.",
        data="manifest",
        table="manifest",
        definition=marks.definition(MANIFEST, "verdict"),
        height=40 + 26 * manifest["verdict"].n_unique(),
    )


def _suspects(manifest: pl.DataFrame) -> Block | None:
    """What the audit doubts and what could not be measured; None where that is nothing."""
    bad = manifest.filter(~pl.col("verdict").is_in(TRUSTED))
    failed = manifest.filter(pl.col("state") == "failed")
    rows = []
    for row in (
        pl.concat([bad, failed]).unique(["suite", "revision"], maintain_order=True).to_dicts()
    ):
        same = ", ".join((row["same_as"] or [])[:4])
        rows.append(
            [
                row["revision"],
                row["suite"],
                Cell(row["verdict"].replace("_", " "), "warn"),
                Cell(row["reason"] or row["error"] or "", "long"),
                same,
                row["link"] or "",
                row["state"],
            ]
        )
    if not rows:
        return None
    head = ["revision", "suite", "verdict", "why", "same weights as", "reported at", "state"]
    return Grid("suspect-revisions", head, rows, fold=15)


def _revisions(manifest: pl.DataFrame) -> Grid:
    css = dict(zip(STATES, ("yes", "warn", "no", "warn"), strict=True))
    rows = [
        [
            row["revision"],
            row["suite"],
            Cell("—" if row["step"] is None else f"{row['step']:,}", "number"),
            Cell("—" if row["tokens"] is None else f"{row['tokens']:,}", "number"),
            Cell("—" if row["bytes"] is None else f"{row['bytes']:,}", "number"),
            row["commit"].rpartition("@")[2].removeprefix("sha256:")[:12],
            row["verdict"].replace("_", " "),
            Cell(row["state"], css.get(row["state"], "no")),
        ]
        for row in manifest.to_dicts()
    ]
    head = ["revision", "suite", "step", "tokens", "bytes", "content", "verdict", "state"]
    return Grid("revisions", head, rows, fold=8)


def _costs(costs: pl.DataFrame) -> Figure:
    chart = (
        marks.named("costs")
        .mark_circle(size=60, opacity=1)
        .encode(
            x=marks.log_axis(alt.X("seconds:Q", title="wall time (seconds)")),
            y=alt.Y("rule:N", title=None).axis(
                labelLimit=160, labelExpr="replace(datum.label, /_/g, ' ')"
            ),
            color=alt.Color("peak_memory:Q", title="peak memory (bytes)")
            .scale(scheme=palette.scheme("viridis"))
            .legend(orient="top", format="~s"),
            tooltip=[
                alt.Tooltip("rule:N"),
                alt.Tooltip("job:N"),
                *marks.tips(COSTS, ["seconds", "cpu_seconds", "peak_memory", "bytes_read"]),
                *marks.tips(COSTS, ["bytes_written"]),
            ],
        )
    )
    top = costs.group_by("rule").agg(pl.col("seconds").sum()).sort("seconds", descending=True)
    total = float(costs["seconds"].sum())
    return Figure(
        "costs",
        "Wall time and memory of every job",
        chart,
        f"{words.count(costs.height, 'job')} took {total:,.0f} seconds of wall time together; "
        f"{top['rule'][0].replace('_', ' ')} most, {float(top['seconds'][0]):,.0f} seconds.",
        data="costs",
        table="costs",
        definition=marks.definition(COSTS, "seconds"),
        wide=True,
        height=40 + 26 * costs["rule"].n_unique(),
    )
