from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trajectory.config import Config, LogSpaced, load, parse, resolve_steps
from trajectory.errors import TrajectoryError


def variant(**values: object) -> dict[str, object]:
    return {"name": "a", "results": "r", "bb": {"variants": {"x": values}}}


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        (variant(laers=2), ["bb.variants.x.laers: unknown key 'laers'; did you mean 'layers'?"]),
        (variant(layers="two"), ["bb.variants.x.layers: input should be a valid integer"]),
        (variant(record=[]), ["bb.variants.x.record: must not be empty"]),
        (
            {"fetch": {"timeout": 1e10}, **variant()},
            ["fetch.timeout: input should be less than or equal to 86400"],
        ),
        (variant(seeds=[]), ["bb.variants.x.seeds: must not be empty"]),
        (variant(seeds=[1, 1]), ["bb.variants.x: seeds: 1 is given twice"]),
        (variant(record=[5000]), ["bb.variants.x: step 5000 is beyond the run's 1000 steps"]),
        (variant(width=10, heads=3), ["bb.variants.x: width 10 is not divisible by heads 3"]),
        (
            variant(optimizer={"name": "sgd", "lrr": 1}),
            ["bb.variants.x.optimizer.lrr: unknown key 'lrr'; did you mean 'lr'?"],
        ),
        (variant(optimizer={"name": "sgdd"}), ["bb.variants.x.optimizer: input tag 'sgdd'"]),
        (
            {"name": "a", "results": "r", "suites": {"olmo2-9b": {}}},
            ["suites: unknown suite 'olmo2-9b'; did you mean 'olmo2-7b'? (a suite of your own"],
        ),
        (
            {"name": "a", "results": "r", "suites": {"nano-olmo": {"checkpoints": []}}},
            ["suites.nano-olmo.checkpoints: must not be empty"],
        ),
        (
            {"name": "a", "results": "r", "suites": {"olmo2-1b": {}}, "fetch": {"bandwidth": 0}},
            ["fetch.bandwidth: input should be greater than or equal to 1, found 0"],
        ),
        ({"results": "r", "bb": {"variants": {"x": {}}}}, ["name: is required"]),
        ({**variant(), "<": None}, ["<: unknown key '<'; known: alignment, bb"]),
        ({**variant(), "[key]": None}, ["[key]: unknown key '[key]'; known: alignment"]),
        (
            {"name": "a", "results": "r"},
            ["config: nothing to do: give bb.variants, suites or recorded"],
        ),
        (
            variant(layers="two", batch=0),
            ["bb.variants.x.layers: input", "bb.variants.x.batch: input should be greater"],
        ),
        (
            variant(optimizer={"name": "adamw", "betas": [1, 0.99]}),
            ["bb.variants.x.optimizer.betas.0: input should be less than 1, found 1"],
        ),
        (
            variant(optimizer={"lr": float("inf"), "name": "sgd"}),
            ["bb.variants.x.optimizer.lr: input should be a finite number, found inf"],
        ),
        (
            variant(interventions=[{"kind": "zero_mlp"}, {"kind": "zero_mlp", "layers": [0]}]),
            ["bb.variants.x: interventions: zero_mlp 0 is given twice"],
        ),
        (
            variant() | {"probe": {"interventions": {"heads": [0, 1, 0]}}},
            ["probe.interventions: heads: 0 is given twice"],
        ),
        (
            variant() | {"probe": {"domains": ["prose", "prose"]}},
            ["probe: domains: prose is given twice"],
        ),
        (
            variant() | {"probe": {"forces": {"heads": "some", "second_order": 3}}},
            [
                "probe.forces.heads: input should be 'lead' or 'all' or a list, found 'some'",
                "probe.forces.second_order: input should be 'all' or a list, found 3",
            ],
        ),
        (
            variant() | {"probe": {"forces": {"heads": [{"layer": "x", "head": 0}]}}},
            ["probe.forces.heads.0.layer: input should be a valid integer"],
        ),
        (["a"], ["should hold keys and values, found list"]),
        (
            {"name": "a", "results": "r", "bb": {"variants": {"x": None}}},
            ["bb.variants.x: should hold keys and values, found nothing; write {} for all"],
        ),
        (variant() | {"probe": 3}, ["probe: should hold keys and values, found 3"]),
        (variant() | {"results": None}, ["results: should be a path, found nothing"]),
        (variant(optimizer={"lr": 1}), ["bb.variants.x.optimizer: needs the key 'name', found {"]),
        (variant(optimizer="sgd"), ["bb.variants.x.optimizer: should hold keys and values, found"]),
        (variant(control="x"), ["bb: variants.x.control: is the variant itself"]),
        (
            {"name": "a", "results": "r", "bb": {"variants": {"X": {}}}},
            ["bb.variants.X: string should match pattern '^[a-z0-9][a-z0-9._-]*$', found 'X'"],
        ),
        (variant() | {"suites": {5: {}}}, ["suites: a suite's name must be text, found 5"]),
        (variant() | {"suites": {"m": {"like": 5}}}, ["suites.m.like: input should be a valid st"]),
        (
            variant() | {"suites": {"m": {"like": "nano-olmo"}}},
            ["suites: unknown suite 'nano-olmo'; 'trajectory suites' lists the known ones"],
        ),
        (variant() | {"results": "my results"}, ["results: ' ' in 'my results': commands carry"]),
        (variant() | {"results": 'a"b'}, ["results: '\"' in 'a\"b': commands carry this path"]),
        (variant() | {"results": "results/{x}"}, ["results: '{' in 'results/{x}': commands"]),
        (variant() | {"results": "-x"}, ["results: '-' in '-x': commands carry this path"]),
        (variant() | {"results": "s3://b/x"}, ["results: 's3:/b/x' is an address, not a path"]),
        (variant() | {"results": ""}, ["results: needs a folder of its own, found '.'"]),
        (variant() | {"results": "$NOT_SET/x"}, ["results: '$NOT_SET/x': a variable in it is not"]),
        (variant() | {"results": "~none/x"}, ["results: '~none/x': no such user has a home"]),
    ],
)
def test_each_mistake_is_one_line_that_names_file_and_key(values: object, lines: list[str]) -> None:
    with pytest.raises(TrajectoryError) as caught:
        parse(values, "my.yaml")
    found = str(caught.value).splitlines()
    assert len(found) == len(lines)
    for got, wanted in zip(found, lines, strict=True):
        assert got.startswith(f"my.yaml: {wanted}")


def test_paths_are_expanded_once_for_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    config = parse(
        {
            "name": "a",
            "results": "~/out",
            "bb": {"variants": {"x": {"task": {"text": "$SCRATCH/a text.txt"}}}},
            "suites": {"mine": {"folder": "${SCRATCH}/mine"}},
        }
    )
    assert config.results == Path("/home/me/out")
    assert config.variant("x").task.text == Path("/scratch/me/a text.txt")
    assert config.suites.suite("mine").folder == Path("/scratch/me/mine")
    assert parse(config.model_dump(mode="json", by_alias=True)) == config


def test_files_that_are_no_config_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(TrajectoryError, match=r"broken\.yaml: not YAML"):
        load(broken)
    with pytest.raises(TrajectoryError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_the_schema_in_the_repository_is_the_models(root: Path) -> None:
    shipped = json.loads((root / "workflow/schemas/config.schema.json").read_text())
    assert shipped == Config.model_json_schema(by_alias=True), (
        "run: trajectory config schema > workflow/schemas/config.schema.json"
    )


def configs(root: Path) -> list[Path]:
    return [root / "config.yaml", *sorted((root / "workflow/configs").glob("*.yaml"))]


def test_shipped_experiments_say_what_they_are_for(root: Path) -> None:
    silent = [
        f"{path.name}: {name}"
        for path in configs(root)
        for name, variant in load(path).bb.variants.items()
        if not variant.about
    ]
    assert not silent


def test_shipped_configs_fit_models_and_schema_and_write_to_folders_of_their_own(
    root: Path,
) -> None:
    schema = json.loads((root / "workflow/schemas/config.schema.json").read_text())
    found = [load(path) for path in configs(root)]
    for path in configs(root):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    nothing = {"name": "a", "results": "r", "suites": {"olmo2-1b": None, "nano-olmo": None}}
    jsonschema.validate(nothing, schema)
    assert parse(nothing).suites.names() == ["nano-olmo", "olmo2-1b"]
    assert len({config.results for config in found}) == len(found)
    assert len({config.name for config in found}) == len(found)


def test_the_resolved_config_means_the_same(root: Path) -> None:
    config = load(root / "config.yaml")
    assert parse(json.loads(config.model_dump_json(by_alias=True))) == config


@pytest.mark.parametrize(
    ("probe", "given", "wanted"),
    [
        ({}, {"olmo2-1b": None}, "raw"),
        ({"first_token": "eos_prepended"}, {"olmo2-1b": None}, "eos_prepended"),
        ({"first_token": "bos"}, {"olmo2-1b": {"loss": False}}, "bos"),
        ({"first_token": "bos"}, {"olmo2-1b": {"first_token": "raw"}}, "raw"),
        ({"first_token": "bos"}, {"olmo2-1b": {"first_token": None}}, None),
        ({}, {"mine": {"repository": "o/n"}}, None),
        ({"first_token": "bos"}, {"mine": {"repository": "o/n"}}, "bos"),
    ],
)
def test_a_first_token_is_the_suite_s_then_the_probe_s_then_the_registry_s(
    probe: dict, given: dict, wanted: str | None
) -> None:
    config = parse({"name": "a", "results": "r", "suites": given, "probe": probe})
    again = parse(config.model_dump(mode="json", by_alias=True))
    for read in (config, again):
        assert read.suites.suite(next(iter(given))).first_token == wanted
        assert read.probe.first_token == probe.get("first_token", "eos_prepended")


def test_every_key_is_described() -> None:
    def walk(node: object) -> None:
        if isinstance(node, dict):
            for name, child in node.get("properties", {}).items():
                assert "description" in child or "const" in child, name
                walk(child)
        if isinstance(node, dict | list):
            for child in node.values() if isinstance(node, dict) else node:
                walk(child)

    walk(Config.model_json_schema())


@given(st.integers(1, 500), st.integers(2, 80), st.integers(501, 100_000))
def test_log_spaced_steps(first: int, count: int, last: int) -> None:
    steps = resolve_steps(LogSpaced(first=first, count=count), last)
    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert steps[1] == first
    assert steps[-1] == last
    assert len(steps) <= count + 1
    # Neighbours further apart than rounding keep the common ratio.
    ratio = (last / first) ** (1 / (count - 1))
    for a, b in pairwise(steps[1:]):
        assert b - a <= a * (ratio - 1) + 0.5 * (1 + ratio) + 1


def test_held_trainings_are_known_by_their_groups(root: Path) -> None:
    causes = load(root / "workflow" / "configs" / "nano-causes.yaml")
    assert causes.held() == {
        f"nano-olmo-{name}{sham}"
        for name in ("value-held", "sink-forced")
        for sham in ("", "-sham")
    }
    toys = load(root / "config.yaml").held()
    assert "bb/drain-held" in toys and "bb/free" not in toys and "nano-olmo" not in toys
