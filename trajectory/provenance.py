"""Where numbers come from: versions, commit, and digests of the code that decides them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from trajectory import __version__
from trajectory.sources import remembered

PACKAGE = Path(__file__).parent

_BY_VALUE = (
    "trajectory.config",
    "trajectory.provenance",
    "trajectory.sources",
    "trajectory.errors",
)
"""Modules and packages left out of code digests: the config enters rules by its values."""


CITATIONS = f"""@article{{guo2024activedormant,
  title   = {{Active-Dormant Attention Heads: Mechanistically Demystifying Extreme-Token
             Phenomena in LLMs}},
  author  = {{Guo, Tianyu and Pai, Druv and Bai, Yu and Jiao, Jiantao and Jordan, Michael I. and
             Mei, Song}},
  journal = {{arXiv preprint arXiv:2410.13835}},
  year    = {{2024}}
}}
@software{{trajectory,
  title   = {{trajectory: attention sinks, value-state drains and residual-state peaks over
             training}},
  author  = {{{{The trajectory maintainers}}}},
  version = {{{__version__}}}
}}"""
"""What to cite, in BibTeX."""


def describe(**facts: Any) -> dict[str, Any]:
    """Provenance for a table's file metadata: versions and commit, plus ``facts``."""
    return {
        "trajectory": __version__,
        "code_commit": code_commit(),
        "versions": dict(_versions()),
        **facts,
    }


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Versions of the packages that decide numbers: reading them anew would take a while."""
    return tuple((n, metadata.version(n)) for n in ("torch", "transformers", "polars", "pyarrow"))


@cache
def code_commit() -> str | None:
    """Commit of the source tree this package runs from, "-dirty" where it was changed since.

    None where the package is not in a git work tree of its own, or git does not answer.
    """
    git = ["git", "-C", str(PACKAGE.parent)]
    try:
        top = _run([*git, "rev-parse", "--show-toplevel"])
        if Path(top).resolve() != PACKAGE.parent.resolve():
            return None
        commit = _run([*git, "rev-parse", "HEAD"])
        changed = _run([*git, "status", "--porcelain", "--untracked-files=no", "--", str(PACKAGE)])
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def values_digest(values: Any) -> str:
    """Twelve hex digits of any JSON-serialisable values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def code_digest(*modules: str) -> str:
    """Twelve hex digits that change when code that can decide the modules' results changes.

    Covers the named modules, every module of this package they import, however deep, and the
    data files of those packages. Comments, formatting and docstrings do not count: Snakemake
    cannot see package code, so each rule carries this digest as a parameter and is rerun when it
    changes.
    """
    total = hashlib.sha256()
    for module in sorted(_closure(modules)):
        path = _path(module)
        total.update(f"{module} {remembered().read(path).digest}\n".encode())
        for folder in ("data", "templates"):
            for extra in sorted((path.parent / folder).glob("*")):
                if extra.is_file():
                    total.update(extra.name.encode() + extra.read_bytes())
    remembered().save()
    return total.hexdigest()[:12]


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or any(f"{module}.".startswith(f"{by}.") for by in _BY_VALUE):
            continue
        found.add(module)
        waiting += filter(_exists, remembered().read(_path(module)).imported)
    return found


def _path(module: str) -> Path:
    stem = PACKAGE.joinpath(*module.split(".")[1:])
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def _exists(module: str) -> bool:
    return _path(module).is_file()
