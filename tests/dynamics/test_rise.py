from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from trajectory.dynamics.rise import begun, rise_of, risen, rising, sink_of, sinks

STEPS = np.array([0, 10, 40, 100, 200, 400, 800, 1600], dtype=float)
EXCESS = np.array([0, 0.2, 0.01, 0.05, 0.3, 0.9, 1.0, 1.0])


def test_a_sink_begins_after_the_last_record_without_and_is_midway_at_half() -> None:
    """A fall back below a tenth counts, and so does what came first of half the rise."""
    found = rise_of(STEPS, EXCESS)
    assert found is not None and found.before == 100
    assert found.midway == pytest.approx(200 * 2 ** (1 / 3))
    frame = pl.DataFrame({"step": STEPS})
    step = pl.col("step")
    assert frame.filter(rising(step, found.before, found.midway))["step"].to_list() == [
        40,
        100,
        200,
    ]
    assert frame.filter(begun(step, found.before))["step"][0] == 200
    assert frame.filter(risen(step, found.midway))["step"][0] == 400


def test_what_stays_does_not_rise() -> None:
    assert rise_of(STEPS, np.zeros_like(STEPS)) is None
    assert rise_of(STEPS[:1], EXCESS[:1]) is None


def test_sinks_are_those_with_an_onset_and_a_domain_without_takes_the_earliest() -> None:
    place = {"trajectory": "a", "layer": 0}
    heads = pl.DataFrame(
        [
            {**place, "domain": domain, "head": head, "step": int(step), "sink_excess": excess}
            for domain in ("non_trigger", "trigger", "prose")
            for head in (0, 1)
            for step, excess in zip(STEPS, EXCESS, strict=True)
        ]
    )
    onsets = pl.DataFrame(
        [
            {**place, "domain": domain, "head": head, "onset": onset, "lead": head == 0}
            | {"phenomenon": "sink", "level": "head"}
            for domain, head, onset in (
                ("non_trigger", 0, 300.0),
                ("prose", 0, 200.0),
                ("trigger", 0, 5.0),
                ("prose", 1, None),
            )
        ]
    )
    found = sinks(heads, onsets)
    lead = sink_of(found, "a", "non_trigger")
    assert lead is not None and lead.onset == 300 and lead.rise is not None
    assert math.isclose(lead.rise.midway, 200 * 2 ** (1 / 3))
    for key in ("a", ("a", 0, 0)):
        everywhere = sink_of(found, key, "all")
        assert everywhere is not None and everywhere.onset == 200  # no trigger's
    assert sink_of(found, ("a", 0, 1), "prose") is None
