"""Pages of the site that lie elsewhere: README, CONTRIBUTING, the command line, files linked to.

Links in the repository are relative to it and work where it is browsed; here they are turned to the
site's pages. A linked file or folder outside ``docs`` becomes a page that shows it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from cells import page as page_of

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?\[[^\]]*\])\((?!https?:|mailto:|#)([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"^( *```.*?^ *```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".cff": "yaml", ".toml": "toml"}

API = """# Python

Measure one checkpoint from Python. Tables are read with `trajectory.tables.scan`.

::: trajectory.api.measure

::: trajectory.api.Measured

::: trajectory.api.forces

::: trajectory.api.MeasuredForces

::: trajectory.record.Recorder

::: trajectory.record.TrajectoryCallback

::: trajectory.record.log_spaced

::: trajectory.tables.scan

::: trajectory.sharing.share

::: trajectory.arrays.to_xarray

::: trajectory.plot.heads

::: trajectory.plot.over_training

::: trajectory.plot.phase

::: trajectory.plot.depth

::: trajectory.plot.reinforcement

::: trajectory.plot.overview

::: trajectory.probe.interventions.Intervention

::: trajectory.probe.forces.keys.Keys
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    linked: set[str] = set()
    for name, page in MOVED.items():
        text = (ROOT / name).read_text()
        linked |= set(_linked(text, ROOT))
        files.append(File.generated(config, page, content=_turned(text, ROOT)))
    for path in (ROOT / "docs").glob("*.md"):
        linked |= set(_linked(path.read_text(), path.parent))
    for name in sorted(linked):
        linked |= {str(path.relative_to(ROOT)) for path in _below(ROOT / name)}
    for name in sorted(linked):
        files.append(File.generated(config, f"source/{name}.md", content=_shown(name)))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        content = page_of(path.read_text(), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=content))
    files.append(File.generated(config, "api.md", content=API))
    files.append(File.generated(config, "commands.md", content=_commands()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links of the guides to the site's pages."""
    own = ROOT / "docs" / page.file.src_uri
    return _turned(markdown, own.parent) if own.exists() else markdown


def _targets(text: str, folder: Path) -> Iterator[tuple[re.Match[str], str]]:
    """Links to files, with the file's path in the repository."""
    for found in LINK.finditer(text):
        path = Path(os.path.normpath(folder / found[2]))
        yield found, str(path.relative_to(ROOT))


def _linked(text: str, folder: Path) -> Iterator[str]:
    """Files and folders outside the site that a text links to."""
    for _, name in _targets(text, folder):
        if name not in MOVED and not name.startswith("docs/"):
            yield name


def _turned(text: str, folder: Path) -> str:
    """The text with links to the site's pages."""
    turned = {
        found[0]: f"{found[1]}({_page(name)}{found[3] or ''})"
        for found, name in _targets(text, folder)
    }
    return LINK.sub(lambda found: turned[found[0]], text)


def _page(name: str) -> str:
    if name in MOVED:
        return MOVED[name]
    if name.startswith("docs/notebooks/"):
        return str(Path(name).relative_to("docs").with_suffix(".md"))
    return name.removeprefix("docs/") if name.startswith("docs/") else f"source/{name}.md"


def _below(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else []


def _shown(name: str) -> str:
    """A page of a file's text, or of a folder's files."""
    path = ROOT / name
    if path.is_dir():
        files = "\n".join(f"- [{p.name}]({path.name}/{p.name}.md)" for p in _below(path))
        return f"# {name}\n\n{files}\n"
    language = LANGUAGES.get(path.suffix, "text")
    return f"# {path.name}\n\n`{name}`\n\n````{language}\n{path.read_text()}````\n"


def _commands() -> str:
    """Every command with its arguments and options."""
    from typer.main import get_command

    from trajectory.cli import app

    parts = ["# Commands\n\n`trajectory --help` and `trajectory COMMAND --help` print the same.\n"]
    parts += _command("trajectory", get_command(app))
    return "\n".join(parts)


def _cell(option: Any) -> str:
    text = getattr(option, "help", None) or ""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _command(name: str, command: Any) -> Iterator[str]:
    groups = getattr(command, "commands", {})
    if " " in name:
        yield f"\n{'##' if name.count(' ') == 1 else '###'} {name}\n\n{command.help or ''}\n"
        shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
        if shown:
            yield "| argument or option | default | meaning |\n| --- | --- | --- |"
            for one in shown:
                names = (
                    ", ".join(f"`{o}`" for o in one.opts)
                    if one.opts[0][0] == "-"
                    else f"`{one.name}`"
                )
                given = "required" if one.required else one.default
                default = "" if given in (None, False, (), []) or callable(given) else given
                yield f"| {names} | {default} | {_cell(one)} |"
    for key, value in groups.items():
        yield from _command(f"{name} {key}", value)
