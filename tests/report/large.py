"""A results folder of a full suite: the tables that every run has, made up column by column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from trajectory.config import Config, parse
from trajectory.schemas import CHECKPOINTS, CONTRASTS, HEADS, LAYERS, ONSETS, TABLES, Table
from trajectory.tables import from_rows, write

from .explained import filled
from .explained import make as make_explained

FACTS = {"trajectory": "0", "versions": {"torch": "0"}}
SUITE = "olmo-7b"


@dataclass(frozen=True)
class Size:
    """How large the run is."""

    layers: int = 32
    heads: int = 32
    records: int = 200
    domains: tuple[str, ...] = ("prose", "code", "math")
    variants: int = 8
    seeds: int = 5
    toy_records: int = 64


def make_large(folder: Path, size: Size) -> Config:
    """Write the tables below ``folder``; return the config of such a run."""
    random = np.random.default_rng(0)
    parts = [_suite(size, random)]
    for variant in range(size.variants):
        for seed in range(size.seeds):
            parts.append(_toy(f"bb/v{variant}/seed{seed}", 1 + variant % 3, size, random))
    heads = pl.concat(parts)
    _save(_heads(heads), HEADS, folder)
    _save(_layers(heads), LAYERS, folder)
    records = heads.select("trajectory", "step", "domain").unique(maintain_order=True)
    _save(_checkpoints(records), CHECKPOINTS, folder)
    last = heads.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    leads = (
        last.sort("excess", descending=True)
        .unique(["trajectory", "domain"], keep="first", maintain_order=True)
        .select("trajectory", "domain", "layer", "head", "excess", "step")
    )
    _save(_onsets(heads, last, leads), ONSETS, folder)
    _save(_phenomena(leads), TABLES["phenomena"], folder)
    _save(_contrasts(heads), CONTRASTS, folder)
    trajectories = sorted(heads["trajectory"].unique())
    dormant = {t: "non_trigger" if t.startswith("bb/") else "prose" for t in trajectories}
    explained = make_explained(trajectories, dormant, _steps(size.toy_records, 10_000).tolist())
    for name, rows in explained.items():
        path = folder / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, FACTS)
    variants = {f"v{v}": {"seeds": list(range(size.seeds))} for v in range(size.variants)}
    return parse({"name": "large", "results": str(folder), "bb": {"variants": variants}})


def _steps(count: int, last: int) -> np.ndarray:
    return np.unique(np.geomspace(1, last, 2 * count).round().astype(np.int64))[-count:]


def _grid(
    trajectory: str, steps: np.ndarray, domains: tuple[str, ...], layers: int, heads: int
) -> pl.DataFrame:
    axes = np.meshgrid(
        np.arange(len(domains)), steps, np.arange(layers), np.arange(heads), indexing="ij"
    )
    domain, step, layer, head = (axis.ravel() for axis in axes)
    return pl.DataFrame(
        {
            "trajectory": pl.repeat(trajectory, len(step), eager=True),
            "step": step,
            "domain": np.array(domains)[domain],
            "layer": layer,
            "head": head,
        }
    )


def _suite(size: Size, random: np.random.Generator) -> pl.DataFrame:
    steps = np.unique(np.linspace(0, 640_000, size.records).astype(np.int64))
    grid = _grid(SUITE, steps, size.domains, size.layers, size.heads)
    onset = random.lognormal(np.log(40_000), 0.7, (size.layers, size.heads))
    height = random.beta(2, 2, (size.layers, size.heads)) * (np.arange(size.layers) > 1)[:, None]
    return _rising(grid, onset, height, random)


def _toy(name: str, layers: int, size: Size, random: np.random.Generator) -> pl.DataFrame:
    grid = _grid(name, _steps(size.toy_records, 10_000), ("non_trigger", "trigger"), layers, 1)
    height = np.full((layers, 1), 0.8)
    return _rising(grid, random.lognormal(np.log(200), 0.3, (layers, 1)), height, random)


def _rising(
    grid: pl.DataFrame, onset: np.ndarray, height: np.ndarray, random: np.random.Generator
) -> pl.DataFrame:
    place = (grid["layer"].to_numpy(), grid["head"].to_numpy())
    times = grid["step"].to_numpy() / onset[place]
    gated = np.where(grid["domain"].is_in(["trigger", "code"]).to_numpy(), 0.3, 1.0)
    noise = random.normal(0, 0.01, grid.height)
    excess = np.clip(height[place] * gated * times**2 / (1 + times**2) + noise, -0.05, 0.99)
    return grid.with_columns(pl.Series("excess", excess))


def _save(frame: pl.DataFrame, table: Table, folder: Path) -> None:
    """Fill the columns that are not given, and write."""
    columns: dict[str, Any] = {}
    for field in table.fields:
        if field.name in frame.columns:
            columns[field.name] = frame[field.name].to_arrow().cast(field.type)
        elif field.nullable:
            columns[field.name] = pa.nulls(frame.height, field.type)
        else:
            value = filled(table)[field.name]
            columns[field.name] = pa.array([value] * frame.height, field.type)
    data = pa.table(columns, schema=table.schema)
    write(data, table, folder / "tables" / f"{table.name}.parquet", FACTS)


def _heads(frame: pl.DataFrame) -> pl.DataFrame:
    excess = pl.col("excess")
    weight = 0.02 + 0.98 * excess.clip(0, 0.99)
    return frame.with_columns(
        tokens=4_000_000 * pl.col("step"),
        sink_excess=excess,
        sink_weight_floor=pl.lit(0.02),
        sink_weight=weight,
        sink_log_odds=(weight / (1 - weight)).log(),
        delta_logit=10 * excess,
        value_ratio=(1 - 0.95 * excess).clip(0.02, 2),
        head_output_norm=1 - 0.5 * excess,
        sink_position=pl.lit(0),
        sink_token=pl.lit("<|endoftext|>"),
        top_position=pl.when(excess > 0.1).then(0).otherwise(pl.col("head") * 3),
        top_mass=(excess.abs() + 0.02).clip(upper_bound=1),
        top_token=pl.when(excess > 0.1).then(pl.lit("<|endoftext|>")).otherwise(pl.lit("Ċ")),
        row_entropy=1 - excess.abs() / 2,
    )


def _layers(frame: pl.DataFrame) -> pl.DataFrame:
    found = frame.group_by("trajectory", "step", "domain", "layer", maintain_order=True).agg(
        pl.col("excess").max()
    )
    last = found.filter(pl.col("layer") == pl.col("layer").max().over("trajectory"))
    streams = pl.concat([found, last.with_columns(pl.col("layer") + 1)])
    return streams.with_columns(
        tokens=4_000_000 * pl.col("step"),
        residual_ratio=1 + 40 * pl.col("excess").abs(),
        residual_norm_sink=10 + 400 * pl.col("excess").abs(),
        residual_norm_rest=pl.lit(10.0),
    )


def _checkpoints(records: pl.DataFrame) -> pl.DataFrame:
    toy = pl.col("trajectory").str.starts_with("bb/")
    loss = 2 + 8 / (1 + (pl.col("step") / 100) ** 0.5)
    return records.with_columns(
        tokens=4_000_000 * pl.col("step"),
        loss=loss,
        excess_risk=pl.when(toy).then(loss - 2),
    )


def _onsets(heads: pl.DataFrame, last: pl.DataFrame, leads: pl.DataFrame) -> pl.DataFrame:
    key = ["trajectory", "domain", "layer", "head"]
    crossed = (
        heads.filter(pl.col("excess") >= 0.2)
        .group_by(key)
        .agg(pl.col("step").min().alias("by_step"))
    )
    best = pl.col("excess") == pl.col("excess").max().over("trajectory", "domain", "layer")
    own = leads.select(*key, pl.lit(True).alias("lead"))
    rows = (
        last.with_columns(best.alias("leads_layer"))
        .join(crossed, on=key, how="left")
        .join(own, on=key, how="left")
        .with_columns(
            pl.col("lead").fill_null(False),
            status=pl.when(pl.col("by_step").is_null())
            .then(pl.lit("not_reached"))
            .otherwise(pl.lit("observed")),
            after_step=(pl.col("by_step") * 0.8).cast(pl.Int64),
            onset=pl.col("by_step") * 0.9,
            low=pl.col("by_step") * 0.7,
            high=pl.col("by_step") * 1.1,
            phenomenon=pl.lit("sink"),
            level=pl.lit("head"),
            threshold=pl.lit(0.2),
        )
        .drop("excess", "step")
    )
    layers = rows.filter("leads_layer").with_columns(
        level=pl.lit("layer"), head=pl.lit(-1, pl.Int64), lead=pl.lit(False)
    )
    whole = rows.filter("lead").with_columns(
        level=pl.lit("trajectory"), head=pl.lit(-1, pl.Int64), layer=pl.lit(-1, pl.Int64)
    )
    return pl.concat([rows, layers.unique(["trajectory", "domain", "layer"]), whole])


def _phenomena(leads: pl.DataFrame) -> pl.DataFrame:
    rows = leads.with_columns(
        last_step="step",
        sink_weight=0.02 + 0.98 * pl.col("excess"),
        sink_weight_floor=pl.lit(0.02),
        sink_excess="excess",
        delta_logit=10 * pl.col("excess"),
        value_ratio=1 - 0.95 * pl.col("excess"),
        residual_ratio=1 + 40 * pl.col("excess"),
        residual_layer="layer",
        sink=pl.col("excess") >= 0.2,
        drain=pl.col("excess") >= 0.5,
        peak=pl.col("excess") >= 0.3,
    )
    ends = ("sink_excess", "delta_logit", "value_ratio", "residual_ratio")
    return rows.with_columns(
        [pl.col(name).alias(f"{name}_end") for name in ends]
        + [(pl.col(name) * 0.97).alias(f"{name}_low") for name in ends]
        + [(pl.col(name) * 1.03).alias(f"{name}_high") for name in ends]
    )


def _contrasts(heads: pl.DataFrame) -> pl.DataFrame:
    key = ["trajectory", "step", "layer", "head"]
    own = heads.with_columns(odds=10 * pl.col("excess"))
    found = own.join(own, on=key, suffix="_other").filter(pl.col("domain") < pl.col("domain_other"))
    difference = pl.col("odds") - pl.col("odds_other")
    return found.select(
        *key,
        "domain",
        pl.col("domain_other").alias("other_domain"),
        difference.alias("log_odds_difference"),
        (-difference / 20).alias("log_output_ratio"),
        (difference.abs() >= 2).alias("gated"),
    )
