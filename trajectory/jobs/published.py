"""One revision of a repository on the hub, at hand without a config: found, audited, obtained.

Client, audit, ranges and hashes are those of the suites. What the registry knows of the repository
counts here too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trajectory.checkpoints.audit import MAIN, SUSPECT
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.names import absent
from trajectory.checkpoints.pin import audit_chosen, list_revisions
from trajectory.config import Config, parse
from trajectory.config.registry import registered
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.client import Hub, default_cache
from trajectory.hub.content import Revision, is_commit
from trajectory.hub.errors import UnknownRevision
from trajectory.jobs.obtain import obtained
from trajectory.jobs.tokenizer import fetch_tokenizer
from trajectory.probe.weights import Weights
from trajectory.rows import Row

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""How a repository is called: organisation/name."""

PATIENCE = 60
"""Seconds without progress to keep asking the hub: somebody is waiting."""


@dataclass(frozen=True)
class Published:
    """A revision at hand.

    Attributes:
        row: of its manifest: commit, step, tokens, verdict and more.
        folder: with its config, and its weights if they do not lie elsewhere.
        weights: tensors that are read over the network.
        tokenizer: folder of its tokenizer; None if none was asked for.
    """

    row: Row
    folder: Path
    weights: Weights | None
    tokenizer: Path | None


@contextmanager
def published(
    repository: str,
    revision: str | None = None,
    weights: Literal["stream", "download"] = "stream",
    tokenizer: bool = True,
    hub: Hub | None = None,
    folder: Path | None = None,
) -> Iterator[Published]:
    """A revision of a repository, for as long as the block lasts.

    Args:
        repository: organisation/name.
        revision: a branch, a tag or a commit; main if None.
        weights: "stream" reads over the network what is needed and writes nothing; "download"
            keeps the files in ``$XDG_CACHE_HOME/trajectory/weights``.
        tokenizer: fetch the tokenizer too: that of the revision, or of main where it has none.
        hub: where it is fetched from; the one of ``HF_ENDPOINT`` if None.
        folder: where downloads are kept; ``$XDG_CACHE_HOME/trajectory/weights`` if None.

    Raises:
        TrajectoryError: if there is no such repository or revision, it cannot be had, the audit
            excludes it, or the registry says that the suite cannot be measured.
    """
    if weights not in ("stream", "download"):
        raise TrajectoryError(f"weights {weights!r}: choose one of stream, download")
    config, name = _config(repository, weights, folder)
    suite = config.suites.suite(name)
    hub = hub or Hub(config.fetch)
    rows, row = _found(name, suite, revision or MAIN, hub)
    with tempfile.TemporaryDirectory(prefix="trajectory-") as temporary:
        place = Path(temporary) / "tokenizer" if tokenizer else None
        if place is not None:
            fetch_tokenizer(name, suite, hub, rows, [row], place)
        with obtained(config, name, row, hub) as found:
            yield Published(row, found.folder, found.weights, place)


def known(repository: str) -> str | None:
    """The registry's suite of a repository; None if it has none."""
    asked = repository.lower()
    places = ((n, str(e.get("repository", "")).lower()) for n, e in registered().items())
    return next((name for name, place in places if place == asked), None)


def _config(repository: str, weights: str, folder: Path | None) -> tuple[Config, str]:
    """The config of a run with this one suite, and the suite's name."""
    own = known(repository)
    name = own or re.sub(r"[^a-z0-9._-]+", "-", repository.lower())
    values: Row = {"repository": repository, "weights": "stream"}
    if weights == "download":
        values["weights"] = "keep"
    cache = default_cache().parent
    fetch = {"folder": str(folder or cache / "weights"), "patience": PATIENCE}
    given = {"name": "measure", "results": str(cache), "suites": {name: values}, "fetch": fetch}
    return parse(given, repository), name


def _found(name: str, suite: Suite, asked: str, hub: Hub) -> tuple[list[Row], Row]:
    """The repository's manifest, as far as its audit concerns one revision, and that one's row.

    Besides the revision the audit looks into main, whose files an interrupted upload leaves
    behind, and into the trajectory's last revision, whose weights main may rightly have.
    """
    refs = {listed.name: listed.commit for listed in list_revisions(name, suite, hub)}
    branch = asked if asked in refs else next((b for b, c in refs.items() if c == asked), None)
    if branch is None and is_commit(asked):
        refs, branch = {**refs, asked: asked}, asked
    if branch is None:
        raise UnknownRevision(f"{suite.repository}: {absent(asked, refs)}")
    every = [Revision(b, c) for b, c in refs.items()]
    rows = manifest_rows(name, suite, every)
    own = next(row for row in rows if row["revision"] == branch)
    if own["step"] is None:  # a trajectory of its own
        chosen = suite.select.model_copy(update={"revisions": [branch]})
        suite = suite.model_copy(update={"select": chosen})
        rows = manifest_rows(name, suite, [r for r in every if r.name in (branch, MAIN)])
        looked = {branch}
    else:
        place = own["trajectory"], own["step"]
        # Of several names of one step it is this one that is asked for.
        rows = [row for row in rows if row is own or (row["trajectory"], row["step"]) != place]
        line = [row for row in rows if row["trajectory"] == own["trajectory"]]
        looked = {branch, max(line, key=lambda row: row["step"])["revision"]}
    judged = audit_chosen(name, suite, rows, hub, lambda _: looked)
    row = next(row for row in judged if row["revision"] == branch)
    if row["verdict"] in SUSPECT:
        link = f" ({row['link']})" if row["link"] else ""
        raise TrajectoryError(
            f"{suite.repository}, revision '{branch}': {row['reason']}{link}; a suite of a config "
            "can include it all the same (select.include)"
        )
    return judged, row
