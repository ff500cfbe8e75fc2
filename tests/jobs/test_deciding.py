"""What decides a row: every key of the config is accounted for, by the rule and by the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trajectory.checkpoints.selection import settings_digest
from trajectory.config import Config, parse
from trajectory.config.probe import Probe
from trajectory.config.suites import Suite
from trajectory.jobs.deciding import (
    FORCES,
    INTERVENE,
    MEASURE,
    Kind,
    decided_digest,
    probe_of,
    row_key,
)

KINDS = {"measure": MEASURE, "intervene": INTERVENE, "forces": FORCES}
ROW = {
    **{"suite": "s", "revision": "r", "commit": "c", "trajectory": "t", "step": 20, "tokens": 2000},
    **{"verdict": "good", "learning_rate": 0.1, "integrated_learning_rate": 1.0, "chosen": "hand"},
}
PROBE: dict[str, Any] = {
    "prompts": {"p": ["a b"]},
    "interventions": {"every": ["zero_mlp"]},
    "forces": {},
}
# One other value of every key.
OTHER_PROBE: dict[str, Any] = {
    "domains": ["prose"],
    "texts": {"more": "more.txt"},
    "parquet": {"more": {"source": "more.parquet"}},
    "prompts": {"p": ["c d"]},
    "sequences": 32,
    "length": 128,
    "first_token": "raw",
    "device": "cuda",
    "dtype": "bfloat16",
    "statistics": "float32",
    "threads": 2,
    "rounded_loss": True,
    "interventions": {"every": ["zero_attention"]},
    "forces": {"first_late": 17},
}
OTHER_SUITE: dict[str, Any] = {
    "like": "olmo2-1b",
    "repository": "c/d",
    "layout": "commits",
    "branch": "a-run",
    "folder": "elsewhere",
    "family": {"sizes": ["10M"]},
    "facets": {"size": "10M", "seed": "1"},
    "model_type": "llama",
    "parameters": 10,
    "architecture": {"layers": 3},
    "dtype": "bfloat16",
    "bytes": 100,
    "files": 3,
    "pattern": r"s(?P<step>\d+)",
    "counts": "checkpoints",
    "tokens_per_step": 7,
    "published": 3,
    "spacing": 10,
    "first_token": "raw",
    "schedule": {"warmup_steps": 10, "peak_learning_rate": 0.1},
    "main": "the last",
    "main_is": ["step10"],
    "known_bad": [{"steps": [3], "reason": "bad"}],
    "missing": [{"steps": [4]}],
    "licence": "MIT",
    "needs": "a patient",
    "note": "a note",
    "source": "a paper",
    "stages": [1, 2],
    "stages_continue": True,
    "select": {"every": 2},
    "audit": "none",
    "weights": "stream",
    "loss": False,
}


def run(probe: Mapping[str, Any] | None = None, suite: Suite | None = None) -> Config:
    suites = {"s": {"repository": "a/b"}}
    found = parse(
        {"name": "a", "results": "r", "suites": suites, "probe": {**PROBE, **(probe or {})}}
    )
    if suite is not None:
        assert found.suites.__pydantic_extra__ is not None
        found.suites.__pydantic_extra__["s"] = suite
    return found


def rule(kind: Kind, config: Config) -> str:
    """What the rule sees; its batches are a file made by another."""
    return decided_digest(kind, config, "s", ROW)


def command(kind: Kind, config: Config) -> str:
    return row_key(kind, config, "s", ROW, "batches")


def changed(config: Config) -> set[str]:
    """Kinds of jobs whose rows are others than those of the plain run, by both sides."""
    plain = run()
    by_rule = {name for name, kind in KINDS.items() if rule(kind, config) != rule(kind, plain)}
    by_command = {n for n, kind in KINDS.items() if command(kind, config) != command(kind, plain)}
    assert by_rule == by_command
    return by_rule


def batches_of(config: Config) -> Any:
    return probe_of(config, "s").of_batches()


@pytest.mark.parametrize("key", Probe.model_fields)
def test_every_key_of_the_probe_decides_batches_or_rows(key: str) -> None:
    other = run({key: OTHER_PROBE[key]})
    if batches_of(other) != batches_of(run()):
        assert changed(other) == set()
        return
    own = {"interventions": {"intervene"}, "forces": {"forces"}, "rounded_loss": {"measure"}}
    assert changed(other) == own.get(key, set(KINDS))


@pytest.mark.parametrize("key", Suite.model_fields)
def test_every_key_of_a_suite_decides_what_is_listed_batches_rows_or_nothing(key: str) -> None:
    before = Suite(repository="a/b")
    other = before.model_copy(update={key: getattr(_suite(key), key)})
    assert getattr(other, key) != getattr(before, key)
    config = run(suite=other)
    found = changed(config)
    if key == "loss":
        assert found == {"measure"}
    else:
        assert found == set()
    told = {*("family", "parameters", "architecture", "dtype", "bytes", "files", "published"),
            *("spacing", "main", "missing", "licence", "needs", "note", "source", "weights"),
            *("like", "schedule", "facets", "model_type")}  # fmt: skip
    decides = {
        "listing": settings_digest(other) != settings_digest(before),
        "batches": batches_of(config) != batches_of(run()),
        "rows": bool(found),
        "nothing, or a listed column": key in told,
    }
    assert sum(decides.values()) == 1, decides


def _suite(key: str) -> Suite:
    place = {} if key in ("folder", "repository") else {"repository": "a/b"}
    if key == "branch":
        place["layout"] = "folders"
    return Suite.model_validate({**place, key: OTHER_SUITE[key]})


def test_a_key_that_nobody_has_thought_of_decides_rows() -> None:
    """Or a new setting would leave the tables of before standing."""

    class NewProbe(Probe):
        shortcut: bool = False
        """Not there yet."""

    class NewSuite(Suite):
        rounded: bool = False
        """Not there yet."""

    new, before = (
        run().model_copy(update={"probe": NewProbe.model_validate({**PROBE, "shortcut": on})})
        for on in (True, False)
    )
    for kind in KINDS.values():
        assert rule(kind, new) != rule(kind, before)
        assert command(kind, new) != command(kind, before)
    new = run(suite=NewSuite(repository="a/b", rounded=True))
    before = run(suite=NewSuite(repository="a/b"))
    for kind in KINDS.values():
        assert rule(kind, new) != rule(kind, before)
        assert command(kind, new) != command(kind, before)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_listed_column_that_tables_take_changes_both(kind: Kind) -> None:
    def seen(row: Mapping[str, Any]) -> tuple[str, str]:
        return decided_digest(kind, run(), "s", row), row_key(kind, run(), "s", row, "b")

    before = seen(ROW)
    for name in ROW:
        now = seen({**ROW, name: "other"})
        differs = [a != b for a, b in zip(now, before, strict=True)]
        assert differs == [name in kind.columns] * 2


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_code_and_batches_change_the_key(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run()
    before = decided_digest(kind, config, "s", ROW), row_key(kind, config, "s", ROW, "a")
    assert row_key(kind, config, "s", ROW, "b") != before[1]
    monkeypatch.setattr("trajectory.jobs.deciding.code_digest", lambda module: f"new {module}")
    after = decided_digest(kind, config, "s", ROW), row_key(kind, config, "s", ROW, "a")
    assert all(a != b for a, b in zip(after, before, strict=True))


def test_rules_take_what_decides_from_here_alone(root: Path) -> None:
    for name in ("measure", "interventions", "forces"):
        text = (root / f"workflow/rules/{name}.smk").read_text()
        assert "decided=lambda wildcards: decided(" in text
        for old in ("of_compute", "MEASURED_FROM", "CHANGED_FROM", "listed_digest"):
            assert old not in text
