"""Forces of what has none: one line that says so, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from trajectory.bb.forces import toy_forces
from trajectory.cli import app
from trajectory.config import Forces, parse
from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.forces.checkpoint import checkpoint_forces
from trajectory.probe.forces.keys import Keys
from trajectory.probe.forces.measure import Wanted

from ..test_families import batches, make
from .toys import toy

SUITE = {"folder": "models", "model_type": "olmo", "tokens_per_step": 100}


def of_suites(forces: dict[str, Any], suite: dict[str, Any] | None = None, **probe: Any) -> Any:
    return {
        "suites": {"mine": {**SUITE, **(suite or {})}},
        "probe": {"length": 32, **probe, "forces": forces},
    }


def of_toys(forces: dict[str, Any], **variant: Any) -> Any:
    return {"bb": {"variants": {"x": {"task": {"length": 32}, **variant, "forces": forces}}}}


WRONG: list[tuple[dict[str, Any], str]] = [
    (of_suites({}, {"loss": False}), "loss: false"),
    (of_suites({"sequences": 1}), "forces.sequences"),
    (of_suites({}, sequences=1), "two sequences"),
    (of_suites({"first_late": 32}), "first_late"),
    (of_suites({"positions": [31]}), "position 31"),
    (of_suites({"constant": [31]}), "position 31"),
    (of_suites({"readers": []}), "readers"),
    (of_suites({"coupling": False}), "arrows"),
    (of_toys({"positions": [31]}), "position 31"),
    (of_toys({"first_late": 40}), "first_late"),
    (of_toys({}, evaluation=1), "two sequences"),
    (of_toys({"heads": [{"layer": 0, "head": 1}]}), "no head 1"),
    (of_toys({"heads": [{"layer": 1, "head": 0}]}), "layer 1"),
    (of_toys({"heads": [{"layer": 0, "head": 0}]}, layers=2, no_attn=[0]), "no attention"),
    (of_toys({"checkpoints": [999999]}), "step 999999"),
    *((of_toys({}, attention=kind), "log-odds") for kind in ("relu", "sigmoid", "softpick")),
]


@pytest.mark.parametrize(("values", "told"), WRONG, ids=[told for _, told in WRONG])
def test_a_config_is_refused_at_once(values: dict[str, Any], told: str) -> None:
    with pytest.raises(TrajectoryError, match=told) as raised:
        parse({"name": "a", "results": "r", **values})
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_right_passes() -> None:
    parse({"name": "a", "results": "r", **of_suites({"positions": [30], "first_late": 31})})
    parse({"name": "a", "results": "r", **of_toys({"heads": [{"layer": 0, "head": 0}]})})
    parse({"name": "a", "results": "r", **of_toys({"arrows": False}, attention="relu")})


def without_read_out(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if name != "lm_head.weight"}
    save_file(kept, path, {"format": "pt"})


def unchanged(folder: Path) -> None:
    del folder


CASES: list[tuple[dict[str, Any], str, Callable[[Path], None]]] = [
    ({}, "read-out|lm_head", without_read_out),
    ({}, "one sequence", unchanged),
    ({"first_late": 26}, "no late readers", unchanged),
    ({"readers": ()}, "readers are", unchanged),
    ({"readers": ("mid",)}, "readers are .*mid", unchanged),
    ({"readers": "late"}, "readers are .* in a list", unchanged),
    ({"wanted": Wanted(Keys(positions=(40,)))}, "position 40", unchanged),
    ({"wanted": Wanted(Keys(positions=(25,)))}, "position 25.*after them", unchanged),
    ({"wanted": Wanted(Keys(tokens=("never",)))}, "never", unchanged),
    ({"wanted": Wanted(heads=((0, 4),))}, "no head 4", unchanged),
    ({"wanted": Wanted(heads=((7, 0),))}, "layer 7", unchanged),
]


@pytest.mark.parametrize(("changes", "told", "spoil"), CASES, ids=[told for _, told, _ in CASES])
def test_a_checkpoint_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], told: str, spoil: Callable[[Path], None]
) -> None:
    make(tmp_path, "olmo2")
    spoil(tmp_path)
    made = batches(size=1) if told == "one sequence" else batches()
    with pytest.raises(TrajectoryError, match=told) as raised:
        checkpoint_forces(tmp_path, made, **changes)
    assert len(str(raised.value).splitlines()) == 1


def test_a_key_beyond_the_window_of_every_layer_is_refused(tmp_path: Path) -> None:
    """In late readers; where one layer sees it, the others have no rows for it."""
    all_short = ["sliding_attention"] * 4
    make(tmp_path / "short", "olmo3-window", layer_types=all_short, sliding_window=4)
    with pytest.raises(TrajectoryError, match="window"):
        checkpoint_forces(tmp_path / "short", batches())
    make(tmp_path / "one", "olmo3-window", layer_types=[*all_short[:3], "full_attention"])
    wanted = Wanted(Keys(positions=()), heads=((0, 1), (3, 1)))
    found = checkpoint_forces(tmp_path / "one", batches()[:1], wanted)
    late = {row["layer"] for row in found["forces"] if row["readers"] == "late"}
    assert late == {3} == {row["layer"] for row in found["arrows"]}


@pytest.mark.parametrize(
    ("heads", "told"),
    [("some", "not 'some'"), ([], r"not \[\]"), ([(0, 1), (0, 1)], r"\(0, 1\) is given twice")],
)
def test_heads_that_are_none_are_refused_before_the_model_is_read(heads: Any, told: str) -> None:
    with pytest.raises(TrajectoryError, match=told):
        Wanted(heads=heads)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"positions": (1, 1)}, "positions: 1 is given twice"),
        ({"tokens": ("a", "a")}, "tokens: 'a' is given twice"),
        ({"constant": (0,)}, "constant: 0 is the sink"),
        ({"sink": 4}, "positions: 4 is the sink"),
    ],
)
def test_a_sham_is_another_key(asked: dict[str, Any], told: str) -> None:
    """Two rows of one name would be two keys that nothing tells apart."""
    with pytest.raises(TrajectoryError, match=told):
        Keys(**asked)


def test_weights_that_are_not_finite_are_told_as_such(tmp_path: Path) -> None:
    """NaN weights of attention mean that no query sees the key; these mean something else."""
    make(tmp_path, "olmo2")
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if n.endswith("layers.1.self_attn.v_proj.weight"))
    weights[name][0, 0] = float("nan")
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(TrajectoryError, match="stream behind layer 1 is not finite"):
        checkpoint_forces(tmp_path, batches()[:1])


def test_a_domain_of_short_texts_has_no_late_readers(tmp_path: Path) -> None:
    make(tmp_path, "olmo2")
    prose, code = batches()
    short = TokenBatch(code.domain, code.tokens[:, :9], [t[:9] for t in code.texts], "raw", None)
    with pytest.raises(TrajectoryError, match="'code'.*late"):
        checkpoint_forces(tmp_path, [prose, short])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokens": ["no"]}, "token 'no'"),
        ({"heads": [{"layer": 0, "head": 2}]}, "no head 2"),
        ({"heads": [{"layer": 1, "head": 0}]}, "layer 1"),
    ],
)
def test_a_toy_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    made = toy(layers=1)
    forces = Forces.model_validate({"positions": [], "constant": [], **changes})
    with pytest.raises(TrajectoryError, match=told):
        toy_forces(made.model, made.tokens, made.law, {}, made.texts, forces)


@pytest.mark.parametrize(
    ("probe", "suite", "told"),
    [
        ("{length: 32}", "", "forces is not part"),
        ("{length: 32, forces: {}}", ", loss: false", "loss: false"),
        ("{length: 32, forces: {positions: [40]}}", "", "position 40"),
    ],
)
def test_the_command_says_one_line_and_writes_nothing(
    tmp_path: Path, probe: str, suite: str, told: str
) -> None:
    (tmp_path / "models").mkdir()
    config = tmp_path / "own.yaml"
    config.write_text(
        f"name: own\nresults: {tmp_path}/r\nprobe: {probe}\nsuites:\n"
        f"  mine: {{folder: {tmp_path}/models, model_type: olmo, tokens_per_step: 1{suite}}}\n"
    )
    before = sorted(tmp_path.rglob("*"))
    arguments = ["forces", "mine", "step1", "--config", str(config)]
    for name in ("listed", "batches", "output", "bundle"):
        arguments += [f"--{name}", str(tmp_path / name)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    said = str(done.exception) if done.exception else done.output
    assert told in said + done.output
    assert "Traceback" not in done.output
    assert sorted(tmp_path.rglob("*")) == before
