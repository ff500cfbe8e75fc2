"""What the page *Sinks* says of sinks that follow a token, of toys without ⟨s⟩ as well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl

from trajectory.report.parts import own

HEADS = [
    # sits_on, sink_kind, top_token, its share, the rate of sequences with a sink
    ("first", "nop", "\n", 0.75, 0.9),
    ("first", "nop", "\n", 0.65, 0.9),
    ("first", "nop", " ", 0.95, 0.8),
    ("token", "broadcast", " ", 0.55, 0.6),
    ("position", "nop", "t", 1.0, 1.0),
    ("first", "none", "x", 1.0, 0.0),
]


def frame() -> pl.DataFrame:
    """A run's table of heads, of one layer."""
    rows: list[dict[str, Any]] = [
        {
            **dict.fromkeys(own.COLUMNS),
            **{"trajectory": "bb/no-start", "domain": "non_trigger", "step": 9, "layer": 0},
            **{"head": n, "own_top_mass": 0.5, "sits_on": place, "sink_kind": kind},
            **{"top_token": token, "top_token_share": share, "own_sink_rate": rate},
            **{"other_sink_rate": 0.4 if n == 2 else 0.1, "other_token": "\n" if n == 2 else "e"},
        }
        for n, (place, kind, token, share, rate) in enumerate(HEADS)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def test_token_occurrence_and_share_are_told_and_none_is_a_blank() -> None:
    run: Any = SimpleNamespace(frame=lambda *_: frame())
    heads = own.last_heads(run)
    told = own._reading(heads, "bb/no-start", "non_trigger")
    assert "5 of 6 heads of bb/no-start have a sink anywhere, by their sequences' own keys" in told
    assert "3 on the first of a token (most often “⏎”, in 70\u00a0% of sequences)" in told
    assert "1 on a token anywhere (most often “␣”, in 55\u00a0% of sequences)" in told
    assert "1 on a position" in told
    assert "L0H2 has most sinks besides the sink position: in 40\u00a0% of its sequences" in told
    assert "\n" not in told and "“ ”" not in told
    assert set(heads["top_token"]) == {"⏎", "␣", "t", "x"}


def test_a_model_without_a_sink_at_its_place_is_said_to_have_one_elsewhere() -> None:
    run: Any = SimpleNamespace(frame=lambda *_: frame(), has=lambda _: True)
    assert own.elsewhere(run, ["bb/no-start"]) == {
        "bb/no-start": "the first “⏎” (75\u00a0% of sequences)"
    }
    assert own.elsewhere(run, ["bb/other"]) == {}
    at_places = frame().filter(sits_on="position")
    assert own.elsewhere(SimpleNamespace(frame=lambda *_: at_places, has=lambda _: True), []) == {}
