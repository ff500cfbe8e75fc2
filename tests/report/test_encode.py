"""What pages hold of a table comes back as it was, to the digits they keep."""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trajectory.report import encode

numbers = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)
)
texts = st.one_of(st.none(), st.text(max_size=8))


@given(
    st.lists(st.tuples(numbers, texts, st.integers(-5, 5)), min_size=1, max_size=20),
    st.sampled_from([1, 4, 9]),
)
def test_columns_hold_the_frame(
    rows: list[tuple[float | None, str | None, int]], each: int
) -> None:
    rows = [row for row in rows for _ in range(each)]
    frame = pl.DataFrame(
        rows, schema={"x": pl.Float64, "name": pl.String, "n": pl.Int64}, orient="row"
    )
    found = encode.columns(frame)
    assert found["rows"] == len(rows)
    for i, (x, name, n) in enumerate(rows):
        values = {key: value_of(column, i) for key, column in found["columns"].items()}
        assert (values["name"], values["n"]) == (name, n)
        if x is None:
            assert values["x"] is None
        else:
            assert math.isclose(values["x"], x, rel_tol=6e-4, abs_tol=1e-300)
    encode.page_json(found)


def value_of(column: object, row: int) -> object:
    """As page.js reads it."""
    if isinstance(column, list):
        return column[row]
    assert isinstance(column, dict)
    if "all" in column:
        return column["all"]
    if "runs" in column:
        return [
            v for v, n in zip(column["runs"], column["lengths"], strict=True) for _ in range(n)
        ][row]
    code = column["codes"][row]
    return None if code is None else column["texts"][code]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["prose", "code"]),
            st.integers(0, 3),
            st.integers(0, 2),
            st.integers(0, 2),
            st.one_of(st.none(), st.floats(1e-3, 1e3)),
        ),
        min_size=1,
        unique_by=lambda row: row[:4],
    ),
    st.booleans(),
)
def test_a_cube_holds_every_head(
    rows: list[tuple[str, int, int, int, float | None]], log: bool
) -> None:
    names = ("domain", "step", "layer", "head", "value")
    frame = pl.DataFrame(
        [dict(zip(names, row, strict=True)) for row in rows],
        schema={"domain": pl.String, "step": pl.Int64, "layer": pl.Int64, "head": pl.Int64,
                "value": pl.Float64},
    ).with_columns(trajectory=pl.lit("t"))  # fmt: skip
    of = encode.cube(frame, {"value": log}, domains=["prose", "code"])["t"]
    values = of["values"]["value"]
    codes = np.frombuffer(base64.b64decode(values["codes"]), dtype="<u2").reshape(
        len(of["domains"]), len(of["steps"]), of["layers"], of["heads"]
    )
    seen = 0
    for domain, step, layer, head, value in rows:
        code = int(codes[of["domains"].index(domain), of["steps"].index(step), layer, head])
        if value is None:
            assert code == 65535
            continue
        seen += 1
        read = values["low"] + code / 65534 * (values["high"] - values["low"])
        span = values["high"] - values["low"]
        assert abs((math.exp(read) if log else read) - value) <= (
            value * span * 1e-4 + 1e-9 if log else span * 1e-4 + 1e-9
        )
    assert (codes != 65535).sum() == seen, "places without a row are empty"


def test_moments_are_text() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    frame = pl.DataFrame({"finished": [moment, moment.replace(second=6)]})
    assert "2026-01-02 03:04:05" in encode.page_json(encode.columns(frame))
    assert encode.rows(frame)[1]["finished"].startswith("2026-01-02 03:04:06")
