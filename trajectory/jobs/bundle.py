"""Measuring a bundle of checkpoints: what is there is kept, a failure stays alone."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from trajectory.errors import TrajectoryError, UnusableFolder
from trajectory.jobs.process import Rows
from trajectory.outside import inside
from trajectory.schemas import BATCHES, MEASUREMENTS, TABLES
from trajectory.tables import check_header, provenance, read

KILLS = 3
"""Times a process may be killed over one checkpoint before that checkpoint counts as failed."""

_STARTED = ".started"


def measure_bundle(
    suite: str,
    keys: Mapping[str, str],
    folder: Path,
    measure: Callable[[str], tuple[Rows, dict[str, Any]]],
    write: Callable[[Rows, Path, dict[str, Any]], None],
    tables: Sequence[str] = MEASUREMENTS,
) -> list[dict[str, Any]]:
    """Measure the checkpoints of a bundle that are not measured yet, one after the other.

    Each checkpoint's tables are written as soon as it is measured, so a bundle that is killed goes
    on with what is missing. What a killed process was at goes last: a checkpoint that is too large
    for the memory does not keep the others from being measured.

    Args:
        suite: the suite's name.
        keys: for every revision, the digest of all that decides its rows.
        folder: receives one folder of tables per revision.
        measure: the rows of a revision and facts of their origin; a TrajectoryError fails that
            revision alone.
        write: writes rows to a folder, the facts and the key in their provenance; a TrajectoryError
            (rows that break their schema) fails that revision alone.
        tables: what each checkpoint's folder must hold.

    Returns:
        rows of ``bundle``.

    Raises:
        OSError, UnusableFolder: at once if a table or the weights cannot be written: that holds for
            all of them.
        TrajectoryError: at once if a revision's name leads out of the folder.
        TrajectoryError: at the end, if a checkpoint ended in an error nobody foresaw (a lack of
            memory, a mistake in this package): nothing is said about the checkpoint itself then.
    """
    found = {}
    missing = []
    unforeseen = []
    for revision, key in keys.items():
        inside(folder, folder / revision)
        found[revision] = _row(suite, revision, key)
        if not is_measured(folder / revision, key, tables):
            missing.append(revision)
    print(f"{suite}: {len(keys) - len(missing)} of {len(keys)} checkpoints measured before")
    for revision in sorted(missing, key=lambda name: _starts(folder / name)):
        target = folder / revision
        if _starts(target) >= KILLS:
            (target / _STARTED).unlink()  # the next run tries again
            reason = f"the process measuring it was killed {KILLS} times; it may need more memory"
            failure = _row(suite, revision, keys[revision], "killed", reason)
        else:
            with _started(target):
                try:
                    rows, facts = measure(revision)
                    write(rows, target, {**facts, "key": keys[revision]})
                    continue
                except (OSError, UnusableFolder):
                    raise
                except TrajectoryError as error:
                    kind = getattr(error, "kind", "error")
                    failure = _row(suite, revision, keys[revision], kind, str(error))
                except Exception:
                    traceback.print_exc()
                    unforeseen.append(revision)
                    continue
        found[revision] = failure
        print(f"failed: {failure['reason']}", flush=True)
    if unforeseen:
        raise TrajectoryError(
            f"suite '{suite}': {', '.join(unforeseen)} ended in the errors above; what else "
            "was measured is kept; run again to continue"
        )
    return list(found.values())


def is_measured(folder: Path, key: str, tables: Sequence[str] = MEASUREMENTS) -> bool:
    """Whether ``folder`` holds all tables of this key, in this version's columns."""
    for name in tables:
        path = folder / f"{name}.parquet"
        try:
            check_header(path, TABLES[name])
            if provenance(path).get("key") != key:
                return False
        except TrajectoryError:
            return False
    return True


def batches_digest(path: Path) -> str:
    """Digest of the content of a suite's token batches, whatever the file says of its origin."""
    from trajectory.provenance import values_digest

    return values_digest(read(path, BATCHES).to_pylist())


def _row(
    suite: str, revision: str, key: str, error: str | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {
        "suite": suite,
        "revision": revision,
        "measured": error is None,
        "error": error,
        "reason": reason,
        "key": key,
    }


def _starts(folder: Path) -> int:
    """How often a process started on this checkpoint and was killed before it ended."""
    try:
        return len((folder / _STARTED).read_bytes())
    except FileNotFoundError:
        return 0


@contextmanager
def _started(folder: Path) -> Iterator[None]:
    """Leave a mark in ``folder`` if the process is killed inside the block.

    An exception, an interrupt and the end a cluster asks for leave none.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / _STARTED
    with mark.open("ab") as handle:
        handle.write(b"+")
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        mark.unlink(missing_ok=True)
