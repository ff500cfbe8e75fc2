"""Forces of every trajectory on its sink's clock, as the report and its sentences read them."""

from __future__ import annotations

from collections.abc import Hashable

import polars as pl

from trajectory.dynamics.reinforcement import points
from trajectory.dynamics.rise import Sinks, begun, risen, rising, sink_of
from trajectory.dynamics.series import with_group

WHOLE = "all"
"""Domain of all queries of a Bigram-Backcopy run together."""

COURSE = ("sink_force", "escape", "brake", "drain_force")
"""Forces followed over training, each in units of an error (see ``courses``)."""

TRAJECTORY = ("trajectory",)
HEAD = ("trajectory", "layer", "head")


def placed(forces: pl.DataFrame, arrows: pl.DataFrame | None, sinks: Sinks) -> pl.DataFrame:
    """Forces and arrows of every head and key, on all queries together where these were measured.

    Columns added: ``group``; ``since_onset`` and ``begun``, of the head's own sink; ``lead``,
    whether it is in the lead head's layer. All empty where no onset was observed.
    """
    whole = _whole(points(forces, arrows))
    step = pl.col("step")
    dated = _dated(whole, sinks, HEAD).with_columns(
        _age().alias("since_onset"), begun(step, pl.col("before")).alias("begun")
    )
    dated = _dated(dated.drop(_CLOCK), sinks, TRAJECTORY)
    return with_group(dated.with_columns(_of_lead().alias("lead"))).drop(_CLOCK)


def courses(means: pl.DataFrame, sinks: Sinks) -> pl.DataFrame:
    """Forces of the lead head's layer in units of an error, the mean over its heads.

    ``sink_strength``, ``escape_strength`` and ``brake_strength`` are the forces over the standard
    error of the sink force, ``drain_strength`` is the drain force over its own. ``age`` is
    ln(step / onset) of the lead head's sink; ``rising`` and ``risen`` tell its windows.

    Args:
        means: the table ``force_means``.
        sinks: when they rise; trajectories without one are left out.
    """
    frame = _dated(_whole(means), sinks, TRAJECTORY).filter(_of_lead())
    place = ["group", "trajectory", "domain", "readers", "layer", "key", "key_kind", "step"]
    numbers = [*COURSE, *(f"{name}_se" for name in ("sink_force", "drain_force")), "weight"]
    step = pl.col("step")
    clocked = with_group(frame).select(
        *place,
        _age().alias("age"),
        rising(step, pl.col("before"), pl.col("midway")).alias("rising"),
        risen(step, pl.col("midway")).alias("risen"),
        "heads",
        *numbers,
    )
    of_sink = pl.when(pl.col("sink_force_se") > 0).then(pl.col("sink_force_se"))
    of_drain = pl.when(pl.col("drain_force_se") > 0).then(pl.col("drain_force_se"))
    return clocked.with_columns(
        (pl.col("sink_force") / of_sink).alias("sink_strength"),
        (pl.col("escape") / of_sink).alias("escape_strength"),
        (pl.col("brake") / of_sink).alias("brake_strength"),
        (pl.col("drain_force") / of_drain).alias("drain_strength"),
    ).sort("trajectory", "domain", "readers", "key", "step")


def _whole(frame: pl.DataFrame) -> pl.DataFrame:
    """Of trajectories with a domain of all queries only that."""
    marked = frame.with_columns((pl.col("domain") == WHOLE).any().over("trajectory").alias("has"))
    return marked.filter(~pl.col("has") | (pl.col("domain") == WHOLE)).drop("has")


_CLOCK = ["onset", "lead_layer", "before", "midway"]


def _dated(frame: pl.DataFrame, sinks: Sinks, of: tuple[str, ...]) -> pl.DataFrame:
    """With onset, layer and rise of each row's sink: its own head's, or the trajectory's."""
    rows = []
    for row in frame.select(*of, "domain").unique().iter_rows():
        *names, domain = row
        key: Hashable = names[0] if len(names) == 1 else tuple(names)
        sink = sink_of(sinks, key, domain)
        rise = None if sink is None else sink.rise
        clock = (
            (None, None) if sink is None else (sink.onset, sink.layer),
            (None, None) if rise is None else (rise.before, rise.midway),
        )
        rows.append((*row, *clock[0], *clock[1]))
    kinds = [frame.schema[name] for name in (*of, "domain")]
    kinds += [pl.Float64(), pl.Int64(), pl.Float64(), pl.Float64()]
    names = [*of, "domain", *_CLOCK]
    dates = pl.DataFrame(rows, dict(zip(names, kinds, strict=True)), orient="row")
    return frame.join(dates, on=[*of, "domain"], how="left", maintain_order="left")


def _age() -> pl.Expr:
    """ln(step / onset), empty at step 0."""
    return pl.when(pl.col("step") > 0).then((pl.col("step") / pl.col("onset")).log())


def _of_lead() -> pl.Expr:
    return (pl.col("layer") == pl.col("lead_layer")).fill_null(False)
