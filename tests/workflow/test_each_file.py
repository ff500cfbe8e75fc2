"""Every file of a finished run, deleted or damaged: the same command makes it again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project

from trajectory.config import load
from trajectory.repair import look

from .test_end_to_end import SMALL

LEFT = ("selections", "logs", "benchmarks", "downloads", ".lock", ".seen.json", "config.json")
"""What people edit, nobody reads or every run writes anew."""


def files(results: Path) -> list[Path]:
    """All that a run makes for people to read, or for its own later jobs."""
    found = sorted(path for path in results.rglob("*") if path.is_file())
    return [p for p in found if p.relative_to(results).parts[0] not in LEFT]


def spoilt(path: Path) -> Iterator[str]:
    """Delete the file, then cut it in two; in the end it is what it was."""
    kept, about = path.read_bytes(), path.stat()
    path.unlink()
    yield "deleted"
    path.write_bytes(kept[: len(kept) // 2] or b"x")
    yield "damaged"
    path.write_bytes(kept)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_each_file_is_made_again(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found before the run, one by one, or is asked for by the run's last rule."""
    monkeypatch.chdir(finished.folder)
    results = Path("results/small")
    config = load(Path("workflow/configs/small.yaml"))
    assert look(config).unusable == {}
    every, asked_for = files(results), targets(finished, results)
    assert len(every) > 400
    for path in every:
        for how in spoilt(path):
            seen = look(config).unusable  # all else is whole
            assert seen or (how == "deleted" and str(path) in asked_for), f"{path} {how}"


def targets(project: Project, results: Path) -> set[str]:
    """What the rule all asks for, as a dry run with something to do tells it."""
    complete = results / "complete.txt"
    aside = complete.rename(results / ".aside")
    try:
        done = project.snakemake(*SMALL, "-n")
    finally:
        aside.rename(complete)
    found = re.search(r"rule all:\n +input: (.*)", done.stdout + done.stderr)
    assert found is not None, done.stdout + done.stderr
    return set(found[1].split(", "))
