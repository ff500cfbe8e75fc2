"""Manifests: which revisions a suite has, pinned to their content, and what their names state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from trajectory.checkpoints.names import RevisionName, parse_revision
from trajectory.checkpoints.schedule import learning_rates
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import Revision, local_revision, weight_files, weights_digest
from trajectory.outside import json_file
from trajectory.rows import Row

TRAINING_STATE = "training_state.json"

SIZES = {
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "width": ("hidden_size", "n_embd"),
    "mlp": ("moe_intermediate_size", "intermediate_size", "n_inner"),
    "vocabulary": ("vocab_size",),
}
"""The manifest's columns of a model's sizes, and the keys of config.json that state them: the
first that is there: of experts one's width, and the last ones are GPT-2's."""


def manifest_rows(name: str, suite: Suite, revisions: Iterable[Revision]) -> list[Row]:
    """Rows of the ``manifest`` table, unaudited, in the order of training.

    Args:
        name: the suite's name.
        suite: how its revisions are named and how many tokens a step has.
        revisions: its branches; of each, files are described where they are known.

    Raises:
        TrajectoryError: if the suite's pattern finds no numbers in a name.
    """
    rows = [_row(name, suite, revision) for revision in revisions]
    _name_single(name, suite, rows)
    rows.sort(key=_in_order)
    _count_missing(rows, suite.spacing)
    return rows


def _name_single(name: str, suite: Suite, rows: Sequence[Row]) -> None:
    """Make trajectories of one record of what is measured though its name states no step.

    That is what ``select.revisions`` names, and a revision that is a suite's only one.
    """
    asked = suite.select.revisions
    if asked is None:
        asked = [row["revision"] for row in rows] if len(rows) == 1 else []
    alone = len(asked) == 1 and all(row["trajectory"] is None for row in rows)
    for row in rows:
        if row["step"] is None and row["revision"] in asked:
            row |= {
                "trajectory": name if alone else f"{name}/{row['revision']}",
                "verdict": "unaudited",
                "reason": None,
                "excluded": False,
            }


def _in_order(row: Row) -> tuple[Any, ...]:
    named = row["step"] is not None
    return (not named, row["stage"] or 1, row["ingredient"] or 0, row["step"] or 0, row["revision"])


def _row(name: str, suite: Suite, revision: Revision) -> Row:
    # A name with a slash would be a folder within a folder.
    try:
        parsed = None if "/" in revision.name else parse_revision(revision.name, suite.pattern)
    except TrajectoryError as error:
        raise TrajectoryError(f"suite '{name}': {error}") from None
    tokens, source = _tokens(suite, parsed)
    rate, integrated = learning_rates(suite, parsed.stage, parsed.step) if parsed else (None, None)
    described = describe_files(revision)
    verdict, reason = ("unaudited", None)
    if parsed is None:
        verdict = "not_a_checkpoint"
        reason = (
            f"main: {suite.main or 'not known to be a step'}"
            if revision.name == "main"
            else ("its name states no step")
        )
    return {
        "suite": name,
        "revision": revision.name,
        "commit": revision.commit,
        "trajectory": parsed.trajectory(name, suite.stages_continue) if parsed else None,
        "stage": parsed.stage if parsed else None,
        "ingredient": parsed.ingredient if parsed else None,
        "step": parsed.step if parsed else None,
        "tokens": tokens,
        "tokens_from": source,
        **described,
        "config": None,
        "dtype": None,
        **dict.fromkeys(SIZES),
        "learning_rate": rate,
        "integrated_learning_rate": integrated,
        "missing_before": None,
        "verdict": verdict,
        "reason": reason,
        "same_as": None,
        "link": None,
        "excluded": parsed is None,
    }


def describe_files(revision: Revision) -> Row:
    """The manifest's columns about weight files; empty where nobody has looked."""
    if revision.files is None:
        return {"bytes": None, "files": None, "weights": None}
    weights = weight_files(revision.files)
    return {
        "bytes": sum(file.size for file in weights) if weights else None,
        "files": len(weights),
        "weights": weights_digest(revision.files),
    }


def _tokens(suite: Suite, parsed: RevisionName | None) -> tuple[int | None, str | None]:
    """Training tokens, and whence; nothing where neither the suite nor the name says them."""
    if parsed is None:
        return None, None
    per_step = suite.tokens_per_step_of(parsed.stage) if suite.counts == "steps" else None
    if per_step is not None:
        exact = min(parsed.step * per_step, (1 << 63) - 1)
        # Names round up, down or to the nearest, by family and even within one.
        if parsed.tokens is None or abs(exact - parsed.tokens) <= parsed.unit:
            return exact, "steps"
    return (parsed.tokens, "name") if parsed.tokens is not None else (None, None)


def _count_missing(rows: list[Row], spacing: int | None) -> None:
    """Fill in ``missing_before``: multiples of the usual spacing that no revision has."""
    steps: dict[str, list[Row]] = {}
    for row in rows:
        if row["trajectory"] is not None:
            steps.setdefault(row["trajectory"], []).append(row)
    for found in steps.values():
        usual = spacing or _usual([row["step"] for row in found])
        if usual is None:
            continue
        for before, row in pairwise(found):
            between = (row["step"] - 1) // usual - before["step"] // usual
            row["missing_before"] = max(0, between) if between < 1 << 31 else None


def _usual(steps: Sequence[int]) -> int | None:
    """The distance that most neighbours have; None if fewer than half do."""
    distances = Counter(b - a for a, b in pairwise(steps) if b > a)
    if not distances:
        return None
    distance, count = distances.most_common(1)[0]
    return distance if 2 * count >= sum(distances.values()) else None


def list_embedded(suite: str, folder: Path, revisions: Sequence[str]) -> list[Row]:
    """Rows of the ``manifest`` table for the revisions that the workflow pretrained itself.

    Args:
        suite: the suite's name.
        folder: holds one folder per revision.
        revisions: the revisions that must be there.

    Raises:
        TrajectoryError: if a revision is missing, incomplete or says another step than its name.
    """
    rows = []
    for revision in revisions:
        where = f"suite '{suite}', revision '{revision}'"
        try:
            state = _training_state(folder / revision / TRAINING_STATE)
            listed = local_revision(folder / revision)
        except (OSError, ValueError) as error:
            raise TrajectoryError(
                f"{where}: incomplete ({error}); delete {folder} and run again"
            ) from None
        (row,) = manifest_rows(suite, Suite(folder=folder), [listed])
        if row["step"] is None:
            raise TrajectoryError(f"{where}: not a name of the form stage<n>-step<n>")
        if state["step"] != row["step"]:
            raise TrajectoryError(f"{where}: its training state says step {state['step']}")
        if not row["files"]:
            raise TrajectoryError(
                f"{where}: incomplete (no weights); delete {folder} and run again"
            )
        rows.append(
            {
                **row,
                "tokens": state["tokens"],
                "tokens_from": "counted",
                "learning_rate": state["learning_rate"],
                "integrated_learning_rate": state["integrated_learning_rate"],
                "verdict": "good",
            }
        )
    return rows


def _training_state(path: Path) -> dict[str, Any]:
    """How far a revision of the embedded suite was trained.

    Raises OSError or ValueError if its file cannot be read, or says something else.
    """
    state = json_file(path)
    for key in ("step", "tokens", "learning_rate", "integrated_learning_rate"):
        value: Any = state.get(key)
        kinds = (int,) if key in ("step", "tokens") else (int, float)
        if type(value) not in kinds or not 0 <= value < 1 << 63:
            raise ValueError(f"{path.name}: {key} is {value!r:.40}")
    return state
