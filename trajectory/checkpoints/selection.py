"""Which checkpoints are measured: chosen by a rule, pinned in a table that people can read.

The table is tab-separated text with a first line that names the settings it was made with. As long
as the config says the same, it decides what is measured; rows may be added or deleted by hand.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from trajectory.checkpoints.names import LONGEST, absent, is_plain
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import is_content
from trajectory.provenance import values_digest
from trajectory.rows import Row

COLUMNS = (
    *("suite", "revision", "commit", "trajectory", "stage", "ingredient", "step", "tokens"),
    *("bytes", "chosen", "verdict"),
)
_NUMBERS = {
    **dict.fromkeys(("stage", "ingredient"), "[0-9]{1,4}"),
    **dict.fromkeys(("step", "tokens", "bytes"), "[0-9]{1,18}"),
}
_HEAD = "# checkpoints of {suite}; settings {digest}; pinned: edit rows at will\n"

_DECIDING = {
    *("repository", "folder", "pattern", "counts", "tokens_per_step", "main_is", "known_bad"),
    *("stages", "select", "audit"),
}
"""What of a suite's settings decides its selection."""

_NEWER = {"stages_continue", "layout", "branch"}
"""What does so too, but for its default: what was pinned before there was the key stays pinned."""

NOT_PLAIN = (
    "revision '{}' cannot be named in commands: only letters, digits and @ % + = : , . _ - can, "
    f"not with . or - in front, at most {LONGEST}"
)


class Unselectable(TrajectoryError):
    """The rule cannot be followed.

    Attributes:
        rows: the manifest it was to choose from.
    """

    def __init__(self, message: str, rows: Sequence[Row]) -> None:
        super().__init__(message)
        self.rows = rows


def settings_digest(suite: Suite) -> str:
    """Twelve hex digits that change when a setting does that decides the selection."""
    deciding = suite.model_dump(mode="json", include=_DECIDING)
    deciding |= suite.model_dump(mode="json", include=_NEWER, exclude_defaults=True)
    return values_digest(deciding)


def select(name: str, suite: Suite, rows: Sequence[Row]) -> list[Row]:
    """Rows of the ``selection`` table that the config's rule chooses from a manifest.

    Raises Unselectable if the rule asks for what there is not, or nothing is left to choose.
    """
    try:
        chosen = _chosen(f"suite '{name}'", suite, rows)
    except TrajectoryError as error:
        raise Unselectable(str(error), rows) from None
    return [selected(row, "config") for row in sorted(chosen, key=in_order)]


def _chosen(where: str, suite: Suite, rows: Sequence[Row]) -> list[Row]:
    rule = suite.select
    known = {row["revision"] for row in rows}
    for key in ("include", "exclude"):
        for revision in getattr(rule, key):
            if revision not in known:
                raise TrajectoryError(f"{where}, select.{key}: it has {absent(revision, known)}")
    if rule.revisions is not None:
        chosen = _named(where, rule.revisions, rows)
    else:
        candidates = [row for row in rows if _unfit(row, suite) is None]
        if not candidates:
            why = Counter(_unfit(row, suite) for row in rows)
            raise TrajectoryError(
                f"{where}: no checkpoint is left to choose; of {len(rows)} revisions "
                + ", ".join(f"{count} {reason}" for reason, count in why.items())
            )
        chosen = [row for run in _by_run(candidates) for row in _by_rule(where, suite, run, rows)]
    return chosen if rule.budget is None else _within(where, suite, chosen)


def _unfit(row: Row, suite: Suite) -> str | None:
    """Why a rule cannot choose a revision; None if it can."""
    rule = suite.select
    if not is_plain(row["revision"]):
        return "have a name that commands cannot carry"
    if row["trajectory"] is None:
        return "have a name that states no step (see pattern, or name one in select.revisions)"
    if row["excluded"]:
        named = row["revision"] in rule.exclude
        return "are in select.exclude" if named else f"are excluded as {row['verdict']}"
    if (row["stage"] or 1) not in suite.stages:
        return f"belong to none of the stages {sorted(suite.stages)}"
    if row["step"] is None:
        return None  # a single checkpoint has no place among others
    if rule.first is not None and row["step"] < rule.first:
        return f"lie before select.first ({rule.first})"
    if rule.last is not None and row["step"] > rule.last:
        return f"lie after select.last ({rule.last})"
    return None


def in_bounds(row: Row, suite: Suite) -> bool:
    """Whether a checkpoint lies within the bounds of ``select.first`` and ``select.last``."""
    first, last = suite.select.first, suite.select.last
    if row["step"] is None:
        return first is None and last is None
    return (first is None or row["step"] >= first) and (last is None or row["step"] <= last)


def _by_run(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each trajectory."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row["trajectory"], []).append(row)
    return list(runs.values())


def selected(row: Row, chosen: str) -> Row:
    """A row of a manifest as a row of a selection."""
    return {**{key: row.get(key) for key in COLUMNS}, "chosen": chosen}


def in_order(row: Row) -> tuple[str, int, str]:
    """Sort key of a selection: trajectory by trajectory, in the order of training."""
    return row["trajectory"], -1 if row["step"] is None else row["step"], row["revision"]


def _named(where: str, revisions: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    known = {row["revision"]: row for row in rows}
    found = []
    for revision in dict.fromkeys(revisions):
        row = known.get(revision)
        if row is None:
            raise TrajectoryError(f"{where}: it has {absent(revision, known)}")
        _check_name(where, row)
        found.append(row)
    return _sound(where, found)


def _check_name(where: str, row: Row) -> None:
    if not is_plain(row["revision"]):
        raise TrajectoryError(f"{where}: {NOT_PLAIN.format(row['revision'])}")


def _sound(where: str, asked: Sequence[Row]) -> list[Row]:
    """Those of the checkpoints asked for that nothing excludes; the others are told at the end.

    Raises TrajectoryError if none is left.
    """
    sound = [row for row in asked if not row["excluded"]]
    if not sound:
        row = asked[0]
        raise TrajectoryError(
            f"{where}, revision '{row['revision']}': excluded ({row['reason'] or row['verdict']}), "
            "as is all else that select asks for; name it under select.include to measure it"
        )
    return sound


def asked_in_vain(suite: Suite, rows: Sequence[Row], chosen: Iterable[Row]) -> set[str]:
    """Revisions that the config asks for by name or step, and that the audit excludes.

    Args:
        suite: the suite's settings.
        rows: its manifest.
        chosen: its selection.
    """
    rule = suite.select
    there = {(row["trajectory"], row["step"]) for row in chosen}
    return {
        row["revision"]
        for row in rows
        if row["excluded"]
        and row["trajectory"] is not None
        and row["revision"] not in rule.exclude
        and (row["trajectory"], row["step"]) not in there
        and (
            row["revision"] in (rule.revisions or ())
            or (row["step"] in (rule.steps or ()) and (row["stage"] or 1) in suite.stages)
        )
    }


def _by_rule(where: str, suite: Suite, run: list[Row], rows: Sequence[Row]) -> list[Row]:
    rule = suite.select
    if run[0]["step"] is None:
        if rule.steps is not None:
            raise TrajectoryError(
                f"{where}, select.steps: its one checkpoint '{run[0]['revision']}' states no step; "
                "leave select out to measure it"
            )
        return run
    if rule.steps is not None:
        return _at_steps(where, rule.steps, run, rows)
    if rule.every is not None:
        return [row for n, row in enumerate(run) if n % rule.every == 0 or n == len(run) - 1]
    spaced = rule.log_spaced
    axis, count = (spaced.axis, spaced.count) if spaced else ("step", 24)
    return log_spaced(where, run, count, axis)


def _at_steps(where: str, steps: Sequence[int], run: list[Row], rows: Sequence[Row]) -> list[Row]:
    by_step = {row["step"]: row for row in run}
    found = []
    for step in dict.fromkeys(steps):
        if step in by_step:
            found.append(by_step[step])
            continue
        others = [
            row for row in rows if row["step"] == step and row["trajectory"] == run[0]["trajectory"]
        ]
        for row in others:
            _check_name(where, row)
        excluded = [row for row in others if row["excluded"]]
        if not excluded:
            near = sorted(by_step, key=lambda known: abs(known - step))[:2]
            raise TrajectoryError(
                f"{where}: there is no checkpoint at step {step}; the nearest are at "
                f"{' and '.join(map(str, sorted(near)))}"
            )
        found += excluded
    return _sound(where, found)


def log_spaced(where: str, run: Sequence[Row], count: int, axis: str = "step") -> list[Row]:
    """``count`` checkpoints evenly spaced in the logarithm, the first and the last included.

    Of several at zero, as rounded tokens can be, one is taken.
    Where several are wanted between two that exist, the widest gaps elsewhere are filled instead.
    Raises TrajectoryError if ``axis`` is tokens and they are not known.
    """
    if len(run) == 1:
        return list(run)
    unknown = [row["revision"] for row in run if row[axis] is None]
    if unknown:
        raise TrajectoryError(
            f"{where}: tokens of {len(unknown)} checkpoints are unknown, e.g. of {unknown[0]}; "
            "give tokens_per_step, or space by step"
        )
    ordered = sorted(run, key=lambda row: (row[axis], row["revision"]))
    if count >= len(ordered):
        return ordered
    if count == 1:
        return ordered[-1:]
    origin = [row for row in ordered if row[axis] == 0][:1]
    rest = [row for row in ordered if row[axis] > 0]
    wanted = min(count - len(origin), len(rest))
    if wanted == 0:
        return origin
    if wanted == 1:
        return [*origin, rest[-1]]
    at = [math.log(row[axis]) for row in rest]
    targets = [at[0] + (at[-1] - at[0]) * k / (wanted - 1) for k in range(wanted)]
    taken = {min(range(len(at)), key=lambda n: (abs(at[n] - target), n)) for target in targets}
    while len(taken) < wanted:
        left = [n for n in range(len(at)) if n not in taken]
        taken.add(max(left, key=lambda n: (min(abs(at[n] - at[k]) for k in taken), -n)))
    return [*origin, *(rest[n] for n in sorted(taken))]


def size_of(row: Row, suite: Suite) -> int | None:
    """Bytes of a checkpoint's weights: listed, else as the registry says."""
    size: int | None = row["bytes"] if row["bytes"] is not None else suite.bytes
    return size


def _within(where: str, suite: Suite, chosen: list[Row]) -> list[Row]:
    """The choice, each trajectory thinned evenly in the logarithm until all fit the budget."""
    budget = suite.select.budget
    assert budget is not None
    sizes = {row["revision"]: size_of(row, suite) or 0 for row in chosen}
    if any(size_of(row, suite) is None for row in chosen):
        raise TrajectoryError(f"{where}: sizes are unknown, so select.budget cannot be kept")

    def total(rows: Iterable[Row]) -> int:
        return sum(sizes[row["revision"]] for row in rows)

    runs = [[row for row in run if sizes[row["revision"]] <= budget] for run in _by_run(chosen)]
    counts = [len(run) for run in runs]
    least = [min((sizes[row["revision"]] for row in run), default=budget + 1) for run in runs]
    while all(counts):
        if sum(count * size for count, size in zip(counts, least, strict=True)) <= budget:
            thinned = [log_spaced(where, run, n) for run, n in zip(runs, counts, strict=True)]
            if sum(map(total, thinned)) <= budget:
                return [row for run in thinned for row in run]
        # One less of the trajectory that has kept most of its own; each keeps one to the last.
        kept = [(n > 1, n / len(run)) for run, n in zip(runs, counts, strict=True)]
        counts[kept.index(max(kept))] -= 1
    smallest = sum(min(sizes[row["revision"]] for row in run) for run in _by_run(chosen))
    each = (
        f"one of each of the {len(runs)} trajectories"
        if len(runs) > 1
        else "the smallest checkpoint"
    )
    raise TrajectoryError(
        f"{where}: {each} is {smallest:,} bytes, more than select.budget ({budget:,})"
    )


def write_selection(path: Path, name: str, suite: Suite, rows: Sequence[Row]) -> None:
    """Write a selection table, atomically."""
    from trajectory.tables import atomic

    text = io.StringIO()
    text.write(_HEAD.format(suite=name, digest=settings_digest(suite)))
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "" if value is None else value for key, value in row.items()} for row in rows
    )
    with atomic(path) as handle:
        handle.write(text.getvalue().encode())


def read_selection(path: Path) -> list[Row]:
    """A selection table's rows; TrajectoryError naming line and column of a mistake."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(f"{path}: cannot be read ({error})") from None
    body = [(n, line) for n, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not body or body[0][1].split("\t") != list(COLUMNS):
        raise TrajectoryError(f"{path}: should begin with the columns {', '.join(COLUMNS)}")
    rows: list[Row] = []
    revisions: set[str] = set()
    for n, line in body[1:]:
        values = line.split("\t")
        if len(values) != len(COLUMNS):
            raise TrajectoryError(f"{path}, line {n}: {len(values)} columns, not {len(COLUMNS)}")
        row: Row = {}
        for key, value in zip(COLUMNS, values, strict=True):
            if key in _NUMBERS and value and not re.fullmatch(_NUMBERS[key], value):
                raise TrajectoryError(f"{path}, line {n}: {key} '{value}' is not a number")
            row[key] = (int(value) if key in _NUMBERS else value) if value else None
        absent = [k for k in ("suite", "revision", "commit", "trajectory") if not row[k]]
        if absent:
            raise TrajectoryError(f"{path}, line {n}: {absent[0]} is empty")
        if row["revision"] in revisions:
            raise TrajectoryError(f"{path}, line {n}: revision '{row['revision']}' occurs twice")
        revisions.add(row["revision"])
        if not is_plain(row["revision"]):
            raise TrajectoryError(f"{path}, line {n}: {NOT_PLAIN.format(row['revision'])}")
        if not is_content(row["commit"]):
            raise TrajectoryError(
                f"{path}, line {n}: commit '{row['commit']}' is neither 40 hex digits (with "
                "a repository or folder, where there is one) nor sha256: and 64; take it from the "
                "suite's manifest"
            )
        rows.append(row)
    _check_steps(path, rows)
    return rows


def _check_steps(path: Path, rows: Sequence[Row]) -> None:
    """Raise TrajectoryError for an empty step beside other checkpoints of its trajectory, or for
    two checkpoints of one step."""
    sizes = Counter(row["trajectory"] for row in rows)
    first: dict[tuple[str, int | None], str] = {}
    for row in rows:
        same = first.setdefault((row["trajectory"], row["step"]), row["revision"])
        if row["step"] is not None and same != row["revision"]:
            raise TrajectoryError(
                f"{path}: revisions '{same}' and '{row['revision']}' are both step {row['step']} "
                f"of '{row['trajectory']}'; remove one row"
            )
        if row["step"] is None and sizes[row["trajectory"]] > 1:
            raise TrajectoryError(
                f"{path}: revision '{row['revision']}': step is empty, and '{row['trajectory']}' "
                "has other checkpoints"
            )


def is_pinned(path: Path, suite: Suite) -> bool:
    """Whether there is a selection table that was made with these settings."""
    try:
        with path.open(encoding="utf-8") as handle:
            head = handle.readline()
    except (OSError, UnicodeDecodeError):
        return False
    return f"settings {settings_digest(suite)};" in head
