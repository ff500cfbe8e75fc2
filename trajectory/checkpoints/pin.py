"""List, audit and choose: from a suite's name to its manifest and its pinned selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from trajectory.checkpoints.audit import JUDGED, LEARNT, MAIN, audit, config_file
from trajectory.checkpoints.edited import checked_selection
from trajectory.checkpoints.layouts import on_hub
from trajectory.checkpoints.local import revision_folder, revision_folders
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.pinned import paths
from trajectory.checkpoints.selection import (
    Unselectable,
    in_order,
    is_pinned,
    read_selection,
    select,
    selected,
    write_selection,
)
from trajectory.config import Config
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.client import Hub
from trajectory.hub.content import BLOCK, File, Revision, local_revision
from trajectory.hub.errors import Offline, Unreachable
from trajectory.outside import CONFIG
from trajectory.progress import progress
from trajectory.provenance import describe
from trajectory.rows import Row
from trajectory.schemas import MANIFEST
from trajectory.tables import from_rows, provenance, read, write

Report = Callable[[int], None]


def pin(config: Config, name: str) -> tuple[list[Row], list[Row]]:
    """List, audit and choose, and write a suite's manifest and selection; the rows of both.

    Where the hub cannot be reached, what was listed before is chosen from.

    Args:
        config: the run.
        name: one of its public suites.

    Raises:
        Unselectable: if the rule cannot be followed; the manifest is written.
        TrajectoryError: if the suite cannot be listed, or its selection is damaged.
    """
    suite = config.suites.suite(name)
    hub = Hub(config.fetch)
    manifest, selection = paths(config, name)
    now = datetime.now(UTC).isoformat(timespec="minutes")
    facts = {"endpoint": hub.api.endpoint, "repository": _whence(suite), "listed": now}

    def keep(rows: list[Row]) -> None:
        write(from_rows(rows, MANIFEST), MANIFEST, manifest, describe(**facts))

    try:
        try:
            revisions = list_revisions(name, suite, hub)
            print(f"{name}: {len(revisions)} revisions")
            with progress(f"{name}: audit", len(revisions), "revisions") as report:
                rows = audited(name, suite, revisions, hub, report)
        except (Offline, Unreachable) as error:
            before = _before(manifest, _whence(suite))
            if before is None:
                raise
            listed, facts["listed"] = before
            print(f"{error}; chosen from the manifest of {facts['listed']}", flush=True)
            rows = as_listed(name, suite, listed)
        chosen = pinned_selection(selection, name, suite, rows)
    except Unselectable as error:
        keep(list(error.rows))
        print(f"{manifest}: {len(error.rows)} revisions, each with its verdict", flush=True)
        raise
    keep(rows)
    write_selection(selection, name, suite, chosen)
    print(f"{selection}: {len(chosen)} checkpoints")
    return rows, chosen


def _whence(suite: Suite) -> str | None:
    """What is listed: the suite's repository, and its layout unless that is refs."""
    if suite.layout == "refs":
        return suite.repository
    return f"{suite.repository}, {suite.layout} {suite.branch or ''}".strip()


def _before(manifest: Path, whence: str | None) -> tuple[list[Row], str] | None:
    """What was listed before of the same, and when; None if nothing was."""
    if not manifest.is_file():
        return None
    rows, facts = read(manifest, MANIFEST).to_pylist(), provenance(manifest)
    return (rows, facts["listed"]) if facts.get("repository") == whence else None


def list_revisions(name: str, suite: Suite, hub: Hub) -> list[Revision]:
    """A suite's revisions, pinned: as its layout on the hub has them, or by a look into a folder.

    Raises TrajectoryError if it cannot be listed.
    """
    if suite.folder is not None:
        try:
            folders = revision_folders(name, suite.folder, suite.pattern)
            return [local_revision(folder) for folder in folders]
        except OSError as error:
            raise TrajectoryError(
                f"suite '{name}': {error.filename} cannot be read ({error.strerror})"
            ) from None
    return on_hub(suite, hub)


def audited(
    name: str,
    suite: Suite,
    revisions: Sequence[Revision],
    hub: Hub,
    report: Report = lambda done: None,
) -> list[Row]:
    """The manifest of a suite, its revisions audited as far as the config asks.

    Raises TrajectoryError if the hub cannot be asked.
    """
    rows = manifest_rows(name, suite, revisions)
    if suite.folder is not None:
        known = {r.commit: r.files for r in revisions if r.files is not None}
        return audit(rows, suite, known, _local_configs(suite.folder, revisions))
    looked = _Looked(name, suite, hub)
    stages = set(suite.stages)
    main = [row for row in rows if row["revision"] == MAIN]
    if suite.audit == "none":
        return audit(rows, suite, {}, {})
    if suite.audit == "all":
        wanted = [r for r in rows if r["trajectory"] is not None and (r["stage"] or 1) in stages]
        looked.into([*main, *wanted], report)
        return audit(rows, suite, looked.files, looked.configs)

    def choose(judged: list[Row]) -> set[str]:
        return {row["revision"] for row in select(name, suite, judged)}

    return audit_chosen(name, suite, rows, hub, choose, report)


def audit_chosen(
    name: str,
    suite: Suite,
    rows: Sequence[Row],
    hub: Hub,
    choose: Callable[[list[Row]], set[str]],
    report: Report = lambda done: None,
) -> list[Row]:
    """The rows, audited as far as ``choose`` needs: what turns out suspect is replaced.

    Args:
        name: the suite's name.
        suite: what is known of it.
        rows: its manifest.
        hub: where its files are listed.
        choose: names of the revisions chosen from judged rows.
        report: told how many were looked into.

    Raises:
        TrajectoryError: if the hub cannot be asked.
    """
    looked = _Looked(name, suite, hub)
    main = [row for row in rows if row["revision"] == MAIN]
    while True:
        judged = audit(rows, suite, looked.files, looked.configs)
        names = choose(judged)
        new = [
            row
            for row in [*main, *(r for r in rows if r["revision"] in names)]
            if row["commit"] not in looked.files
        ]
        if not new:
            return judged
        looked.into(new, report)


def as_listed(name: str, suite: Suite, listed: Sequence[Row]) -> list[Row]:
    """An earlier manifest's rows by the suite's present settings; nothing is asked.

    What was learnt of files stays: a verdict of then, where a present setting has no other.

    Raises TrajectoryError if the suite's pattern finds no numbers in a name.
    """
    before = {row["revision"]: row for row in listed}
    rows = manifest_rows(name, suite, [Revision(r["revision"], r["commit"]) for r in listed])
    for row in rows:
        old = before[row["revision"]]
        both = row["trajectory"] is not None and old["trajectory"] is not None
        row |= {key: old[key] for key in (*LEARNT, *(JUDGED if both else ()))}
    return audit(rows, suite, {}, {})


class _Looked:
    """Files of the commits that were looked into, and the configs among them."""

    def __init__(self, name: str, suite: Suite, hub: Hub) -> None:
        assert suite.repository is not None
        self.name, self.repository, self.hub = name, suite.repository, hub
        self.files: dict[str, tuple[File, ...]] = {}
        self.configs: dict[str, bytes] = {}

    def into(self, rows: Sequence[Row], report: Report) -> None:
        """List the files of more revisions, and read each config that is new."""
        for n, row in enumerate(rows, 1):
            where = f"suite '{self.name}', revision '{row['revision']}'"
            found = self.hub.files(self.repository, row["commit"], where)
            self.files[row["commit"]] = found
            config = config_file(found)
            if config is not None and config.digest not in self.configs and config.size < BLOCK:
                content = self.hub.read(self.repository, row["commit"], config, where)
                self.configs[config.digest] = content
            report(n)


def _local_configs(folder: Path, revisions: Sequence[Revision]) -> dict[str, bytes]:
    found = {}
    for revision in revisions:
        config = config_file(revision.files or ())
        if config is not None and config.digest not in found and config.size < BLOCK:
            found[config.digest] = (revision_folder(folder, revision.name) / CONFIG).read_bytes()
    return found


def pinned_selection(path: Path, name: str, suite: Suite, rows: Sequence[Row]) -> list[Row]:
    """The selection that is pinned at ``path`` if its settings are the config's, else a new one.

    What a new one takes over is what was added by hand or to narrow an onset.

    Raises TrajectoryError if the table is damaged, or as ``select`` does.
    """
    if not path.exists():
        return select(name, suite, rows)
    if is_pinned(path, suite):
        return checked_selection(path, name, suite)
    new = {row["revision"]: row for row in select(name, suite, rows)}
    known = {row["revision"]: row for row in rows if not row["excluded"]}
    for row in read_selection(path):
        if row["chosen"] != "config" and (listed := known.get(row["revision"])):
            # As it is listed now: its commit, and what the settings say of it, may have changed.
            as_now = selected(listed, row["chosen"])
            fresh = as_now if listed["trajectory"] else {**row, "commit": listed["commit"]}
            new.setdefault(row["revision"], fresh)
    return sorted(new.values(), key=in_order)
