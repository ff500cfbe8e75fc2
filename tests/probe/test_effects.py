"""Many interventions in one pass, against one whole pass for each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rarely import rarely
from safetensors.torch import load_file, save_file

from trajectory.errors import TrajectoryError
from trajectory.probe import effects
from trajectory.probe.branches import UNCHANGED, Branch
from trajectory.probe.effects import measure_effects
from trajectory.probe.interventions import Intervention
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.schemas import HEAD_EFFECTS, INTERVENTION_LAYERS, INTERVENTIONS

from .test_families import batches, make

PAIR = Branch("pair", (Intervention("zero_head", 1, 2), Intervention("mean_residual", 3)))


@pytest.mark.parametrize(
    "case", rarely(["olmo2", "gpt_neox", "gpt2", "gemma2", "gpt_oss"], ["olmo2", "gpt_oss"])
)
def test_branches_are_whole_passes(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, case)
    made = batches(padded=True)
    every = ["zero_attention", "zero_mlp", "mean_value", "mean_residual"]
    options = {"head_layers": [0, 2], "every": every, "statistics": torch.float64, "at_once": 4}
    found = measure_effects(tmp_path, made, [PAIR], **options)  # type: ignore[arg-type]
    assert len(found.interventions) == 2 * (1 + 1 + 4 * 4 + 2 * 4)
    assert len(found.intervention_layers) == 5 * len(found.interventions)
    whole = {UNCHANGED: (), "pair": PAIR.changes}
    whole |= {f"{kind}-L1": (Intervention(kind, 1),) for kind in every}  # type: ignore[arg-type]
    whole["zero_head-L2H3"] = (Intervention("zero_head", 2, 3),)
    losses = {(r["domain"], r["intervention"]): r for r in found.interventions}
    layers = {(r["domain"], r["intervention"], r["layer"]): r for r in found.intervention_layers}
    for name, changes in whole.items():
        measured = measure_checkpoint_files(tmp_path, made, interventions=changes)
        for domain, loss in measured.losses.items():
            row = losses[domain, name]
            assert row["loss"] == pytest.approx(loss.mean, rel=2e-6)
            before = losses[domain, UNCHANGED]["loss"]
            assert row["loss_difference"] == pytest.approx(loss.mean - before, abs=2e-5)
            assert (row["loss_difference"] == 0) == (name == UNCHANGED)
            own = sorted(
                (r for r in measured.layers if r["domain"] == domain), key=lambda r: r["layer"]
            )
            for column in ("residual_norm_sink", "residual_ratio"):
                between = max(r[column] for r in own[1:-1])
                assert row[f"{column}_max"] == pytest.approx(between, rel=1e-4)
        for expected in measured.layers:
            row = layers[expected["domain"], name, expected["layer"]]
            for column in ("residual_norm_sink", "residual_norm_rest", "residual_ratio"):
                assert row[column] == pytest.approx(expected[column], rel=1e-4), (name, column)
            heads = [
                r
                for r in measured.heads
                if r["domain"] == expected["domain"] and r["layer"] == expected["layer"]
            ]
            if heads:
                weights = [r["sink_weight"] for r in heads]
                assert row["sink_weight"] == pytest.approx(sum(weights) / 4, rel=1e-4)
                assert row["sink_weight_max"] == pytest.approx(max(weights), rel=1e-4)
                ratios = [r["value_ratio"] for r in heads]
                assert row["value_ratio"] == pytest.approx(sum(ratios) / 4, rel=1e-4)
            else:
                assert row["sink_weight"] is row["value_ratio"] is None
    monkeypatch.setattr(effects, "HELD_BYTES", 50_000)
    in_parts = measure_effects(tmp_path, made, [PAIR], **options)  # type: ignore[arg-type]
    assert in_parts == found


def test_heads_are_ranked_by_gap_and_by_loss(tmp_path: Path) -> None:
    make(tmp_path, "llama")
    made = [batches()[0], batches(length=14)[1]]  # with floors of their own
    found = measure_effects(tmp_path, made, [], head_layers=None)
    assert len(found.head_effects) == 2 * 4 * 4
    measured = measure_checkpoint_files(tmp_path, made)
    heads = {(r["domain"], r["layer"], r["head"]): r for r in measured.heads}
    other = {"prose": "code", "code": "prose"}
    for domain in ("prose", "code"):
        mine = [r for r in found.head_effects if r["domain"] == domain]
        for row in mine:
            place = row["layer"], row["head"]
            here, there = heads[domain, *place], heads[other[domain], *place]
            for name in ("sink_weight", "sink_weight_floor", "sink_excess"):
                assert row[name] == pytest.approx(here[name], abs=1e-5), name
            gap = here["sink_excess"] - there["sink_excess"]
            assert row["domain_gap"] == pytest.approx(gap, abs=1e-5)
        by_loss = sorted(mine, key=lambda r: r["rank_loss"])
        assert [r["rank_loss"] for r in by_loss] == list(range(1, 17))
        differences = [r["loss_difference"] for r in by_loss]
        assert differences == sorted(differences, reverse=True)
        gaps = [abs(r["domain_gap"]) for r in sorted(mine, key=lambda r: r["rank_gap"])]
        assert gaps == sorted(gaps, reverse=True)
    alone = measure_effects(tmp_path, made[:1], [], head_layers=[1])
    assert {r["domain_gap"] for r in alone.head_effects} == {None}


def test_rows_fill_their_tables(tmp_path: Path) -> None:
    make(tmp_path, "olmo_hybrid")
    found = measure_effects(tmp_path, batches(), [], None, ["zero_attention"])
    named = {"trajectory", "step", "tokens"}
    origin = {"revision", "commit", "first_token", "batch", "dtype"}
    assert set(found.interventions[0]) | named | origin == set(INTERVENTIONS.schema.names)
    assert set(found.intervention_layers[0]) | named == set(INTERVENTION_LAYERS.schema.names)
    assert set(found.head_effects[0]) | named == set(HEAD_EFFECTS.schema.names)
    assert {r["layer"] for r in found.head_effects} == {3}, "the only block with attention"


def test_a_name_does_not_make_a_branch_part_of_the_ranking(tmp_path: Path) -> None:
    make(tmp_path, "llama")
    named = [
        Branch(
            "zero_head-pair", (Intervention("zero_head", 1, 0), Intervention("zero_head", 1, 1))
        ),
        Branch("zero_head-x", (Intervention("zero_mlp", 1),)),
    ]
    found = measure_effects(tmp_path, batches(), named, [1])
    assert found.head_effects == measure_effects(tmp_path, batches(), [], [1]).head_effects
    assert len(found.interventions) == 2 * (1 + 2 + 4)


def test_what_cannot_be_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "olmo_hybrid")
    for change, message in (
        (Intervention("zero_mlp", 9), "zero_mlp: no layer 9; there are 4"),
        (Intervention("zero_attention", 0), "layer 0 has no attention heads; those with are 3"),
        (Intervention("mean_value", 1), "layer 1 has no attention heads; those with are 3"),
        (Intervention("zero_head", 0, 99), "layer 0 has no attention heads; those with are 3"),
        (Intervention("head_to_sink", 3, 4), "at layer 3: no head 4; there are 4"),
    ):
        with pytest.raises(TrajectoryError, match=f"'x': intervention .*{message}"):
            measure_effects(tmp_path, batches(), [Branch("x", (change,))])
    with pytest.raises(TrajectoryError, match="layer 1 has no attention heads; those with are 3"):
        measure_effects(tmp_path, batches(), [], [1])
    twice = [Branch("x", (Intervention("zero_mlp", 0),))] * 2
    with pytest.raises(TrajectoryError, match="the name 'x' is given twice"):
        measure_effects(tmp_path, batches(), twice)
    swept = [Branch("zero_mlp-L0", (Intervention("zero_mlp", 0),))]
    monkeypatch.setattr(effects, "HELD_BYTES", 1)  # each branch a pass of its own
    with pytest.raises(TrajectoryError, match="the name 'zero_mlp-L0' is given twice; <kind>-L"):
        measure_effects(tmp_path, batches(), swept, [], ["zero_mlp"])
    with pytest.raises(TrajectoryError, match="'none' is the unchanged model's name"):
        measure_effects(tmp_path, batches(), [Branch(UNCHANGED, swept[0].changes)])
    with pytest.raises(TrajectoryError, match="none are given"):
        measure_effects(tmp_path, batches(), [])


def test_a_changed_model_without_a_finite_loss_is_named(tmp_path: Path) -> None:
    """A sink of norm zero cannot be scaled to the mean norm of the others."""
    make(tmp_path, "llama")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["model.embed_tokens.weight"][0] = 0  # the first token of every sequence
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(TrajectoryError, match="'mean_residual-L0', domain 'prose': the loss is na"):
        measure_effects(tmp_path, batches(), [], [], ["mean_residual"])
