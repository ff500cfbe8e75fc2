"""What a run's config trains and measures: tables of *Overview*."""

from __future__ import annotations

from trajectory.config import Config, NanoOlmo, Suite, Variant
from trajectory.config.suites import LogSpacedCheckpoints
from trajectory.report.names import ATTENTIONS, OPTIMISERS
from trajectory.report.page import Cell, Grid

VARIANTS = ("variant", "attention", "layers", "width", "length", "batch", "steps", "optimiser",
            "learning rate", "seeds")  # fmt: skip
SUITES = ("suite", "layers", "width", "length", "batch", "steps", "optimiser", "learning rate",
          "checkpoints")  # fmt: skip


def grids(config: Config) -> list[Grid]:
    """A table of the Bigram-Backcopy variants and one of the suites, where there are any."""
    toy = [_variant(name, variant) for name, variant in config.bb.variants.items()]
    found = []
    if toy:
        title = "Bigram-Backcopy transformers"
        found.append(Grid("configured-variants", VARIANTS, toy, title=title, fold=14))
    suites = [_public(name, suite) for name, suite in config.suites.public().items()]
    own = [_nano(name, suite) for name, suite in config.suites.embedded().items()]
    suites = [*own, *suites]
    if suites:
        title = "Language models"
        found.append(Grid("configured-suites", SUITES, suites, title=title, fold=14))
    return found


def _variant(name: str, variant: Variant) -> list[str | Cell]:
    return [
        f"bb/{name}",
        ATTENTIONS.get(variant.attention, (variant.attention.replace("_", " "),))[0],
        *map(_number, (variant.layers, variant.width, variant.task.length, variant.batch)),
        _number(variant.steps),
        OPTIMISERS.get(variant.optimizer.name, variant.optimizer.name),
        _number(variant.optimizer.lr),
        ", ".join(map(str, variant.seeds)),
    ]


def _nano(name: str, suite: NanoOlmo) -> list[str | Cell]:
    return [
        name,
        *map(_number, (suite.layers, suite.width, suite.length, suite.batch, suite.steps)),
        OPTIMISERS["adamw"],
        _number(suite.lr),
        f"{len(suite.checkpoint_steps())}, all measured",
    ]


def _public(name: str, suite: Suite) -> list[str | Cell]:
    sizes, schedule = suite.architecture, suite.schedule
    known = (sizes.layers, sizes.width, sizes.context) if sizes else (None, None, None)
    rate = schedule.peak_learning_rate if schedule else None
    return [
        name,
        *map(_number, (*known, None, None)),
        "—",
        _number(rate),
        Cell(_rule(suite), "long"),
    ]


def _rule(suite: Suite) -> str:
    """Which checkpoints are measured, in words."""
    select = suite.select
    if select.steps:
        rule = f"{len(select.steps)} listed steps"
    elif select.revisions:
        rule = f"{len(select.revisions)} listed revisions"
    elif select.every:
        rule = f"each {select.every}th and the last"
    else:
        spaced = select.log_spaced or LogSpacedCheckpoints()
        rule = f"{spaced.count}, log-spaced in {'steps' if spaced.axis == 'step' else spaced.axis}"
    bounds = [
        f"{side} step {step:,}"
        for side, step in (("from", select.first), ("to", select.last))
        if step is not None
    ]
    budget = [f"at most {select.budget / 1e9:,.1f} GB of weights"] if select.budget else []
    return ", ".join([rule, *bounds, *budget])


def _number(value: float | None) -> Cell:
    if value is None:
        return Cell("—", "number")
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:g}", "number")
