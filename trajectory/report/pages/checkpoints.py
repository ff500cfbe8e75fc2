"""*Checkpoints*: what was listed, what was measured, and what can be trusted."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Figure, Grid, Heading, Missing, Page
from trajectory.report.run import Run
from trajectory.schemas import MANIFEST


def make(run: Run) -> Page:
    """The page."""
    title = "Which checkpoints were measured, and are they what their names say?"
    lead = "The manifest of every suite: each revision pinned to its content."
    if not run.manifests:
        return Page("checkpoints", "Checkpoints", title, lead,
                    [Missing("Manifests", reason("manifest"))], part="Material")  # fmt: skip
    manifest = pl.concat(run.manifests.values()).with_columns(pl.col("suite").alias("trajectory"))
    measured = run.frame("checkpoints", "trajectory", "revision", "step").unique()
    seen = measured.select(
        pl.col("trajectory").alias("suite"), "revision", pl.lit("measured").alias("state")
    ).drop_nulls("revision")
    manifest = manifest.join(seen, on=["suite", "revision"], how="left").with_columns(
        pl.col("state").fill_null("listed"),
        pl.len().over("suite", "commit").alias("copies"),
    )
    blocks: list[Block] = [_plan(manifest), _bytes(run, manifest), Heading("Every revision")]
    blocks.append(_revisions(manifest))
    return Page(
        "checkpoints", "Checkpoints", title, lead, blocks, [marks.legend(run)],
        {"manifest": manifest.with_columns(group=pl.col("suite"))}, part="Material",
    )  # fmt: skip


def _plan(manifest: pl.DataFrame) -> Figure:
    points = (
        marks.named("manifest")
        .transform_calculate(at="max(datum.step, 1)")
        .mark_tick(thickness=2, height=22)
        .encode(
            x=alt.X("at:Q", title="training step (0 drawn at 1)")
            .scale(type="log", nice=False)
            .axis(format="~s"),
            y=alt.Y("suite:N", title=None),
            color=alt.Color("state:N", title=None)
            .scale(domain=["measured", "listed"], range=["#0072B2", "#B8BFC6"])
            .legend(orient="top"),
            tooltip=[
                alt.Tooltip("suite:N"),
                alt.Tooltip("revision:N"),
                alt.Tooltip("commit:N"),
                *marks.tips(MANIFEST, ["step", "tokens", "bytes"]),
                alt.Tooltip("state:N"),
            ],
        )
    )
    done = manifest.filter(pl.col("state") == "measured").height
    return Figure(
        "plan",
        "Checkpoints over training",
        points,
        f"{done} of {words.count(manifest.height, 'listed revision')} were measured, of "
        f"{words.count(manifest['suite'].n_unique(), 'suite')}.",
        data="manifest",
        table="manifest",
        wide=True,
        height=60 + 34 * manifest["suite"].n_unique(),
    )


def _bytes(run: Run, manifest: pl.DataFrame) -> Figure:
    chart = (
        marks.named("manifest")
        .transform_filter("datum.state == 'measured'")
        .transform_aggregate(total="sum(bytes)", revisions="count()", groupby=["suite", "group"])
        .mark_bar(height=18)
        .encode(
            x=alt.X("total:Q", title="bytes of weights").axis(format="~s"),
            y=alt.Y("suite:N", title=None),
            color=marks.colour(run),
            tooltip=["suite:N", alt.Tooltip("total:Q", title="bytes", format=",d"), "revisions:Q"],
        )
    )
    total = int(manifest.filter(pl.col("state") == "measured")["bytes"].sum())
    return Figure(
        "bytes",
        "What they weigh",
        chart,
        f"The measured checkpoints hold {total / 1e9:.2f} GB of weights.",
        data="manifest",
        table="manifest",
        definition=marks.definition(MANIFEST, "bytes"),
        height=60 + 34 * manifest["suite"].n_unique(),
    )


def _revisions(manifest: pl.DataFrame) -> Grid:
    rows = [
        [
            row["revision"],
            row["suite"],
            Cell(f"{row['step']:,}", "number"),
            Cell("—" if row["tokens"] is None else f"{row['tokens']:,}", "number"),
            Cell(f"{row['bytes']:,}", "number"),
            row["commit"][:12],
            Cell(row["state"], "yes" if row["state"] == "measured" else "no"),
            Cell(f"same content as {row['copies'] - 1} other", "warn") if row["copies"] > 1 else "",
        ]
        for row in manifest.sort("suite", "step").to_dicts()
    ]
    head = ["revision", "suite", "step", "tokens", "bytes", "content", "state", ""]
    return Grid("revisions", head, rows, fold=40)
