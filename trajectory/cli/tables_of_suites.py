"""What the commands about suites print."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from trajectory.checkpoints.audit import without_untrained
from trajectory.checkpoints.narrow import Narrowed
from trajectory.cli.printing import console, show
from trajectory.config import Config
from trajectory.config.families import AXES, Family
from trajectory.config.nano import NanoOlmo
from trajectory.config.suites import Suite
from trajectory.costs.plan import RunPlan, SuitePlan
from trajectory.jobs.outcomes import UNLISTED, left_out, missing
from trajectory.rows import Row

MOST_ROWS = 40
"""Rows printed of a long list."""


def gigabytes(size: int | None) -> str:
    """Bytes as decimal gigabytes, or as megabytes where those would be 0.0; ? if not known."""
    if size is not None and 0 < size < 5e7:
        return f"{size / 1e6:,.1f} MB"
    return "?" if size is None else f"{size / 1e9:,.1f} GB"


def registry_table(known: dict[str, dict[str, Any]]) -> None:
    """Print every suite of the registry; those that differ in size, seed, language or mixture only,
    on one line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, entry in known.items():
        suite = Suite.model_validate(entry)
        remark = "not measurable: see show" if suite.needs else ""
        if suite.known_bad:
            remark = "has known-bad revisions"
        if suite.family:
            remark = f"a family: {_counted(suite.family)}"
        owner = (suite.repository or "several").split("/", maxsplit=1)[0]
        facts = (owner, suite.model_type or "?", gigabytes(suite.bytes), suite.dtype or "?", remark)
        alike.setdefault((_SIZE_OR_SEED.sub(_blank, name), *facts), []).append(name)
    rows = [(line, *facts) for (_, *facts), names in alike.items() for line in _lines(names)]
    kept = ("suite", "model_type", "each", "remark")
    show(("suite", "by", "model_type", "each", "dtype", "remark"), rows, narrow=kept)
    print(
        "Braces stand for several names, as in a shell: a-{1b,7b} is a-1b and a-7b. 'trajectory "
        "suites show NAME' explains one. nano-olmo is pretrained by the workflow."
    )


def _counted(family: Family) -> str:
    """How many there are of what its runs differ in."""
    found = ((key, family.listed(key)) for key in AXES)
    return " × ".join(f"{len(values)} {key}" for key, values in found if values)


_SIZE_OR_SEED = re.compile(
    r"(?<=-)\d+(?:\.\d+)?[mb](?=-|$)|(?<=-seed)\d+|(?<=^hplt2c-)[a-z]+$|(?<=-)\d\d-\d\d$"
)
"""Size, number of a seed, language, or shares of a mixture in a suite's name."""

MOST_NAMES = 10
"""Names that a line's braces stand for, where they are no row of numbers."""


def _blank(_: re.Match[str]) -> str:
    return "*"


def _lines(names: Sequence[str]) -> list[str]:
    """Names that differ in one way, a few on each line."""
    whole = braced(names)
    if ".." in whole or "{" not in whole:
        return [whole]
    return [braced(names[n : n + MOST_NAMES]) for n in range(0, len(names), MOST_NAMES)]


def braced(names: Sequence[str]) -> str:
    """Names that differ in such parts only as one, 'a-{1b,7b}-seed{1..9}'; several where not
    every combination is there."""
    parts = [_SIZE_OR_SEED.findall(name) for name in names]
    choices = [list(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
    if len(names) == 1 or math.prod(map(len, choices)) != len(names):
        return ", ".join(names)
    choice = iter(choices)
    return _SIZE_OR_SEED.sub(lambda _: _brace(next(choice)), names[0])


def _brace(choices: Sequence[str]) -> str:
    if len(choices) == 1:
        return choices[0]
    if all(c.isdigit() for c in choices):
        numbers = [int(c) for c in choices]
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{{{numbers[0]}..{numbers[-1]}}}"
    return f"{{{','.join(choices)}}}"


def suite_table(name: str, suite: Suite | NanoOlmo) -> None:
    """Print all that is known of one suite, and name what is not."""
    grid = Table(show_header=False, box=None, title=name, title_justify="left")
    unknown = []
    for key in type(suite).model_fields:
        value = getattr(suite, key)
        if key in ("like", "needs") and value is None:
            continue
        if value is None or value == []:
            unknown.append(key)
            continue
        grid.add_row(key, _text(key, value))
    console().print(grid)
    if unknown:
        print(f"Unknown or empty: {', '.join(unknown)}. Keys are explained in docs/config.md.")


def _text(key: str, value: Any) -> str:
    if key == "bytes":
        return gigabytes(value)
    if isinstance(value, Family):
        found = ((axis, value.listed(axis)) for axis in AXES)
        return "\n".join(f"{axis}: {', '.join(values)}" for axis, values in found if values)
    if hasattr(value, "model_dump"):
        return _pairs(value.model_dump(exclude_none=True, exclude_defaults=True)) or "default"
    if isinstance(value, list):
        return "\n".join(_text("", item) for item in value)
    return str(value)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_pairs(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def audit_table(name: str, rows: Sequence[Row], chosen: Sequence[Row]) -> None:
    """Print what an audit found: verdicts, holes, and what was chosen."""
    verdicts = Counter(row["verdict"] for row in rows)
    print(f"{name}: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    holes = sum(row["missing_before"] or 0 for row in rows)
    if holes:
        print(f"{name}: {holes} checkpoints are missing at the usual spacing")
    suspects = [
        row for row in rows if row["trajectory"] is not None and (row["excluded"] or row["reason"])
    ]
    if suspects:
        unusual = [
            (r["revision"], "yes" if r["excluded"] else "no", r["verdict"], r["reason"] or "")
            for r in suspects[:MOST_ROWS]
        ]
        show(("suspect", "excluded", "verdict", "reason"), unusual)
        if len(suspects) > MOST_ROWS:
            print(f"and {len(suspects) - MOST_ROWS} more: see the manifest")
    for run, why in without_untrained(rows, chosen).items():
        print(f"{run}: no untrained checkpoint ({why}), so its null of step 0 is missing")
    sizes = [row["bytes"] for row in chosen]
    total = gigabytes(sum(sizes)) if None not in sizes else "size unknown"
    print(f"{name}: {len(chosen)} checkpoints chosen, {total}")


def outcome_table(
    rows: Sequence[Row], changed: int, unchanged: Sequence[Row], retried: bool
) -> None:
    """Print what is missing from a run and why.

    Args:
        rows: of ``outcomes``.
        changed: checkpoints that were to be run with parts taken away.
        unchanged: rows of ``bundle`` of those that could not be.
        retried: whether the next run tries again what failed.
    """
    absent, excluded = missing(rows), left_out(rows)
    measured = sum(1 for row in rows if row["status"] == "measured")
    unlisted = [row for row in absent if row["revision"] == UNLISTED]
    selected = measured + len(absent) - len(unlisted)
    print(f"{measured} of {selected} selected checkpoints are in the tables.")
    if changed:
        print(f"{changed - len(unchanged)} of {changed} have their interventions in the tables.")
    if unlisted:
        suites = ", ".join(row["suite"] for row in unlisted)
        print(f"Left out, because it could not be listed or chosen from: {suites}.")
    if excluded:
        print(f"The audit excluded {len(excluded)} revisions: see the report, or the manifests.")
    if not absent and not unchanged:
        return
    lines = [(r["suite"], r["revision"], r["error"], r["reason"]) for r in absent]
    lines += [
        (r["suite"], f"{r['revision']}, interventions", r["error"], r["reason"]) for r in unchanged
    ]
    show(("suite", "missing", "why", "reason"), [[text or "" for text in row] for row in lines])
    if retried or unlisted:
        print("Run the same command again to retry temporary failures.")


def plan_table(plans: Sequence[SuitePlan], config: Config, flops: float) -> None:
    """Print what each suite will cost."""
    head = (
        *("suite", "checkpoints", "changed models", "to fetch", "disk at once", "memory per job"),
        *("fetching", "computing", "sizes from"),
    )
    rows = [
        (
            found.name,
            "?" if found.checkpoints is None else str(found.checkpoints),
            _changed(found),
            gigabytes(found.transfer),
            gigabytes(found.disk),
            gigabytes(found.memory),
            duration(found.fetching),
            duration(found.computing),
            _SOURCES[found.source],
        )
        for found in plans
    ]
    show(head, rows)
    print(
        f"Estimates: {config.fetch.bandwidth / 1e6:,.0f} MB/s (fetch.bandwidth), "
        f"{flops / 1e9:,.0f} GFLOP/s a thread, float32, one job at a time; good to a factor of two."
    )
    if any(found.source == "registry" for found in plans):
        print("'trajectory suites pin' lists and audits first, and fetches no weights.")


_SOURCES = {
    "selection": "its pinned selection",
    "folder": "its folder: not listed yet",
    "registry": "the registry: not listed yet",
}


def _changed(found: SuitePlan) -> str:
    """Checkpoints with parts taken away, times the models that are made of each."""
    if found.changed == 0:
        return "none"
    count, models = ("?" if n is None else f"{n:,}" for n in (found.changed, found.models))
    return f"{count} × {models}"


def run_summary(found: RunPlan, jobs: int) -> None:
    """Print what the whole run will cost."""
    counted = ", ".join(f"{count:,} {rule}" for rule, count in found.jobs.items())
    hours = None if found.hours is None else found.hours * 3600
    longest = None if found.longest is None else found.longest * 3600
    print(f"Jobs: {counted or 'none that train or measure'}, and a few that gather and report.")
    print(f"Time of jobs: {duration(hours)} in total; longest job {duration(longest)}.")
    if hours is not None and longest is not None:
        print(f"With {jobs} jobs at once: at least {duration(max(longest, hours / jobs))}.")
    print(
        f"To fetch: {gigabytes(found.transfer)}; weights on disk at once: {gigabytes(found.disk)}."
    )


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "?"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def densify_table(found: Narrowed) -> None:
    """Print what was added to a selection, and what it is expected to bring."""
    if not found.added:
        print("No checkpoint within the budget lies inside an onset interval.")
        return
    grid = Table("added", "step", "bytes", box=None)
    for row in found.added:
        grid.add_row(row["revision"], f"{row['step']:,}", gigabytes(row["bytes"]))
    console().print(grid)
    print(
        f"{found.path}: {len(found.added)} checkpoints added, "
        f"{gigabytes(sum(row['bytes'] or 0 for row in found.added))}. The onset intervals of "
        f"{found.onsets} heads span a factor of {found.before:.2f} on average, expected after "
        f"this: {found.after:.2f}."
    )
