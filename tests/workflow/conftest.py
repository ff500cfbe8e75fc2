from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Project:
    """A copy of the project, so that a test can edit it and write to it.

    The copy's package is the one that its jobs import.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        scripts = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=540,
        )


@pytest.fixture(scope="session")
def make_project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        folder = tmp_path_factory.mktemp(name) / "project"
        folder.mkdir()
        for entry in ("Snakefile", "config.yaml", "workflow", "profiles", "trajectory", "tests"):
            source = root / entry
            if source.is_dir():
                shutil.copytree(
                    source, folder / entry, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(source, folder / entry)
        return Project(folder)

    return make


@pytest.fixture(scope="session")
def finished(make_project: Callable[[str], Project]) -> Project:
    """The small run, finished once for all tests that only read it or rerun parts of it."""
    project = make_project("finished")
    done = project.snakemake("all", "--configfile", "workflow/configs/small.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return project
