"""A copy of the project that a test may run, edit and break."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked


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
        """Run the workflow to its end."""
        options = {"cwd": self.folder, "env": self.environment, "timeout": 540}
        return run_command("snakemake", "--cores", 2, *arguments, **options)


def run_command(name: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``trajectory`` or ``snakemake`` to its end; see :mod:`forked` for its processes.

    Args:
        options: of ``subprocess.run``.
    """
    started = [str(forked_commands() / name), *map(str, arguments)]
    return subprocess.run(started, **{"capture_output": True, "text": True, **options})  # noqa: PLW1510


def python_code(code: str, *arguments: object) -> list[str]:
    """The command that runs code as ``python -c`` does, the libraries imported already.

    The process imports the packages that this one does.
    """
    found = f"import sys\nsys.path[:0] = {sys.path!r}\n"
    return [str(forked_commands() / "code"), found + code, *map(str, arguments)]


SHARED = "TRAJECTORY_TESTS_FORKED"
"""The variable that names the folder of the commands that processes of tests share."""


@functools.cache
def forked_commands() -> Path:
    """The folder of commands that are forked; their server runs as long as the tests."""
    folder = Path(os.environ.get(SHARED) or share_forked_commands())
    forked.wait(folder)
    return folder / "bin"


def share_forked_commands() -> str:
    """Start the server for this process and those that inherit its environment; its folder."""
    folder = tempfile.mkdtemp(prefix="forked-")
    server = forked.start(Path(folder))
    assert server.stdin is not None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    os.environ[SHARED] = folder
    return folder


LESS_LIBRARY = """
import sysconfig
from pathlib import Path

_whole = sysconfig.get_path

def get_path(name, *arguments, **named):
    less = Path(__file__).with_name("library")
    return str(less) if name == "stdlib" else _whole(name, *arguments, **named)

sysconfig.get_path = get_path
"""
MODULES = 48
"""Modules of the standard library that a copy's runs read as code, of some 700."""


def lessen_library(folder: Path) -> None:
    """Let processes whose PYTHONPATH has ``folder`` take some modules for the standard library.

    Its sources are the code that a run trains on and measures. The tests of the workflow ask
    nothing of them, and to make tokens of all of them takes longer than the training.
    """
    (folder / "sitecustomize.py").write_text(LESS_LIBRARY)
    (folder / "library").mkdir()
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    for module in [path for path in library if 5_000 < path.stat().st_size < 40_000][:MODULES]:
        shutil.copy(module, folder / "library")


def lessen_theory(folder: Path) -> None:
    """Let the copy's theory have two contexts of each token: with all of them it takes longer than
    the small run's trainings, and no test of the workflow asks for its numbers."""
    path = folder / "trajectory/dynamics/regimes.py"
    text = path.read_text()
    less = text.replace("CONTEXTS = 16\n", "CONTEXTS = 2\n")
    assert less != text
    path.write_text(less)


def copy_project(root: Path, folder: Path) -> Project:
    """Copy what a run needs from ``root`` to ``folder``."""
    folder.mkdir()
    for entry in ("Snakefile", "config.yaml", "workflow", "profiles", "trajectory", "tests"):
        source = root / entry
        if source.is_dir():
            shutil.copytree(source, folder / entry, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / entry)
    lessen_library(folder)
    lessen_theory(folder)
    return Project(folder)
