"""Links, anchors and Python of the documents; the commands are in ``test_commands``."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from trajectory.schemas import TABLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCED = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)\s#]*)(#[^)\s]*)?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(path: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]+`", "code", FENCED.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """What GitHub and the site call the headings of a page."""
    text = FENCED.sub("", path.read_text())
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


def broken(path: Path) -> Iterator[str]:
    for target, anchor in LINK.findall(prose(path)):
        file = (path.parent / target).resolve() if target else path
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and anchor[1:] not in anchors(file):
            yield f"{target}{anchor}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_and_anchor_resolves(path: Path) -> None:
    assert list(broken(path)) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b\n[1](#a-b) [2](#c) [3](none.md) `[4](none.md)`\n```sh\n[5](none.md)\n```\n"
    )
    assert list(broken(page)) == ["#c: no such heading", "none.md: no such file"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_python_block_compiles(path: Path) -> None:
    for _, language, code in FENCED.findall(path.read_text()):
        if language == "python":
            compile(textwrap.dedent(code), str(path), "exec")


def test_every_guide_is_in_the_site_and_in_the_readme() -> None:
    site, readme = (ROOT / "mkdocs.yml").read_text(), (ROOT / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert f": {path.name}\n" in site
        assert f"(docs/{path.name})" in readme


def test_the_map_of_the_package_names_what_there_is() -> None:
    """Every room is in the architecture's table; each module, function and column exists."""
    text = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "trajectory"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert {name for name in rooms if f"| `{name}` |" in text} == rooms
    for name in re.findall(r"`((?:[\w/]+/)?\w+\.py)`", text):
        assert (package / name).is_file() or (ROOT / name).is_file(), name
    for module, names in re.findall(r"`([\w/]+\.py)` \(`(\w+)`\)", text):
        assert re.search(rf"^(def|class) {names}\b", (package / module).read_text(), re.M), names
    for table, column in re.findall(r"`(\w+)\.(\w+)`", text):
        if column != "py":
            assert table in TABLES and column in TABLES[table].schema.names, f"{table}.{column}"


def test_what_builds_the_site_is_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pinned = (ROOT / "constraints.txt").read_text()
    for wanted in extras["docs"]:
        name = re.match(r"[\w-]+", wanted)
        assert name is not None
        assert f"\n{name[0]}==" in pinned
