"""The sentence below every chart: computed from the data that it shows, for every choice."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trajectory.report import series, specs, words
from trajectory.report.controls import Choice, Legend, Slider
from trajectory.report.page import Figure, Grid, Heading, Page
from trajectory.report.pages import active, alignment, laboratory, mitigations, phase
from trajectory.report.parts import (
    circuit,
    effects,
    endings,
    interventions,
    maps,
    theory,
    types,
)
from trajectory.report.run import Run
from trajectory.schemas import TABLES
from trajectory.tables import write

from .synthetic import RISING, RUNS, configured


@pytest.fixture(scope="module")
def named(pages: list[Page]) -> dict[str, Page]:
    return {page.name: page for page in pages}


def figure(named: dict[str, Page], page: str, name: str) -> Figure:
    return next(figure for figure in named[page].figures if figure.name == name)


def told(named: dict[str, Page], page: str, name: str, *values: str | int) -> str:
    """The reading for these choices."""
    captions = figure(named, page, name).captions
    assert captions is not None
    return captions.readings[values]


def changed(
    results: Path, folder: Path, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> dict[str, Page]:
    """The laboratory of the same results with one table changed."""
    copy = with_table(results, folder, table, change)
    return {"laboratory": laboratory.make(Run(copy, configured(copy)))}


def with_table(
    results: Path, folder: Path, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> Path:
    """A copy of the results with one table changed."""
    copy = folder / "changed"
    shutil.copytree(results, copy)
    path = copy / "tables" / f"{table}.parquet"
    frame = change(pl.read_parquet(path)).to_arrow().cast(TABLES[table].schema)
    path.unlink()
    write(frame, TABLES[table], path, {"trajectory": "0", "versions": {"torch": "0"}})
    return copy


def test_every_choice_has_its_sentence_and_the_first_one_stands_below(
    named: dict[str, Page],
) -> None:
    counted = 0
    for page in named.values():
        lists: dict[str, list[Any]] = {
            c.name: [v for v, _ in c.options] for c in page.controls if isinstance(c, Choice)
        }
        sliders = [c for c in page.controls if isinstance(c, Slider) and c.places]
        lists |= {c.name: list(range(len(c.places))) for c in sliders}
        first = {c.name: c.value for c in page.controls if isinstance(c, Choice | Slider)}
        for chart in page.figures:
            if chart.captions is None or chart.provided:
                continue
            names = chart.captions.controls
            assert set(names) <= set(lists), chart.name
            assert chart.reading == chart.captions.readings[tuple(first[n] for n in names)]
            choices = set(product(*(lists[n] for n in names)))
            if names == ("chosen_trajectory", "chosen_domain"):
                choices = {(t, d) for t, own in RUNS.items() for d in own["domains"]}
            if chart.name != "map":  # there are maps of some records and layers only
                assert set(chart.captions.readings) == choices
            counted += len(chart.captions.readings)
            for text in chart.captions.readings.values():
                assert re.fullmatch(r"[^ ].{20,}\.", text, re.S), (chart.name, text)
                assert not re.search(r"\bNone\b|\bnan\b|\binf\b", text), text
    assert counted > 100


def test_charts_that_follow_a_choice_do_not_tell_of_another(named: dict[str, Page]) -> None:
    """Every chart that a choice filters has a sentence of its own for each value of it."""
    followed = re.compile(
        r"\b(chosen_(?:trajectory|domain|pair|phenomenon)|fitted_statistic|"
        r"compared_statistic|aligned_statistic)\b"
    )
    for page in named.values():
        for chart in page.figures:
            used = set(followed.findall(str(chart.specification(page.controls).get("transform"))))
            text = str(chart.specification(page.controls))
            used |= set(followed.findall(" ".join(re.findall(r"'filter': [\"']([^}]*)", text))))
            if chart.provided or not used:
                continue
            assert chart.captions is not None, f"{page.name}-{chart.name}"
            assert used <= set(chart.captions.controls), f"{page.name}-{chart.name}"


def test_every_page_answers_its_question(named: dict[str, Page]) -> None:
    for page in named.values():
        if page.name == "index":  # its title is the answer, see test_front
            continue
        assert re.fullmatch(r"[A-Z0-9].{20,}\.", page.answer), page.name
        measured = re.search(r"\d|^Not measured: |none of the parts", page.answer)
        assert measured, f"{page.name} answers without a number"


def test_the_answers_count_what_the_synthetic_runs_hold(named: dict[str, Page]) -> None:
    assert "weight rises in 5 of 6" in named["trajectories"].answer
    assert "residual ratio rises in 2 of 3" in named["trajectories"].answer
    (dormant,) = (
        block.text
        for block in named["heads"].blocks
        if isinstance(block, Heading) and block.name == "section-active"
    )
    assert "3 of 12 heads" in dormant


def test_portraits_span_what_they_draw_and_name_no_cause(named: dict[str, Page]) -> None:
    page = named["alignment"]
    drawn = pl.concat([page.data[name] for name in ("bb", "lm")])
    assert set(drawn["domain"]) == {"non_trigger", "prose", "code"}, "active heads are no portrait"
    (portrait,) = (figure for figure in page.figures if figure.name == "bb")
    span = portrait.chart.to_dict(validate=False)["layer"][0]["encoding"]["x"]["scale"]
    wide = drawn["above"].max() - drawn["above"].min()
    assert span["domain"][1] - span["domain"][0] == pytest.approx(1.1 * wide)
    arrows = page.data["field"]
    assert set(arrows["label"]) == {"theory"}, "no arrow is fitted to the lines"
    weak, strong = (arrows.sort("sink").row(i, named=True) for i in (0, -1))
    assert weak["sink_speed"] > 0 and strong["ratio"] > 0


def test_groups_without_log_odds_are_told_instead_of_listed(results: Path, tmp_path: Path) -> None:
    none = pl.when(~pl.col("trajectory").str.contains("relu")).then(pl.col("sink_log_odds"))
    copy = with_table(results, tmp_path, "heads", lambda f: f.with_columns(sink_log_odds=none))
    page = phase.make(Run(copy, configured(copy)))
    assert "No line: bb/relu-1l;" in page.note
    (legend,) = [c for c in page.controls if isinstance(c, Legend)]
    assert "bb/relu-1l" not in {name for name, _, _ in legend.groups}


def test_what_was_measured_without_deciding_is_not_told_as_not_measured(
    named: dict[str, Page],
) -> None:
    assert named["claims"].answer == (
        "Of 3 claims: 1 mixed, 1 undecided (an interval holds the limit) and 1 yes."
    ), "the words of the chips, as on the first page"
    assert "2 reproduced, 1 not reproduced, 2 undecided and 2 not measurable" in (
        figure(named, "claims", "summary").reading
    )


def test_no_sentence_stands_below_two_charts_of_the_circuit(named: dict[str, Page]) -> None:
    told = [b.reading for b in named["circuit"].every_block if isinstance(b, Figure) and b.reading]
    assert len(told) > 3 and len(set(told)) == len(told)


def test_a_bar_alone_is_not_drawn_beside_the_lines_that_say_it() -> None:
    rows = [
        {"trajectory": "lm", "domain": "prose", "kind": "zero_mlp", "intervention": f"no MLP {i}",
         "sink": 0.1 if i == 0 else None, "loss_difference": 1.0}
        for i in range(2)
    ]  # fmt: skip
    found = pl.DataFrame(rows)
    assert circuit._several(found, "loss_difference") and not circuit._several(found, "sink")


def test_gates_that_come_with_their_sinks_are_told_and_later_ones_drawn(
    results: Path, tmp_path: Path
) -> None:
    run = Run(results, configured(results))
    part = effects.make(run)
    dated = run.frame("gates").drop_nulls("log_lag")
    assert dated["log_lag"].unique().to_list() == [0.0]
    assert (
        f"Of {dated.height} gated heads whose sink and gate are both dated, {dated.height} get them"
        in part.text
    )
    assert "gates" not in {figure.name for figure in part.blocks if isinstance(figure, Figure)}

    later = {"log_lag": pl.when(pl.col("log_lag") == 0).then(1.0), "order": pl.lit("sink")}
    copy = with_table(results, tmp_path, "gates", lambda frame: frame.with_columns(**later))
    part = effects.make(Run(copy, configured(copy)))
    (drawn,) = [b for b in part.blocks if isinstance(b, Figure) and b.name == "gates"]
    assert f"the sink comes clearly first in {dated.height}." in part.text
    assert "yOffset" in str(drawn.chart.to_dict(validate=False))


def test_layers_and_depths_are_told_per_trajectory(named: dict[str, Page]) -> None:
    of_model = told(named, "heads", "depths", "nano-olmo", "prose")
    assert "1 of nano-olmo's 2 layers" in of_model and "at step 62" in of_model
    assert f"ends in layer 0, at {RISING[-1]:.2f}." in of_model
    assert "No layer of bb/relu-1l/seed0's 1 reaches" in told(
        named, "heads", "depths", "bb/relu-1l/seed0", "non_trigger"
    )
    assert "3.67 times" in told(named, "heads", "streams", "nano-olmo", "prose")
    assert "1.00 times" in told(named, "heads", "streams", "bb/adamw-3l/seed0", "trigger")
    alone = told(named, "heads", "streams", "bb/relu-1l/seed0", "trigger")
    assert "times" not in alone and "one layer" in alone


def test_resting_places_are_counted_per_trajectory(named: dict[str, Page]) -> None:
    assert "The 6 heads of nano-olmo on prose at step 1,000: 1 on the sink and 5 on nothing" in (
        told(named, "heads", "kinds", "nano-olmo", "prose")
    )
    assert "1 on nothing" in told(named, "heads", "kinds", "bb/relu-1l/seed0", "non_trigger")
    assert "1 of 3 heads of bb/adamw-3l/seed0" in told(
        named, "heads", "positions", "bb/adamw-3l/seed0", "non_trigger"
    )


def test_token_types_are_told_of_the_chosen_trajectory(
    results: Path, named: dict[str, Page], tmp_path: Path
) -> None:
    name = "bb/relu-1l/seed0"
    own = pl.col("trajectory") == name
    other = changed(
        results,
        tmp_path,
        "bb_types",
        lambda f: f.with_columns(
            pl.when(own & ~pl.col("trigger"))
            .then(-2.0)
            .otherwise("delta_logit")
            .alias("delta_logit"),
            pl.when(own).then(None).otherwise("target").alias("target"),
        ),
    )
    before = told(named, "laboratory", "type-logits", name)
    after = told(other, "laboratory", "type-logits", name)
    assert "above 0 in 2 of 2 non-trigger types (median 6.91," in before
    assert "above 0 in 0 of 2 non-trigger types (median −2.00," in after
    assert "2 of 2 non-trigger types attend" in told(named, "laboratory", "type-targets", name)
    assert "0 of 2 non-trigger types attend" in told(other, "laboratory", "type-targets", name)
    for chart in ("type-logits", "type-targets"):
        same = "bb/softmax-1l/seed0"
        assert told(other, "laboratory", chart, same) == told(named, "laboratory", chart, same)


def test_maps_and_norms_are_told_of_what_is_drawn() -> None:
    rows = [
        {"trajectory": "bb/a/seed0", "step": 5, "layer": 1, "sequence": s, "query": q, "key": k,
         "trigger": q == 2, "weight": w if s == 0 else 0.5}
        for s in (0, 3)
        for q, k, w in ((0, 0, 1.0), (1, 0, 0.8), (1, 1, 0.2), (2, 0, 0.1), (2, 2, 0.9))
    ]  # fmt: skip
    assert maps._map_readings(pl.DataFrame(rows)) == {
        ("bb/a/seed0", 5, 1, s): "In layer 1 of bb/a/seed0 at step 5 non-trigger queries give "
        f"{a}\u00a0% and trigger queries give {b}\u00a0% of their attention to position 0 "
        f"in sequence {s}."
        for s, a, b in ((0, 80, 10), (3, 50, 50))
    }
    norms = pl.DataFrame(
        {
            "step": [5, 9, 9, 9],
            "layer": [2] * 4,
            "token": ["⟨s⟩", "⟨s⟩", "a", "b"],
            "residual_norm": [1.0, 30.0, 10.0, 20.0],
            "start": [True, True, False, False],
        }
    )
    text = types._norms_reading(norms, "bb/a/seed0")
    assert "depth 2" in text and "ends at 30.0, 2.00 times the others' median" in text
    assert "greatest of these is b's, 20.0" in text
    text = types._norms_reading(norms.filter(~pl.col("start")), "bb/a/seed0")
    assert "without ⟨s⟩, the greatest norm is that of b, 20.0, 1.33 times the median" in text


def test_interventions_are_told_of_the_chosen_trajectory() -> None:
    frame = pl.DataFrame(
        [
            {"trajectory": t, "step": step, "intervention": i, "domain": d, "risk_change": change}
            for t, step, i, d, change in (
                ("bb/a/seed0", 10, "zero_mlp", "trigger", 0.02),
                ("bb/a/seed0", 20, "zero_mlp", "trigger", 0.3),
                ("bb/a/seed0", 20, "zero_mlp", "non_trigger", 1.5),
                ("bb/a/seed0", 20, "zero_attention", "trigger", 0.05),
                ("bb/b/seed0", 20, "zero_attention", "trigger", 3.0),
            )
        ]
    )
    ends = interventions._ends_reading(frame, "bb/a/seed0")
    assert "“zero_mlp” (+1.50 nats/token on non_trigger)" in ends
    assert "“zero_mlp” (+0.30 nats/token on trigger)" in ends
    over = interventions._over_reading(frame, "bb/a/seed0")
    assert "“zero_mlp” from step 20" in over and "“zero_attention” at no checkpoint" in over
    assert "“zero_attention” from step 20" in interventions._over_reading(frame, "bb/b/seed0")


def test_readings_tell_of_the_domains_that_charts_draw_at_first(named: dict[str, Page]) -> None:
    """The synthetic language model was measured on code as well, which no box shows at first."""
    counted, scope = 0, "Charts first show all runs, on non_trigger and prose."
    for name in ("trajectories", "alignment", "heads", "dynamics"):
        for chart in named[name].figures:
            spec = str(chart.specification(named[name].controls))
            if "shown_domains" not in spec:
                continue
            texts = list(chart.captions.readings.values()) if chart.captions else []
            for text in [chart.reading, *texts]:
                assert "on code" not in text and "/ code" not in text, (name, chart.name)
                if re.search(r"\d", text):
                    own = re.match(r"All runs, on (non_trigger|prose)", text)
                    assert own or scope in named[name].answer, text
                    counted += 1
    assert counted > 20


def test_only_heads_with_a_sink_are_compared_on_two_domains() -> None:
    """Log-odds of weights near zero differ most, and tell nothing."""
    cut = pl.DataFrame(
        {
            "trajectory": ["lm"] * 3,
            "step": [1000] * 3,
            "layer": [0, 0, 1],
            "head": [0, 1, 7],
            "first": [3.0, -2.0, -41.6],
            "second": [-1.0, -2.5, -62.3],
        }
    )
    assert active._top(cut, 0.2) == (0, 0) and active._top(cut[1:], 0.2) == (0, 1)


def test_changes_are_counted_from_a_tenth_on() -> None:
    """A one-layer model's residual ratio moves by a percent: no rise."""
    rows = [
        {"trajectory": t, "domain": "non_trigger", "step": step, "lead_layer": True,
         "lead_head": True, "sink_weight": weight, "value_ratio": 1.0, "residual_ratio": ratio}
        for t, end in (("a", 1.015), ("b", 3.0))
        for step, weight, ratio in ((0, 0.1, 1.0), (9, 0.105, end))
    ]  # fmt: skip
    frame = pl.DataFrame(rows)
    text = endings.change(frame, frame)
    assert "weight rises in 0 of 2" in text and "residual ratio rises in 1 of 2" in text


def test_regimes_of_the_theory_are_told_by_where_they_end() -> None:
    curves = pl.DataFrame(
        {
            "regime": ["sgd", "sgd", "adam", "fixed_sink"],
            "time": [1.0, 8.0, 4.0, 9.0],
            "time_to_onset": [0.5, 4.0, 2.0, None],
            "sink": [1.0, 2.5, 7.0, 0.0],
        }
    )
    assert theory._theory_reading(curves, "sink") == (
        "Of 2 regimes with an onset the sink ends highest in Adam (7.00, at 2 × the onset) "
        "and lowest in SGD (2.50, at 4 × the onset); no onset in fixed sink."
    )


def test_collapses_are_told_for_each_choice(named: dict[str, Page]) -> None:
    assert "explains 90\u00a0% [85\u00a0%, 95\u00a0%]" in told(
        named, "alignment", "collapsed", "sink_excess", "loss", "time"
    )
    assert "more than 95 % of the surrogates do (60\u00a0%)" in told(
        named, "alignment", "collapsed", "sink_excess", "step", "time"
    )
    assert "explains 40\u00a0%" in told(named, "alignment", "raw", "sink_excess", "step")
    found = named["alignment"].data["scores"].height
    above = named["alignment"].data["scores"].filter(pl.col("rescaling") == "time").height
    assert named["alignment"].answer.startswith(
        f"Of {found} ways to lay the runs over each other (by statistic, axis and rescaling) "
        f"{above} "
    )
    row = {"score": 0.97, "score_low": 0.94, "score_high": 1.0, "null_high": 0.96}
    assert "not clearly more than" in alignment._explains(row)
    assert "no more than" in alignment._explains({**row, "null_high": 1.2})
    assert "100 (bb/softmax-1l/seed0) to 500 (nano-olmo)" in told(
        named, "alignment", "scales", "sink_excess", "step", "time"
    )


def test_experiments_are_told_for_the_chosen_statistic(named: dict[str, Page]) -> None:
    text = told(named, "laboratory", "mitigations", "sink_excess", "loss")
    assert "In 1 of 2 comparisons" in text and "sink excess at equal loss" in text
    assert "relu-1l −0.40" in text, "the other's interval reaches beyond zero"
    text = told(named, "laboratory", "mitigations", "sink_excess", "rate")
    assert "the interval in sink excess per ln(step) excludes zero" in text


def test_experiments_stand_side_by_side_with_their_differences_at_equal_loss(
    results: Path, tmp_path: Path
) -> None:
    """The control once, without a difference; no other column of the table is taken for it."""

    def own(frame: pl.DataFrame) -> pl.DataFrame:
        matched = pl.col("measure") == "loss"
        frame = frame.with_columns(
            mean=pl.when(matched).then(7.0).otherwise(pl.lit(0.25)),
            difference=pl.when(matched).then(-0.5).otherwise(pl.lit(9.0)),
            difference_high=pl.lit(-0.0004),
            p_value=pl.lit(0.0625),
        )
        end = frame.filter((pl.col("variant") == "relu-1l") & (pl.col("measure") == "step"))
        return pl.concat([frame, end.with_columns(variant=pl.col("control"))])

    copy = with_table(results, tmp_path, "bb_comparisons", own)
    (grid,) = (
        block
        for block in mitigations.make(Run(copy, configured(copy))).every_block
        if isinstance(block, Grid) and block.name == "compared"
    )
    cells = {
        row[0].text: dict(zip(grid.head, row, strict=True))
        for row in grid.rows
    }  # fmt: skip
    assert list(cells) == ["bb/adamw-3l", "bb/relu-1l", "bb/softmax-1l"], (
        "the control first, no cause"
    )
    row, control = cells["bb/relu-1l"], cells["bb/adamw-3l"]
    assert row["sink excess"].text == "0.250" and row["sink excess"].order == 0.25
    assert row["sink excess"].note == "Δ −0.500 [−0.600, 0.000] p 0.062"
    assert row["residual excess"].text == "—", "not compared"
    assert control["Δlogit"].text == "0.250"
    assert control["Δlogit"].note == ""


def test_the_price_is_what_the_tasks_own_oracle_would_not_pay(
    results: Path, tmp_path: Path
) -> None:
    """Losses of tasks of another length or rule differ before anything is learned."""
    values = {"trigger": (0.4, 30), "non_trigger": (0.1, 90)}
    of = {name: pl.col("domain").replace_strict({d: v[i] for d, v in values.items()}, default=None)
          for i, name in enumerate(("excess_risk", "predictions"))}  # fmt: skip
    toy = pl.col("trajectory").str.starts_with("bb/")
    told = {name: pl.when(toy).then(v).otherwise(pl.col(name)) for name, v in of.items()}
    copy = with_table(results, tmp_path, "checkpoints", lambda f: f.with_columns(**told))
    page = mitigations.make(Run(copy, configured(copy)))
    assert page.data["prices"]["excess"].unique().to_list() == [pytest.approx(0.175)]
    price = next(figure for figure in page.figures if figure.name == "price")
    assert f"{words.number(0.175)} nats/token" in price.reading


def test_causes_are_drawn_by_their_rates_where_these_were_compared(named: dict[str, Page]) -> None:
    page = named["laboratory"]
    for name, statistic, told in (
        ("causes", "delta_logit", "Δlogit"),
        ("causes-drain", "value_ratio", "value ratio"),
    ):
        rows = page.data[name]
        assert set(rows["measure"]) == {"rate"} and set(rows["statistic"]) == {statistic}
        assert rows["variant"].is_duplicated().sum() == 0
        (figure,) = (figure for figure in page.figures if figure.name == name)
        assert figure.data == name
        clear = rows.filter((pl.col("difference_low") > 0) | (pl.col("difference_high") < 0))
        compared = words.count(rows.height, "interval")
        assert figure.reading.startswith(f"{clear.height} of {compared} exclude")
        for row in clear.to_dicts():
            assert f"{row['change']}” {words.signed(row['difference'])}" in figure.reading
        (title,) = {
            tuple(x["title"]) for x in specs.encoded(figure.specification(page.controls), "x")
            if isinstance(x.get("title"), list)
        }  # fmt: skip
        assert ("(nats per ln(step))" in title) == (statistic == "delta_logit"), title
        other = "value ratio" if statistic == "delta_logit" else "logit"
        assert told in title[0] and other not in title[0], "one unit on one axis"


def test_of_many_groups_the_ends_are_told_as_they_are_of_few() -> None:
    """Three seeds each, so eight means; the language model has two domains of one series each."""
    toys = [(f"bb/v{v}/seed{s}", "non_trigger", v + s / 10) for v in range(7) for s in range(3)]
    frame = pl.DataFrame(
        [*toys, ("olmo", "prose", 9.0), ("olmo", "code", 8.0)],
        schema=["trajectory", "domain", "value"],
        orient="row",
    )
    assert words.per_group(frame, "value") == (
        "0.10 (bb/v0) to 9.00 (olmo on prose) over 8 groups and their domains, toys as means of 3 "
        "seeds"
    )
    few = frame.filter(pl.col("trajectory").str.contains("v0|v1"))
    assert words.per_group(few, "value") == "0.10 (bb/v0), 1.10 (bb/v1), means of 3 seeds"
    uneven = few.filter(pl.col("trajectory") != "bb/v1/seed2")
    assert words.per_group(uneven, "value") == (
        "0.10 (bb/v0, mean of 3 seeds), 1.05 (bb/v1, mean of 2 seeds)"
    )


def test_axes_of_an_exported_collapse_say_what_was_divided(named: dict[str, Page]) -> None:
    """Pictures show the first choices, and what an amplitude divides has no unit left."""
    raw, collapsed = (
        figure(named, "alignment", name).specification(named["alignment"].controls)
        for name in ("raw", "collapsed")
    )

    def titles(spec: dict[str, Any]) -> set[tuple[str, str]]:
        found = [layer["encoding"] for layer in spec["layer"]]
        return {(encoding["x"]["title"], encoding["y"]["title"]) for encoding in found}

    assert titles(raw) == {("training step", "sink excess")}
    assert titles(collapsed) == {("training step / scale of the run", "sink excess")}
    patches = figure(named, "alignment", "collapsed").patches
    assert list(patches)[-1] == "aligned_rescaling", "after the statistic, whose unit it takes"
    assert patches["aligned_rescaling"] == {
        "time_and_amplitude": {"y": {"title": "(statistic − offset) / amplitude"}}
    }


def test_no_law_is_drawn_that_another_excludes(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    config = configured(tmp_path / "results")
    before = series.law_curves(Run(tmp_path / "results", config))
    (trajectory, statistic) = before.select("trajectory", "statistic").row(0)
    path = tmp_path / "results" / "tables" / "laws.parquet"
    spoilt = pl.read_parquet(path).with_columns(
        pl.when((pl.col("trajectory") == trajectory) & (pl.col("statistic") == statistic))
        .then(pl.lit("excluded"))
        .otherwise(pl.col("verdict"))
        .alias("verdict")
    )
    table = TABLES["laws"]
    write(spoilt.to_arrow().cast(table.schema), table, path, {})
    after = series.law_curves(Run(tmp_path / "results", config))
    gone = (pl.col("trajectory") == trajectory) & (pl.col("statistic") == statistic)
    assert not after.filter(gone).height
    assert after.height == before.filter(~gone).height
