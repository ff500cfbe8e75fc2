"""The commands that the project's texts tell a reader to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from trajectory.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "workflow/configs").glob("*.yaml"))]

IN_A_PAGE = re.compile(r"^ *trajectory (.+)|`trajectory ([^`]+)`")
IN_A_COMMENT = re.compile(r"^#\s+(?:\w[\w ]*: )?\(?trajectory ([^();]+)|`trajectory ([^`]+)`")
NAMED_ONLY = re.compile(r"[a-z]+( [a-z]+)?")
"""A command that a sentence names without its arguments."""


def told(path: Path) -> Iterator[str]:
    """The arguments of every ``trajectory`` command in a file, up to a comment or redirection."""
    in_code = False
    for line in path.read_text().splitlines():
        if path.suffix == ".md":
            in_code ^= line.startswith("```")
            pattern = (
                IN_A_PAGE if in_code or line[:4].isspace() else re.compile("`trajectory ([^`]+)`")
            )
        else:
            pattern = IN_A_COMMENT
        for found in pattern.finditer(line):
            yield re.split(r"\s+[#>] ", next(group for group in found.groups() if group))[0]


def parsed_only() -> Any:
    """The command line, every command of which does nothing but take its arguments."""

    def mute(command: Any) -> Any:
        command.callback = lambda **values: None
        for one in getattr(command, "commands", {}).values():
            mute(one)
        return command

    return mute(get_command(app))


COMMANDS = sorted({(path.name, text) for path in [*PAGES, *CONFIGS] for text in told(path)})


@pytest.mark.parametrize(("where", "text"), COMMANDS)
def test_every_command_told_in_docs_and_configs_is_one(where: str, text: str) -> None:
    arguments = shlex.split(text)
    if NAMED_ONLY.fullmatch(text) and arguments != ["suites"]:
        arguments.append("--help")
    parsed_only().main(arguments, standalone_mode=False)


def test_the_texts_tell_of_every_room() -> None:
    assert len(COMMANDS) > 30
    rooms = {text.split()[0] for _, text in COMMANDS}
    assert rooms >= {"bb", "suites", "plan", "report", "claims", "align", "config", "tables"}


def test_a_command_that_is_none_is_found() -> None:
    with pytest.raises(Exception, match="results"):
        parsed_only().main(["dynamics"], standalone_mode=False)
    with pytest.raises(Exception, match="No such"):
        parsed_only().main(["bb", "compare", "r", "--nothing"], standalone_mode=False)


def test_the_files_that_contributing_names_are_there() -> None:
    named = re.findall(r"`([\w.-]+/[\w./-]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
