"""What rounded weights cost against the residual-state peak: a part of *Dynamics*."""

from __future__ import annotations

from functools import partial

import altair as alt
import numpy as np
import polars as pl

from trajectory.report import marks, series, words
from trajectory.report.controls import Choice
from trajectory.report.page import Block, Captions, Figure, Missing, Part
from trajectory.report.run import Run, dormant
from trajectory.schemas import CHECKPOINTS, LAYERS

BITS = {4: "4 bits", 8: "8 bits"}
"""Bits of the weights → how a choice calls them."""

PERMUTED = 9999
"""Random pairings of peaks and costs, for the chance of a correlation as great."""

LEAST_RUNS = 5
"""Runs from which a correlation is told: four have 24 pairings, none of them rarer than 1 in 24."""

TEXT = (
    "A point is a checkpoint: the residual ratio where the peak is, and what the loss gains when "
    "the blocks' weights are rounded (one step per output row, no calibration). Lines join the "
    "checkpoints of a run. Both can grow over training for reasons of their own, so the sentence "
    "compares the last checkpoints of runs."
)


def measured(run: Run) -> bool:
    """Whether any checkpoint has losses of rounded weights."""
    return run.frame("checkpoints", "loss_4_bits")["loss_4_bits"].count() > 0


def make(run: Run) -> Part:
    """The part."""
    frame = costs(run)
    title = "Rounded weights and the peak"
    if frame.is_empty():
        why = "no run with a peak between two blocks has losses of rounded weights"
        return Part("rounding", title, TEXT, [Missing(title, why)], [], {}, "")
    control = Choice("chosen_bits", "weights of", list(BITS.items()), 4, "Rounded weights")
    blocks: list[Block] = [_figure(run, frame)]
    return Part("rounding", title, TEXT, blocks, [control], {"rounded": frame}, "")


def costs(run: Run) -> pl.DataFrame:
    """Each checkpoint's residual ratio at the peak's depth, and by bits what rounding costs."""
    keys = ["trajectory", "domain", "step"]
    peaks = series.streams(run, ["residual_ratio"]).filter("lead_layer")
    peaks = peaks.select(*keys, "layer", "residual_ratio").drop_nulls()
    columns = {bits: f"loss_{bits}_bits" for bits in BITS}
    losses = series.checkpoints(run, ["loss", *columns.values()]).join(peaks, on=keys)
    parts = [
        losses.drop_nulls(["loss", column])
        .with_columns(pl.lit(bits).alias("bits"), (pl.col(column) - pl.col("loss")).alias("cost"))
        .drop(*columns.values())
        for bits, column in columns.items()
    ]
    return pl.concat(parts).sort("bits", *keys)


def association(peaks: np.ndarray, cost: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation, and how often random pairings have one as great in size.

    Args:
        peaks, cost: one number per run, [N]; neither all equal.
    """
    ranks = [_ranks(values) for values in (peaks, cost)]
    first, second = ((r - r.mean()) / np.linalg.norm(r - r.mean()) for r in ranks)
    found = float(first @ second)
    generator = np.random.default_rng(0)
    order = generator.permuted(np.tile(second, (PERMUTED, 1)), axis=1)
    beyond = int((np.abs(order @ first) >= abs(found) - 1e-12).sum())
    return found, (beyond + 1) / (PERMUTED + 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean rank."""
    return pl.Series(values).rank().to_numpy()


def _figure(run: Run, frame: pl.DataFrame) -> Figure:
    x = marks.log_axis(alt.X("residual_ratio:Q", title=marks.titled(LAYERS, "residual_ratio")))
    y = alt.Y("cost:Q", title="loss gained by rounding (nats/token)")
    base = marks.shown(marks.named("rounded")).transform_filter("datum.bits == chosen_bits")
    base = base.encode(
        x=x,
        y=y,
        color=marks.colour(run),
        detail=["trajectory:N", "domain:N"],
        order="step:Q",
    )
    points = base.mark_point(filled=True, size=34, opacity=0.9).encode(
        tooltip=[
            *marks.tips(LAYERS, ["trajectory", "domain", "step", "layer", "residual_ratio"]),
            *marks.tips(CHECKPOINTS, ["loss"]),
            alt.Tooltip("cost:Q", title="gained by rounding", format=".4~g"),
        ]
    )
    captions = Captions.of("chosen_bits", BITS, partial(reading, frame))
    return Figure(
        "rounded-weights",
        "Does the peak predict what rounding costs?",
        alt.layer(
            marks.reference(0.0, "no loss"),
            base.mark_line().encode(**marks.look(run)),
            points,
        ),
        captions.readings[(4,)],
        captions=captions,
        data="rounded",
        table="checkpoints",
        definition=marks.definition(CHECKPOINTS, "loss_4_bits"),
        wide=True,
        height=320,
    )


def reading(frame: pl.DataFrame, bits: int) -> str:
    """What rounding costs at the end of runs, and whether it goes with the peak."""
    ends = dormant(frame).filter(pl.col("bits") == bits).sort("step")
    ends = ends.group_by("trajectory", "domain", maintain_order=True).last()
    ends = ends.group_by("trajectory", maintain_order=True).first().sort("cost", "trajectory")
    if ends.is_empty():
        return f"No run on a dormant domain has losses with {BITS[bits]}."
    least, most = ends.row(0, named=True), ends.row(-1, named=True)
    told = (
        f"At their last checkpoint {BITS[bits]} cost "
        f"{words.signed(least['cost'])} nats per token in "
        f"{least['trajectory']} (peak {words.number(least['residual_ratio'])})"
    )
    if ends.height > 1:
        cost = words.signed(most["cost"])
        told += f" and {cost} in {most['trajectory']} (peak {words.number(most['residual_ratio'])})"
    if ends.height < LEAST_RUNS or min(ends[c].n_unique() for c in ("cost", "residual_ratio")) < 2:
        return f"{told}; {words.count(ends.height, 'run')} are too few for a correlation."
    rank, chance = association(ends["residual_ratio"].to_numpy(), ends["cost"].to_numpy())
    verdict = "goes with" if chance < 0.05 else "is not shown to go with"
    return (
        f"{told}; over {words.count(ends.height, 'run')} the cost {verdict} the peak (rank "
        f"correlation {words.signed(rank)}, as great in {chance:.2g} of random pairings)."
    )
