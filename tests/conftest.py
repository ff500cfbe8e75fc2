from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from project import Project, copy_project, share_forked_commands

# No test may reach the hub: its stand-in is named where it is wanted.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]


AT_ONCE = 1.5
"""Processes of tests for each core: many tests wait, for a server, a browser or a workflow."""


def pytest_xdist_auto_num_workers() -> int:
    """What ``--numprocesses auto`` starts."""
    return math.ceil(AT_ONCE * (os.cpu_count() or 1))


def pytest_configure(config: pytest.Config) -> None:
    """Before the processes of tests are started, begin what they share."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        share_forked_commands()


LONGEST = ("workflow", "cluster", "hub", "report")
"""Folders whose files take longest: tested first, so that no process ends alone with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin; the order within a file stays."""

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's own folder."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tests run side by side, on matrices too small to share.
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Make a copy of the project under a name."""
    return lambda name: copy_project(root, tmp_path_factory.mktemp(name) / "project")


@pytest.fixture(scope="session")
def finished(
    root: Path, tmp_path_factory: pytest.TempPathFactory, make_project: Callable[[str], Project]
) -> Project:
    """The small run, finished, for all tests that only read it or rerun parts of it.

    Processes that test side by side run it once; each has a copy.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "small-run"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            project = make_project("first")
            done = project.snakemake("all", "--configfile", "workflow/configs/small.yaml")
            assert done.returncode == 0, done.stdout + done.stderr
            project.folder.rename(shared)
    copy = tmp_path_factory.mktemp("finished") / "project"
    return Project(shutil.copytree(shared, copy, symlinks=True))
