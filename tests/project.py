"""A copy of the project that a test may run, edit and break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


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

    def submitting(self, *arguments: str) -> list[str]:
        """A cluster's executor is given no cores."""
        return [sys.executable, "-m", "snakemake", *arguments]

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


def copy_project(root: Path, folder: Path) -> Project:
    """Copy what a run needs from ``root`` to ``folder``."""
    folder.mkdir()
    for entry in ("Snakefile", "config.yaml", "workflow", "profiles", "trajectory", "tests"):
        source = root / entry
        if source.is_dir():
            shutil.copytree(source, folder / entry, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / entry)
    return Project(folder)
