"""Options and steps that several commands share."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from trajectory.errors import TrajectoryError

ConfigFile = Annotated[Path, typer.Option("--config", help="The run's config.", show_default=True)]
RunConfig = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Another config of the same run; by default <results>/config.json."
    ),
]
AnyResults = Annotated[
    Path | None, typer.Option(help="The run's results folder; by default the config's.")
]
AnyConfig = Annotated[
    Path | None,
    typer.Option(
        "--config", help="The run's config; by default that of --results, or config.yaml."
    ),
]
Results = Annotated[Path, typer.Option(help="The run's results folder.")]
Threads = Annotated[
    int, typer.Option(help="Threads of torch. The last digits of a run depend on it.", min=1)
]
DEFAULT_CONFIG = Path("config.yaml")


def lines_of(path: Path) -> list[Path]:
    """Paths in a file, one per line; of standard input if it is -.

    Raises TrajectoryError if it cannot be read.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise TrajectoryError(f"{path}: not a UTF-8 list of paths") from None
    return [Path(line) for line in text.split("\n") if line]


def existing_folder(path: Path) -> Path:
    """The path; TrajectoryError if it is no folder."""
    if not path.is_dir():
        raise TrajectoryError(f"{path}: no such folder")
    return path


def check_writable(folder: Path) -> None:
    """Say before a long command's work that its output cannot be written; make nothing yet.

    Raises TrajectoryError if it cannot.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise TrajectoryError(f"{folder}: cannot be written ({error.strerror})") from None


def domain_files(given: list[str], otherwise: str = "") -> dict[str, Path]:
    """Text files by domain, from options of the form name=FILE.

    Args:
        given: the options.
        otherwise: what else the option takes, as the end of the error's advice.

    Raises TrajectoryError for what is not name=FILE, a name given twice, or a file that is not
    there.
    """
    files: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise TrajectoryError(f"--domain {text}: give name=FILE{otherwise}")
        if name in files:
            raise TrajectoryError(f"--domain {text}: '{name}' is given twice")
        if not Path(path).is_file():
            raise TrajectoryError(f"--domain {text}: no such file")
        files[name] = Path(path)
    return files
