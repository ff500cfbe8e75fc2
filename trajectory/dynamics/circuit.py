"""Which parts of a model write its residual-state peak, which erase it, and what rests on them.

Everything is read from the tables of interventions of one checkpoint: a part whose output is zeroed
is compared with the unchanged model in the layers behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from trajectory.rows import Row

UNCHANGED = "none"

SWEPT = re.compile(r"(zero_mlp|zero_attention|mean_value|mean_residual) layer (\d+)")
"""A change of one part of one layer, as ``changes`` writes it."""

PARTS = {"zero_mlp": "MLP", "zero_attention": "attention"}

HALF = 0.5
"""A norm that falls below this share of what it was is called gone."""

NORMS = {
    "residual_norm_sink": "the sink's peak",
    "residual_norm_rest_max": "the greatest peak elsewhere",
}
"""Norms that a part may write or erase."""


def place_of(changes: str) -> tuple[str, int | None]:
    """Kind and layer of a change of one part; ("named", None) of anything else."""
    found = SWEPT.fullmatch(changes)
    return (found[1], int(found[2])) if found else ("named", None)


def last_records(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of every trajectory's last record."""
    return frame.filter(pl.col("step") == pl.col("step").max().over("trajectory"))


def behind(interventions: pl.DataFrame, depths: pl.DataFrame) -> pl.DataFrame:
    """What every change does in the layers behind it, at each trajectory's last record.

    Args:
        interventions: the table; of its columns trajectory, step, domain, intervention, changes
            and the losses are used.
        depths: the table ``intervention_layers``.

    Returns:
        a row per trajectory, domain and change, in the order of layers: ``kind`` and ``at``, the
        layer it is in (empty for a named one: all layers then count as behind it); and of the
        layers behind, ``sink``, ``value_ratio`` (means), ``norm`` and ``norm_rest`` (greatest ‖h_s‖
        and greatest other norm of the streams between two blocks), each with ``_before`` of the
        unchanged model. What has no layer behind it is empty.
    """
    rows: list[Row] = []
    depths = last_records(depths)
    for row in last_records(interventions).to_dicts():
        if row["intervention"] == UNCHANGED or row["intervention"].startswith("zero_head"):
            continue
        kind, at = place_of(row["changes"])
        own = depths.filter(trajectory=row["trajectory"], domain=row["domain"])
        after = own.filter(pl.col("layer") > (-1 if at is None else at))
        found: Row = {
            name: row[name] for name in ("trajectory", "step", "domain", "intervention", "changes")
        }
        found |= {"kind": kind, "at": at, "loss_difference": row["loss_difference"]}
        found["loss_difference_se"] = row["loss_difference_se"]
        for name, suffix in ((row["intervention"], ""), (UNCHANGED, "_before")):
            found |= _means(after.filter(intervention=name), int(own["layer"].max()), suffix)  # type: ignore[arg-type]
        rows.append(found)
    order = ["trajectory", "domain", "kind", "at", "intervention"]
    return pl.DataFrame(rows, schema=BEHIND, orient="row").sort(order)


_NUMBERS = ("sink", "value_ratio", "norm", "norm_rest")

BEHIND: Mapping[str, Any] = {
    "trajectory": pl.String,
    "step": pl.Int64,
    "domain": pl.String,
    "intervention": pl.String,
    "changes": pl.String,
    "kind": pl.String,
    "at": pl.Int64,
    "loss_difference": pl.Float64,
    "loss_difference_se": pl.Float64,
    **{f"{name}{end}": pl.Float64 for end in ("", "_before") for name in _NUMBERS},
}
"""Columns of ``behind``."""


def _means(rows: pl.DataFrame, last: int, suffix: str) -> Row:
    """Means over blocks, and greatest norms of the streams before the last depth."""
    between = rows.filter((pl.col("layer") > 0) & (pl.col("layer") < last))
    return {
        f"sink{suffix}": rows["sink_weight"].mean(),
        f"value_ratio{suffix}": rows["value_ratio"].mean(),
        f"norm{suffix}": between["residual_norm_sink"].max(),
        f"norm_rest{suffix}": between["residual_norm_rest_max"].max(),
    }


@dataclass(frozen=True)
class Role:
    """What a part of a layer does to a norm of the residual stream.

    Attributes:
        kind: the change that shows it, zero_mlp or zero_attention.
        layer: where.
        does: writes or erases.
        norm: which norm, a key of ``NORMS``.
        before: the norm in the unchanged model.
        after: without the part.
    """

    kind: str
    layer: int
    does: str
    norm: str
    before: float
    after: float

    @property
    def part(self) -> str:
        """'the MLP of layer 11'."""
        return f"the {PARTS[self.kind]} of layer {self.layer}"

    @property
    def sentence(self) -> str:
        """What it does, with the numbers that show it."""
        return (
            f"{self.part} {self.does} {NORMS[self.norm]} "
            f"({_short(self.before)} with it, {_short(self.after)} without)"
        )


def roles(
    interventions: pl.DataFrame, depths: pl.DataFrame, trajectory: str, domain: str, peak: float
) -> list[Role]:
    """The parts that write a peak or erase it, in the order of layers.

    A part writes a norm if the norm doubles at least over its block, to a peak, and without the
    part it stays below half of what it was behind the block. It erases it if a peak falls below
    half over its block, and is at least twice as great behind it without the part. The stream
    behind the last block counts as well: what erases a peak is often there.

    Args:
        interventions: the table, which says what each change is.
        depths: the table ``intervention_layers``.
        trajectory, domain: whose; its last record is read.
        peak: how many times the median norm of the other positions a peak is at least.
    """
    own = last_records(depths).filter(trajectory=trajectory, domain=domain)
    given = last_records(interventions).filter(trajectory=trajectory, domain=domain)
    places = {row["intervention"]: place_of(row["changes"]) for row in given.to_dicts()}
    found = []
    rest = _curves(own, "residual_norm_rest").get(UNCHANGED, [])
    for norm in NORMS:
        curves = _curves(own, norm)
        plain = curves.get(UNCHANGED)
        if plain is None:
            continue
        for name, curve in curves.items():
            kind, layer = places.get(name, ("", None))
            if kind not in PARTS or layer is None or layer + 1 >= len(plain):
                continue
            ends = plain[layer], plain[layer + 1], curve[layer + 1]
            does = _does(*ends)
            top = layer + (does == "writes")
            if does is not None and plain[top] >= peak * rest[top]:
                found.append(Role(kind, layer, does, norm, ends[1], ends[2]))
    return sorted(
        found, key=lambda role: (role.layer, role.norm != "residual_norm_sink", role.kind)
    )


def _does(entering: float, leaving: float, without: float) -> str | None:
    if leaving * HALF >= entering and without < leaving * HALF:
        return "writes"
    if leaving < entering * HALF and without * HALF >= leaving:
        return "erases"
    return None


def _curves(own: pl.DataFrame, norm: str) -> dict[str, Sequence[float]]:
    """The norm at every depth, by intervention."""
    return {
        str(name): part.sort("layer")[norm].to_list()
        for (name,), part in own.group_by("intervention")
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
