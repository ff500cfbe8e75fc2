"""Which parts write and erase a planted peak, and what their absence does behind them."""

from __future__ import annotations

import polars as pl
import pytest

from trajectory.dynamics.circuit import behind, place_of, roles

NORMS = {
    # depth: 0    1    2      3      4     5
    "none": [1.0, 1.2, 100.0, 110.0, 10.0, 9.0],
    "zero_mlp-L0": [1.0, 1.0, 98.0, 108.0, 10.0, 9.0],
    "zero_mlp-L1": [1.0, 1.2, 1.3, 1.5, 1.6, 1.7],
    "zero_mlp-L2": [1.0, 1.2, 100.0, 99.0, 10.0, 9.0],
    "zero_mlp-L3": [1.0, 1.2, 100.0, 110.0, 105.0, 104.0],
    "zero_mlp-L4": [1.0, 1.2, 100.0, 110.0, 10.0, 10.5],
}
"""Block 1 writes the peak, block 3 erases it; the others leave it."""


def depths(step: int | None = 0, scale: float = 1.0) -> pl.DataFrame:
    rows = []
    for name, norms in NORMS.items():
        for layer, norm in enumerate(norms):
            last = layer == len(norms) - 1
            sinking = norm > 50
            rows.append(
                {
                    "trajectory": "m", "step": step, "domain": "d", "intervention": name,
                    "layer": layer, "residual_norm_sink": norm * scale,
                    "residual_norm_rest": 2.0, "residual_norm_rest_max": 3.0,
                    "sink_weight": None if last else 0.8 if sinking else 0.1,
                    "value_ratio": None if last else 0.2 if sinking else 1.0,
                }
            )  # fmt: skip
    return pl.DataFrame(rows)


def changes() -> pl.DataFrame:
    rows = [
        {
            "trajectory": "m", "step": 0, "domain": "d", "intervention": name,
            "changes": "" if name == "none" else f"zero_mlp layer {name[-1]}",
            "loss_difference": 0.0, "loss_difference_se": None,
        }
        for name in NORMS
    ]  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("loss_difference_se").cast(pl.Float64)
    )


def test_the_writer_and_the_eraser_are_named_and_nobody_else() -> None:
    found = roles(changes(), depths(), "m", "d", 2.0)
    assert [(r.layer, r.does, r.norm) for r in found] == [
        (1, "writes", "residual_norm_sink"),
        (3, "erases", "residual_norm_sink"),
    ]
    writer, eraser = found
    assert (writer.before, writer.after) == (100.0, 1.3)
    assert (eraser.before, eraser.after) == (10.0, 105.0)
    assert "the MLP of layer 1 writes the sink's peak (100 with it, 1.3 without)" in writer.sentence


def test_a_norm_that_is_no_peak_has_no_writer() -> None:
    assert roles(changes(), depths(scale=0.02), "m", "d", 2.0) == [], "at most 2.2 of 2"


def test_the_layers_behind_a_part_are_compared() -> None:
    found = behind(changes(), depths())
    assert found["at"].to_list() == [0, 1, 2, 3, 4]
    one = found.filter(at=1).to_dicts()[0]
    # Behind block 1: layers 2, 3 and 4 of the unchanged model sink in two of three.
    assert one["sink_before"] == pytest.approx((0.8 + 0.8 + 0.1) / 3)
    assert one["sink"] == pytest.approx(0.1)
    assert one["value_ratio_before"] == pytest.approx((0.2 + 0.2 + 1.0) / 3)
    assert (one["norm_before"], one["norm"]) == (110.0, 1.6)
    last = found.filter(at=4).to_dicts()[0]
    assert last["norm"] is None and last["sink"] is None, "nothing reads behind the last block"


def test_layers_stand_in_the_order_of_their_numbers() -> None:
    """Not in that of their names, in which 10 comes before 2."""
    names = [f"zero_mlp-L{n}" for n in (10, 2, 11, 1)]
    one, deep = changes().filter(intervention="zero_mlp-L1"), depths().filter(intervention="none")
    changed = pl.concat(
        one.with_columns(intervention=pl.lit(name), changes=pl.lit(f"zero_mlp layer {name[10:]}"))
        for name in names
    )
    deeper = pl.concat([deep, *(deep.with_columns(intervention=pl.lit(name)) for name in names)])
    assert behind(changed, deeper)["at"].to_list() == [1, 2, 10, 11]


def test_changes_of_one_part_have_a_place() -> None:
    assert place_of("zero_mlp layer 11") == ("zero_mlp", 11)
    assert place_of("zero_mlp layer 1; zero_attention layer 1") == ("named", None)
