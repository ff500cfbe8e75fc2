"""Forces of a model that trains: those of its saved checkpoint, and no trace of them behind."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from trajectory import api, cli
from trajectory.config import Forces
from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.forces.checkpoint import checkpoint_forces
from trajectory.probe.forces.configured import wanted_of
from trajectory.probe.forces.keys import Keys
from trajectory.record import Recorder
from trajectory.schemas import FORCE_TABLES
from trajectory.tables import scan

from .test_recorder import Training, domains, recorder, tables, tiny

SETTINGS = Forces(checkpoints=[2, 4], positions=[3], constant=[1], first_late=6, sequences=2)
SHOWN = {"at": [0, 2, 4], "forces": SETTINGS}


@pytest.fixture(scope="module")
def forced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Training]:
    """A recorded training, its checkpoint at step 2, and where it ended."""
    folder = tmp_path_factory.mktemp("forced")
    training = Training()
    with recorder(folder / "run", training.model, **SHOWN) as recording:
        for step in range(6):
            recording(step)
            if step == 2:
                copy.deepcopy(training.model).save_pretrained(folder / "step2")
            training.update(step)
    return folder / "run", folder / "step2", training


def train(training: Training, folder: Path, steps: int) -> None:
    """Record a training up to a step, from its first."""
    with recorder(folder, training.model, **SHOWN) as recording:
        for step in range(steps):
            recording(step)
            training.update(step)


def same(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    """Bit for bit, whatever the order of the rows."""
    names = [c for c, kind in expected.schema.items() if not kind.is_float()]
    return found.sort(names).equals(expected.sort(names))


def test_they_are_those_of_the_checkpoint(forced: tuple[Path, Path, Training]) -> None:
    run, checkpoint, _ = forced
    tokens = domains()["prose"][:2]
    texts = [[str(id_) for id_ in row] for row in tokens.tolist()]
    batch = TokenBatch("prose", tokens, texts, "raw")
    expected = checkpoint_forces(
        checkpoint, [batch], wanted_of(SETTINGS), SETTINGS.readers, SETTINGS.first_late
    )
    for name in FORCE_TABLES:
        found = scan(run, name).collect()
        assert found["step"].unique().sort().to_list() == [2, 4]
        assert set(found["trajectory"]) == {"my-run"}
        kept = [c for c in found.columns if c not in ("trajectory", "step", "tokens")]
        wanted = pl.DataFrame(expected[name], infer_schema_length=None).select(kept)
        assert wanted.height
        assert same(found.filter(step=2).select(kept), wanted.cast(dict(found.select(kept).schema)))
    assert tables(run)["checkpoints"]["step"].to_list() == [0, 2, 4]


def test_the_lead_head_s_force_and_coupling_are_among_the_numbers_to_log(tmp_path: Path) -> None:
    training = Training()
    with recorder(tmp_path, training.model, **SHOWN) as recording:
        logged = []
        for step in range(3):
            logged.append(recording(step))
            training.update(step)
    assert logged[0] is not None and logged[2] is not None
    assert "sinks/prose/coupling" not in logged[0]
    heads = scan(tmp_path, "heads").collect().filter(step=2)
    lead = heads.sort("sink_excess").row(-1, named=True)
    rows = (
        scan(tmp_path, "forces").collect().filter(readers="late", key="sink", layer=lead["layer"])
    )
    (own,) = rows.filter(head=lead["head"])["sink_force"].to_list()
    assert logged[2]["sinks/prose/sink_force"] == own
    of_layers = scan(tmp_path, "forces").collect().filter(readers="late", key="sink")
    measured = of_layers.drop_nulls("coupling").select("layer", "head", "coupling")
    ranked = heads.join(measured, on=["layer", "head"]).sort("sink_excess")
    assert logged[2]["sinks/prose/coupling"] == ranked["coupling"][-1]


def test_the_training_ends_where_it_would_have_ended(forced: tuple[Path, Path, Training]) -> None:
    _, _, training = forced
    alone = Training()
    before = dict(vars(alone.model.config))
    for step in range(6):
        alone.update(step)
    for mine, other in zip(
        training.model.state_dict().values(), alone.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)
    assert training.model.config.to_dict() == alone.model.config.to_dict()
    assert vars(training.model.config).keys() == before.keys()
    assert training.model.training and all(p.requires_grad for p in training.model.parameters())


def test_a_training_that_starts_again_goes_on_with_them(
    tmp_path: Path, forced: tuple[Path, Path, Training]
) -> None:
    first = Training()
    train(first, tmp_path, 4)
    for name in FORCE_TABLES:
        assert scan(tmp_path, name).collect()["step"].unique().to_list() == [2]
    with pytest.raises(TrajectoryError, match="of another training, its forces is"):
        recorder(tmp_path, first.model)
    train(Training(), tmp_path, 6)
    for name in FORCE_TABLES:
        assert same(scan(tmp_path, name).collect(), scan(forced[0], name).collect())


def test_the_run_s_commands_read_them(forced: tuple[Path, Path, Training]) -> None:
    run, _, _ = forced
    runner = CliRunner()
    for arguments in (["dynamics"], ["reinforcement"], ["claims"], ["report", "--no-figures"]):
        done = runner.invoke(cli.app, [*arguments, "--results", str(run)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert set(scan(run, "reinforcement").collect()["key"]) == {"sink", "position 3", "constant 1"}
    assert "No forces" not in (run / "report" / "reinforcement.html").read_text()


def test_by_hand_they_are_had_of_a_model_too(tmp_path: Path) -> None:
    model: Any = tiny(vocab_size=40)
    state, before = torch.get_rng_state(), model.config.to_dict()
    options: dict[str, Any] = {"keys": Keys(positions=(3,)), "heads": "all"}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = api.forces(model, domains(), **options)
    assert torch.equal(torch.get_rng_state(), state) and model.config.to_dict() == before
    with torch.random.fork_rng():
        plain = api.forces(tiny(vocab_size=40), domains(), **options)
    assert found.forces.equals(plain.forces) and found.forces["coupling"].drop_nulls().len()
    with pytest.raises(TrajectoryError, match="^dtype: a model in memory is measured in its own"):
        api.forces(model, domains(), dtype="float32")


def test_what_is_not_in_the_weights_is_refused_before_the_training(tmp_path: Path) -> None:
    def hooked(model: Any) -> None:
        model.model.layers[1].mlp.register_forward_hook(lambda *_: None)

    def replaced(model: Any) -> None:
        model.model.layers[1].mlp.up_proj = type("Adapter", (torch.nn.Linear,), {})(16, 24)

    for edit, told in ((hooked, "mlp has a hook"), (replaced, "up_proj is a Adapter")):
        model = tiny()
        edit(model)
        with pytest.raises(TrajectoryError, match=f"layers.1.*{told}.*merge adapters") as refused:
            recorder(tmp_path / "new", model, **SHOWN)
        assert "\n" not in str(refused.value)
        recorder(tmp_path / told.split()[0], model).close()


@pytest.mark.parametrize(
    ("options", "changed", "told"),
    [
        ({"at": None}, {}, "my-run: forces at chosen steps need the steps to record"),
        ({"at": [0, 2]}, {}, "my-run: forces at step 4, not one to record"),
        ({}, {"first_late": 40}, "domain 'prose': forces.first_late: query 40 is beyond 19"),
        ({}, {"positions": [30]}, "domain 'prose': forces: position 30 is beyond 18"),
        ({"sequences": 1}, {}, "forces: domain 'prose' has one sequence; standard errors need"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_training(
    tmp_path: Path, options: dict[str, Any], changed: dict[str, Any], told: str
) -> None:
    given = SHOWN | {"forces": SETTINGS.model_copy(update=changed)} | options
    with pytest.raises(TrajectoryError, match=f"^{told}") as refused:
        recorder(tmp_path / "new", tiny(), **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_they_are_said_beforehand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trajectory"):
        Recorder(tiny(), domains(), to=tmp_path, name="my-run", **SHOWN).close()
    assert "and their statistics, and forces at 2 of them" in caplog.text
