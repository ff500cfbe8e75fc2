"""Tables of late statistics predicted from early records, and how well that went."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import DOMAIN, STEP, TRAJECTORY, Table, field, number

_PLACE = (
    TRAJECTORY,
    DOMAIN,
    field("layer", pa.int16(), "decoder block (depth of the stream for a layer's statistic)"),
    field(
        "head",
        pa.int16(),
        "query head, from 0, the one that leads its layer; −1 for a statistic of the whole layer",
    ),
    field("statistic", pa.string(), "column of heads or layers that was predicted"),
    number("share", "share of the trajectory's steps that the prediction has seen"),
)

FORECASTS = Table(
    "forecasts",
    "trajectory × domain × layer × head × statistic × share × step",
    ("trajectory", "domain", "layer", "head", "statistic", "share", "step"),
    (
        *_PLACE,
        STEP,
        field("last_seen", pa.int64(), "last record the prediction has seen", unit="steps"),
        number(
            "predicted",
            "average of the laws' predictions, weighted by evidence and shrunk towards the last seen value; the shrinkage is what worked best for the statistic's past predictions",
        ),
        number(
            "low",
            "lower end of the 95 % prediction interval, as wide as the statistic's past predictions needed",
        ),
        number("high", "upper end of the 95 % prediction interval"),
        number("observed", "measured value"),
        number("persistence", "the last seen value, as the simplest prediction"),
    ),
)

FORECAST_SCORES = Table(
    "forecast_scores",
    "trajectory × domain × layer × head × statistic × share",
    ("trajectory", "domain", "layer", "head", "statistic", "share"),
    (
        *_PLACE,
        field("points", pa.int32(), "records predicted"),
        number("coverage", "share of them inside their 95 % interval"),
        number("error", "root mean square of predicted − observed, in the statistic's unit"),
        number("persistence_error", "the same with the last seen value as the prediction"),
        number("width", "mean width of the intervals, in the statistic's unit"),
        number(
            "interval_score",
            "mean interval score at 95 %: width + 40 × distance of what lies outside; smaller is better",
            source="Gneiting and Raftery 2007, eq. 43",
        ),
    ),
)
