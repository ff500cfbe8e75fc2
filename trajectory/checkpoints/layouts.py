"""Where a suite's checkpoints lie on the hub: all layouts end as revisions, named and pinned.

What follows is the same for all: names are read, files compared, checkpoints chosen and fetched.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping

from trajectory.checkpoints.audit import MAIN
from trajectory.config.suites import Suite
from trajectory.hub.client import Hub
from trajectory.hub.content import File, Revision, has_pickles, is_content, weight_files
from trajectory.hub.errors import UnknownRevision
from trajectory.outside import CONFIG

_OTHERS = re.compile(r"[^A-Za-z0-9_@%+=:,.]+")
"""What a title has besides the characters of a name; hyphens too, so that none stands beside
another."""


def on_hub(suite: Suite, hub: Hub) -> list[Revision]:
    """A suite's revisions, as its layout has them.

    Branches and tags have their names, folders and repositories theirs. A commit has its title's,
    with a hyphen for what cannot stand in a name; of several of one title the newest counts.

    Args:
        suite: one with a repository.
        hub: where it lies.

    Raises:
        CheckpointError: if it cannot be listed.
        UnknownRevision: if it has no such branch.
    """
    assert suite.repository is not None
    if suite.layout == "repositories":
        return _repositories(suite.repository, hub)
    refs = hub.refs(suite.repository)
    if suite.layout == "refs":
        return [Revision(name, commit) for name, commit in refs.items()]
    branch = suite.branch or MAIN
    if branch not in refs:
        near = difflib.get_close_matches(branch, refs, 3) or list(refs)[:3]
        raise UnknownRevision(
            f"{suite.repository}: no branch '{branch}' (branch); it has {', '.join(near)}"
        )
    head = Revision(MAIN, refs[branch])
    if suite.layout == "commits":
        found = {MAIN: head}
        for commit, title in hub.commits(suite.repository, branch):
            if name := title_name(title):
                found.setdefault(name, Revision(name, commit))
        return list(found.values())
    where = f"{suite.repository}, branch '{branch}'"
    return [head, *_folders(head.commit, hub.files(suite.repository, head.commit, where))]


def title_name(title: str) -> str:
    """A commit's title as a revision's name: "Saving HF Model -- Step 17000" is
    Saving-HF-Model-Step-17000."""
    return _OTHERS.sub("-", title).strip("-.")


def _folders(commit: str, files: tuple[File, ...]) -> list[Revision]:
    """The folders of a commit that hold a config or weights, each by the last part of its path.

    Those whose last parts are alike have their whole paths, with hyphens.
    """
    inside: dict[str, list[File]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if folder:
            inside.setdefault(folder, []).append(File(name, file.size, file.digest))
    found = [folder for folder, own in inside.items() if _is_checkpoint(own)]
    lasts = [folder.rpartition("/")[2] for folder in found]
    often = Counter(lasts)
    revisions: dict[str, Revision] = {}
    for folder, last in zip(found, lasts, strict=True):
        name = last if often[last] == 1 else folder.replace("/", "-")
        name = folder if name in revisions else name  # one that is never chosen
        if name != MAIN and is_content(place := f"{commit}:{folder}"):
            revisions[name] = Revision(name, place)
    return list(revisions.values())


def _is_checkpoint(files: list[File]) -> bool:
    return any(f.path == CONFIG for f in files) or bool(weight_files(files)) or has_pickles(files)


def _repositories(start: str, hub: Hub) -> list[Revision]:
    """The repositories whose names begin as one, each by what its own name goes on with."""
    found: Mapping[str, str] = dict(hub.repositories(start))
    if not found:
        raise UnknownRevision(f"no repository of the hub has a name that begins with '{start}'")
    revisions: dict[str, Revision] = {}
    for one, commit in found.items():
        rest = one.removeprefix(start)
        name = rest.lstrip("-_.")
        name = rest if name in revisions else name  # one that is never chosen
        if name and name != MAIN and is_content(place := f"{one}@{commit}"):
            revisions[name] = Revision(name, place)
    return list(revisions.values())
