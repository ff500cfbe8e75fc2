"""Claims of files: shipped ones on made-up tables, altered data, the user's own, and mistakes."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajectory.config import Dynamics
from trajectory.config.claims import SHIPPED, load_claims, shipped
from trajectory.dynamics.claims.evidence import Evidence
from trajectory.dynamics.claims.ledger import claim_rows
from trajectory.dynamics.claims.queried import queried
from trajectory.errors import TrajectoryError
from trajectory.schemas import TABLES


def evidence(**frames: pl.DataFrame) -> Evidence:
    return Evidence(Dynamics(), {}, frames)


def rows(file: str, found: Evidence) -> dict[tuple[str, str, str], dict]:
    return {
        (row["claim"], row["criterion"], row["subject"]): row
        for row in claim_rows(queried([file], []), found)
    }


def heads(rates: list[float], trajectory: str = "m", **more: object) -> pl.DataFrame:
    """Two checkpoints of heads without a sink, then with these sink rates."""
    parts = [
        {"trajectory": trajectory, "domain": "prose", "step": step, "layer": head // 2,
         "head": head % 2, "sink_metric": rate if step else 0.1, "sink_rate": 0.0,
         "selectivity": 40.0 * rate, "sink_position": 0, "sink_weight_floor": 0.02, **more}
        for step in (0, 10)
        for head, rate in enumerate(rates)
    ]  # fmt: skip
    return pl.DataFrame(parts)


def test_every_shipped_file_reads_columns_that_there_are() -> None:
    """On tables of every column, empty but for one row of zeros."""
    assert {path.stem for path in SHIPPED.iterdir()} == set(shipped())
    for name in shipped():
        for claim in load_claims(name).claims.values():
            for one in claim.criteria.values():
                for table in one.tables:
                    assert table in TABLES and table in one.query
    every = {
        table: pl.from_arrow(TABLES[table].schema.empty_table()).clear(1)
        for table in ("heads", "layers", "laws", "phenomena", "force_layers", "bb_scalars")
    }
    root = Path(__file__).parents[2]
    for guide in ("docs/dynamics.md", "docs/config.md"):
        assert all(name in (root / guide).read_text() for name in shipped())
    found = list(claim_rows(queried(shipped(), []), evidence(**every)))
    assert len(found) == 18
    assert {row["verdict"] for row in found} == {"not measurable"}
    nothing = "this run has nothing to decide it on: it takes "
    told = {row["criterion"]: row["reason"].removeprefix(nothing) for row in found}
    assert told["Pythia 12B, 3200"] == "the suite pythia-12b"
    assert told["none"] == "a language model on sequences of 140 tokens or more"
    laws = {row["reason"] for row in found if row["claim"] == "five-parameter-law"}
    assert laws == {"this run has nothing to decide it on"}
    assert all(row["reason"].startswith(nothing[:-11]) for row in found)


def test_altered_data_flips_the_verdict() -> None:
    key = ("sink-rate-rises", "rises", "m")
    rising = rows("sail-sg", evidence(heads=heads([0.9, 0.8, 0.95, 0.7])))[key]
    assert rising["verdict"] == "reproduced"
    changes = np.array([0.8, 0.7, 0.85, 0.6])
    interval = stats.t.interval(0.95, 3, changes.mean(), stats.sem(changes))
    assert (rising["low"], rising["high"]) == pytest.approx(interval)
    assert (rising["measured"], rising["interval"]) == (pytest.approx(changes.mean()), "rows")
    falling = rows("sail-sg", evidence(heads=heads([0.01, 0.02, 0.0, 0.03])))[key]
    assert falling["verdict"] == "not reproduced"
    open_ = rows("sail-sg", evidence(heads=heads([0.3, 0.0, 0.2, 0.0])))[key]
    assert open_["verdict"] == "undecided"


def test_numbers_of_one_model_are_decided_on_it_alone() -> None:
    key = ("sink-rates-published", "Llama 2 7B, 92 %", "meta-llama-2-7b-hf")
    high = heads([0.92, 0.93, 0.91, 0.94], "meta-llama-2-7b-hf")
    assert rows("sail-sg", evidence(heads=high))[key]["verdict"] == "reproduced"
    low = heads([0.5, 0.6, 0.55, 0.5], "meta-llama-2-7b-hf")
    assert rows("sail-sg", evidence(heads=low))[key]["verdict"] == "not reproduced"
    other = rows("sail-sg", evidence(heads=heads([0.9, 0.9])))
    assert other[(*key[:2], "run")]["verdict"] == "not measurable"


def test_a_count_stands_alone() -> None:
    key = ("no-early-attractors", "none", "m")
    assert rows("bos-attractors", evidence(heads=heads([0.1, 0.2])))[key]["verdict"] == "reproduced"
    some = rows("bos-attractors", evidence(heads=heads([0.1, 0.9])))[key]
    assert (some["verdict"], some["measured"]) == ("not reproduced", pytest.approx(0.5))


def gradients(trajectory: str, ratios: list[float]) -> pl.DataFrame:
    frame = {"trajectory": trajectory, "domain": "d", "step": 5, "gradient_sink": ratios}
    return pl.DataFrame(frame).with_row_index("layer")


def sinking(**there: bool | None) -> pl.DataFrame:
    """Rows of ``phenomena``: in which trajectory the sink has set in."""
    names = [name.replace("_", "/") for name in there]
    sink = pl.Series(list(there.values()), dtype=pl.Boolean)
    return pl.DataFrame({"trajectory": names, "domain": "d", "sink": sink})


def test_the_embedding_is_written_by_no_block() -> None:
    ratios = [0.001, 2.0, 3.0, 2.5]
    key = ("gradients-concentrate", "exceeds", "m")
    frames = {"force_layers": gradients("m", ratios), "phenomena": sinking(m=True)}
    row = rows("gradient-sinks", evidence(**frames))[key]
    assert row["measured"] == pytest.approx(np.log(ratios[1:]).mean())
    assert row["verdict"] == "reproduced"
    inverse = gradients("m", [1 / ratio for ratio in ratios])
    row = rows("gradient-sinks", evidence(**frames | {"force_layers": inverse}))[key]
    assert row["verdict"] == "not reproduced"
    for there in (False, None):
        found = rows("gradient-sinks", evidence(**frames | {"phenomena": sinking(m=there)}))
        assert key not in found, "what has no sink says nothing of it"


def test_gradients_at_a_sink_are_held_to_those_of_toys_without_one() -> None:
    pairs = [(4.0, 1.0), (3.0, 1.2), (5.0, 0.9)]
    named = {"a": None, "b": "a"}
    scalars = pl.DataFrame(
        [
            {"trajectory": f"bb/{name}/seed{seed}", "variant": name, "seed": seed,
             "control": control, "match": "step", "residual_ratio": 1.0, "sink_excess": 0.5}
            for seed in range(3) for name, control in named.items()
        ]
    )  # fmt: skip
    layers = [
        gradients(f"bb/{name}/seed{seed}", [9.0, pair[n]])
        for seed, pair in enumerate(pairs)
        for n, name in enumerate(named)
    ]
    there = {f"bb_{name}_seed{seed}": name == "a" for seed in range(3) for name in named}
    frames = {
        "force_layers": pl.concat(layers), "phenomena": sinking(**there), "bb_scalars": scalars
    }  # fmt: skip
    key = ("gradients-concentrate", "more than where there is no sink", "bb/a")
    row = rows("gradient-sinks", evidence(**frames))[key]
    lags = [np.log(own / bare) for own, bare in pairs]
    assert row["measured"] == pytest.approx(np.mean(lags))
    assert (row["verdict"], row["interval"]) == ("reproduced", "seeds")
    turned = frames["force_layers"].with_columns(gradient_sink=1 / pl.col("gradient_sink"))
    altered = rows("gradient-sinks", evidence(**frames | {"force_layers": turned}))
    assert altered[key]["verdict"] == "not reproduced"
    both = sinking(**dict.fromkeys(there, True))
    assert key not in rows("gradient-sinks", evidence(**frames | {"phenomena": both}))


def laws(r2: list[float], simpler: float) -> pl.DataFrame:
    """Fits of three depths: the law of five parameters, and a line with an AICc this much above."""
    return pl.DataFrame(
        [
            {"trajectory": "m", "domain": "prose", "layer": layer, "head": -1,
             "statistic": "massive_ratio", "window": window, "law": law,
             "r2": value if window == "all" else 0.1,
             "aicc": -50.0 + layer + (law == "linear") * (simpler if window == "all" else -99)}
            for layer, value in enumerate(r2)
            for window in ("all", "onset")
            for law in ("log_time", "linear")
        ]
    )  # fmt: skip


def test_the_law_of_five_parameters_is_held_to_simpler_ones() -> None:
    fits, simpler = (
        ("five-parameter-law", name, "m") for name in ("fits", "no simpler law does as well")
    )
    good = rows("hidden-dynamics", evidence(laws=laws([0.98, 0.985, 0.99], 6.0)))
    assert good[fits]["measured"] == pytest.approx(0.985)
    assert good[simpler]["measured"] == pytest.approx(6)
    assert good[fits]["verdict"] == good[simpler]["verdict"] == "reproduced"
    poor = rows("hidden-dynamics", evidence(laws=laws([0.7, 0.72, 0.69], -6.0)))
    assert poor[fits]["verdict"] == poor[simpler]["verdict"] == "not reproduced"
    toys = laws([0.98, 0.985, 0.99], 6.0).with_columns(trajectory=pl.lit("bb/a/seed0"))
    assert fits not in rows("hidden-dynamics", evidence(laws=toys))


def test_published_shares_of_attractors_are_of_their_model_and_of_long_sequences() -> None:
    key = ("attractors-published", "Pythia 1B, 57.8 %", "pythia-1b")
    most = heads([0.9, 0.9, 0.9, 0.1, 0.1], "pythia-1b")
    found = rows("bos-attractors", evidence(heads=most))[key]
    assert (found["measured"], found["verdict"]) == (pytest.approx(0.6), "reproduced")
    few = rows("bos-attractors", evidence(heads=heads([0.9, 0.1, 0.1, 0.1], "pythia-1b")))[key]
    assert few["verdict"] == "not reproduced"
    short = most.with_columns(sink_weight_floor=0.06)
    assert key not in rows("bos-attractors", evidence(heads=short))


def test_v_scale_is_compared_with_its_control_seed_by_seed() -> None:
    ends = {
        "softmax": [(2.0, 0.8), (4.0, 0.5), (3.0, 0.7)],
        "v-scale": [(1.1, 0.9), (1.8, 0.4), (1.2, 0.8)],
    }
    frame = pl.DataFrame(
        [
            {"trajectory": f"bb/{name}/seed{seed}", "variant": name, "seed": seed, "match": "step",
             "control": "softmax" if name == "v-scale" else None,
             "residual_ratio": peak, "sink_excess": sink}
            for name, seeds in ends.items()
            for seed, (peak, sink) in enumerate(seeds)
        ]
    )  # fmt: skip
    found = rows("gradient-sinks", evidence(bb_scalars=frame))
    peak = found["v-scale", "suppresses the peak", "bb/v-scale"]
    assert peak["measured"] == pytest.approx(np.log([1.1 / 2, 1.8 / 4, 1.2 / 3]).mean())
    assert peak["verdict"] == "reproduced"
    sink = found["v-scale", "preserves the sink", "bb/v-scale"]
    assert sink["measured"] == pytest.approx(np.mean([0.5, 0.15, 0.45]))
    assert (sink["verdict"], sink["interval"]) == ("undecided", "seeds")
    gone = frame.with_columns(
        sink_excess=pl.when(pl.col("variant") == "v-scale").then(0.01).otherwise("sink_excess"),
        residual_ratio=pl.when(pl.col("variant") == "v-scale")
        .then(9.0)
        .otherwise("residual_ratio"),
    )
    altered = rows("gradient-sinks", evidence(bb_scalars=gone))
    for criterion in ("suppresses the peak", "preserves the sink"):
        assert altered["v-scale", criterion, "bb/v-scale"]["verdict"] == "not reproduced"


def test_toys_are_pooled_over_seeds(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "SELECT trajectory, AVG(gradient_sink) AS value FROM force_layers_last GROUP BY trajectory",
        tables="[force_layers]",
    )
    frame = pl.DataFrame(
        {
            "trajectory": [f"bb/a/seed{n}" for n in range(3)],
            "step": 5,
            "gradient_sink": [2.0, 3.0, 4.0],
        }
    )
    (row,) = claim_rows(queried([str(path)], []), evidence(force_layers=frame))
    assert (row["subject"], row["measured"], row["interval"]) == ("bb/a", 3.0, "seeds")


def written(folder: Path, query: str, tables: str = "[heads]", more: str = "at_least: 0") -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        textwrap.dedent(f"""\
        paper: Mine
        link: none
        claims:
          my-claim:
            statement: It is so
            figure: none
            criteria:
              one:
                computation: as the query says
                tables: {tables}
                query: "{query}"
                {more}
        """)
    )
    return path


def test_the_manual_s_file_is_read(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "dynamics.md").read_text()
    block = next(b for b in text.split("```yaml\n")[1:] if b.startswith("paper:"))
    (tmp_path / "my.yaml").write_text(block.split("```")[0])
    frame = heads([0.5, 0.6]).with_columns(
        row_entropy=pl.when(pl.col("step") == 0).then(3.0).otherwise(1.0 + pl.col("head"))
    )
    (row,) = claim_rows(queried([str(tmp_path / "my.yaml")], []), evidence(heads=frame))
    assert (row["measured"], row["verdict"]) == (-1.5, "undecided"), "two heads: -2 and -1"
    assert row["low"] is None, "two of one trajectory have no interval"


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    found = evidence(heads=heads([0.5, 0.6]))

    def told(query: str = "SELECT trajectory, 1.0 AS value FROM heads", **more: str) -> str:
        path = written(tmp_path, query, **more)
        with pytest.raises(TrajectoryError) as caught:
            list(claim_rows(queried([str(path)], ["task"]), found))
        (line,) = str(caught.value).splitlines()
        return line.removeprefix(str(path))

    where = ": claims.my-claim.criteria.one: "
    assert (
        told("SELECT trajectory FROM heads")
        == f"{where}query: gives no column 'value', but trajectory"
    )
    assert told("SELECT nothing AS value FROM heads").startswith(
        f"{where}query: unable to find col"
    )
    assert told("SELEC").startswith(f"{where}query: ")
    assert told("SELECT trajectory, domain AS value FROM heads").endswith(
        "value is String, not a number"
    )
    assert told(tables="[haeds]").startswith(
        f"{where}tables: unknown table 'haeds'; 'trajectory tab"
    )
    assert "give at_least, at_most or both" in told(more="unit: nats")
    with pytest.raises(
        TrajectoryError, match="claims.my-claim: the ledger has a claim of this name"
    ):
        list(queried([str(written(tmp_path, "SELECT"))], ["my-claim"]))
    with pytest.raises(
        TrajectoryError, match="claims: nix.yaml: no such file, and none of the ship"
    ):
        list(queried(["nix.yaml"], []))
