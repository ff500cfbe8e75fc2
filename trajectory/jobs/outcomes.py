"""What became of every checkpoint of a run, and what is missing from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.pinned import paths, read_unpinned
from trajectory.checkpoints.selection import asked_in_vain
from trajectory.config import Config
from trajectory.hub import errors
from trajectory.jobs.bundles import bundle_tables
from trajectory.rows import Row

TRANSIENT = frozenset(
    kind.kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.CheckpointError) and kind.again
) | {"killed"}
"""Kinds of failure after which another run may succeed."""


UNLISTED = "*"
"""Stands for all revisions of a suite that could not be pinned."""


SUSPECT = "suspect"
"""Kind of failure of a checkpoint that is asked for by name or step, and excluded by the audit."""


def run_outcomes(config: Config) -> list[Row]:
    """Rows of the ``outcomes`` table of a run, suite by suite.

    Raises TrajectoryError if a table of it is missing or damaged.
    """
    from trajectory.schemas import BUNDLE, MANIFEST
    from trajectory.tables import read

    became: dict[str, dict[str, Row]] = {}
    for path in bundle_tables(config):
        for row in read(path, BUNDLE).to_pylist():
            became.setdefault(row["suite"], {})[row["revision"]] = row
    unpinned = read_unpinned(config)
    rows = [unlisted_row(name, why.kind, why.reason) for name, why in unpinned.items()]
    for name in (name for name in config.suites.names() if name not in unpinned):
        manifest, selection = paths(config, name)
        listed = read(manifest, MANIFEST).to_pylist()
        chosen, in_vain = None, set[str]()
        if name in config.suites.public():
            suite = config.suites.suite(name)
            chosen = checked_selection(selection, name, suite)
            in_vain = asked_in_vain(suite, listed, chosen)
        rows += outcome_rows(listed, chosen, became.get(name, {}), in_vain)
    return rows


def outcome_rows(
    manifest: Sequence[Row],
    selection: Sequence[Row] | None,
    became: Mapping[str, Row],
    in_vain: Collection[str] = (),
) -> list[Row]:
    """Rows of the ``outcomes`` table of one suite.

    Args:
        manifest: all its revisions.
        selection: those that were selected; None if all were.
        became: row of ``bundle`` by revision.
        in_vain: revisions that are asked for, and excluded.
    """
    chosen = {row["revision"]: row for row in (manifest if selection is None else selection)}
    listed = {row["revision"]: row for row in manifest}
    rows = []
    for revision in {**listed, **chosen}:
        row = {**listed.get(revision, {}), **chosen.get(revision, {})}
        status, error, reason = _status(row, revision in chosen, became.get(revision))
        if status == "excluded" and revision in in_vain:
            why = row.get("reason") or row.get("verdict")
            status, error = "failed", SUSPECT
            reason = f"{why}; name it under select.include to measure it all the same"
        rows.append(
            {
                **{key: row.get(key) for key in _COPIED},
                "status": status,
                "verdict": row.get("verdict") or "unaudited",
                "error": error,
                "reason": reason or listed.get(revision, {}).get("reason"),
                "link": listed.get(revision, {}).get("link"),
            }
        )
    return rows


def unlisted_row(suite: str, kind: str, reason: str) -> Row:
    """The one row of ``outcomes`` of a suite that could not be pinned."""
    return {
        **dict.fromkeys(_COPIED),
        "suite": suite,
        "revision": UNLISTED,
        "commit": "",
        "status": "failed",
        "verdict": "unaudited",
        "error": kind,
        "reason": reason,
        "link": None,
    }


_COPIED = (
    *("suite", "revision", "commit", "trajectory", "stage", "ingredient", "step", "tokens"),
    "bytes",
)


def _status(row: Row, selected: bool, became: Row | None) -> tuple[str, str | None, str | None]:
    if not selected:
        return ("excluded" if row.get("excluded") else "not_selected"), None, None
    if became is None:
        return "failed", "not_run", "no job measured it"
    if became["measured"]:
        return "measured", None, None
    return "failed", became["error"], became["reason"]


def missing(rows: Sequence[Row]) -> list[Row]:
    """Outcomes of the checkpoints that were selected and are not in the tables."""
    return [row for row in rows if row["status"] == "failed"]


def left_out(rows: Sequence[Row]) -> list[Row]:
    """Outcomes of the checkpoints that the audit excluded."""
    return [row for row in rows if row["status"] == "excluded" and row["trajectory"] is not None]


def failed_in(bundles: Sequence[Path]) -> list[Row]:
    """Rows of ``bundle`` of the checkpoints that these tables say could not be done."""
    from trajectory.schemas import BUNDLE
    from trajectory.tables import read

    return [row for p in bundles for row in read(p, BUNDLE).to_pylist() if not row["measured"]]


def forget_transient(bundles: Sequence[Path]) -> list[Path]:
    """Delete the tables of bundles with a failure that may pass, so that the next run tries again.

    Returns the tables deleted; what else their bundles measured is kept beside them.
    """
    passing = [p for p in bundles if any(row["error"] in TRANSIENT for row in failed_in([p]))]
    for path in passing:
        path.unlink()
    return passing
