"""A suite's tokenizer: one for all its revisions, so that every checkpoint sees the same tokens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from trajectory.checkpoints.audit import MAIN
from trajectory.checkpoints.local import revision_folder
from trajectory.config.suites import Suite
from trajectory.corpus.tokenizer import VOCABULARIES, has_tokenizer, tokenizer_places
from trajectory.hub.client import Hub
from trajectory.hub.content import File, check_small
from trajectory.hub.download import fetch_files
from trajectory.hub.errors import CorruptCheckpoint
from trajectory.rows import Row

NAMES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "merges.txt", "config.json"),
)
"""What ``AutoTokenizer`` may read."""


def fetch_tokenizer(
    name: str, suite: Suite, hub: Hub, manifest: Sequence[Row], selection: Sequence[Row], to: Path
) -> str:
    """Put the suite's tokenizer into the folder ``to``; the revision it was taken from.

    It is that of the last selected revision, or of main where that has none.

    Raises CheckpointError if no revision has one, or it cannot be had.
    """
    by_name = {row["revision"]: row["commit"] for row in manifest}
    by_name |= {row["revision"]: row["commit"] for row in selection}
    looked: list[Path] = []
    order = [*(row["revision"] for row in reversed(selection)), MAIN]
    for revision in dict.fromkeys([order[0], MAIN, *order]):
        commit = by_name.get(revision)
        if commit is None:
            continue
        where = f"suite '{name}', tokenizer of revision '{revision}'"
        if suite.folder is not None:
            places = tokenizer_places(revision_folder(suite.folder, revision))
            looked += [place for place in places if place not in looked]
            if found := next((place for place in places if has_tokenizer(place)), None):
                _copy(found, to)
                return revision
            continue
        assert suite.repository is not None
        files = hub.files(suite.repository, commit, where)
        wanted = [file for file in files if file.path in NAMES]
        if _is_tokenizer(wanted):
            check_small(wanted, where)
            to.mkdir(parents=True, exist_ok=True)
            fetch_files(hub, suite.repository, commit, wanted, to, where)
            return revision
    where = f" (looked for in {', '.join(map(str, looked))})" if looked else ""
    raise CorruptCheckpoint(f"suite '{name}': no revision has a tokenizer{where}")


def _is_tokenizer(files: Sequence[File]) -> bool:
    return bool({*VOCABULARIES} & {file.path for file in files})


def _copy(folder: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for path in (folder / known for known in NAMES):
        if path.is_file():
            shutil.copyfile(path, to / path.name)
