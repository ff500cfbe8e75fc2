"""What an examination says: on a screen of 80 columns, and as Markdown for an issue."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from string import ascii_uppercase

from trajectory import __version__
from trajectory.config.suites import Suite
from trajectory.errors import one_line, without_secrets
from trajectory.forensics import drawing
from trajectory.forensics.examine import Examined, counts
from trajectory.forensics.wording import described, same_files
from trajectory.hub.content import Place
from trajectory.tables import atomic

WIDTH = 80
"""Columns of the screen."""

HEAD = ("revision", "what is wrong", "evidence", "honest")

UNREAD = 5
"""Revisions that could not be read, of which the reasons are told."""


def marks_of(examined: Examined) -> dict[int, str]:
    """A letter for each suspicious revision; * where there are more than letters."""
    places = dict.fromkeys(one.at for one in examined.judged.findings)
    letters = [*ascii_uppercase, *"*" * len(places)]
    return dict(zip(places, letters, strict=False))


def summary(examined: Examined) -> str:
    """One line: how many are suspicious, have another's files or were not read, and the costs."""
    found = counts([examined])
    total = f"{found['revisions']} revisions"
    suspicious, shared = len(marks_of(examined)), len(examined.same_files)
    verdicts = [f"nothing suspicious among {total}"]
    if shared:
        verdicts = [f"{shared} of {total} {_have(shared)} another's files"]
    if suspicious:
        verdicts = [f"{suspicious} of {total} {'is' if suspicious == 1 else 'are'} suspicious"]
        verdicts += [f"{shared} more {_have(shared)} another's files"] * bool(shared)
    if unread := len(examined.unread):
        verdicts.append(f"{unread} could not be read")
    return (
        f"{examined.trajectory}: {', '.join(verdicts)}; read {size(found['bytes'])} in "
        f"{examined.seconds:.0f} s, {size(found['most'])} of a revision at most"
    )


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def size(count: int) -> str:
    """Bytes in decimal units."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def remarks(examined: Examined) -> list[str]:
    """What else is to be said: shared files, what could not be told, what could not be read."""
    found = [*same_files(examined), *examined.notes]
    reasons = list(examined.unread.values())
    found += [f"not read: {reason}" for reason in reasons[:UNREAD]]
    if len(reasons) > UNREAD:
        found.append(f"not read: {len(reasons) - UNREAD} more")
    return found


def screen(examined: Examined) -> Iterator[str]:
    """The lines below the table, none wider than ``WIDTH``: remarks, and the path."""
    for remark in remarks(examined):
        yield from _folded(one_line(remark), "- ")
    yield from drawing.as_text(examined, marks_of(examined))


def headline(examined: Examined) -> Iterator[str]:
    """The lines above the table."""
    yield from _folded(summary(examined), "")


def _folded(text: str, first: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent="  ", break_on_hyphens=False
    )


def markdown(
    name: str, suite: Suite, endpoint: str, found: Sequence[Examined], command: str
) -> str:
    """A report that can be pasted into an issue.

    Args:
        name: the suite's name.
        suite: what is known of it.
        endpoint: address of the hub.
        found: its trajectories.
        command: what made the report.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    place = suite.repository or "a local folder"
    lines = [
        f"## Checkpoints of {name} ({place})",
        "",
        "A few thousand numbers of every revision were compared, at the same places of the same "
        "tensors. On an honest path through training each revision lies between its neighbours.",
        "",
    ]
    for examined in found:
        lines += _section(examined, suite, endpoint)
    lines += [
        "### To reproduce",
        "",
        f"trajectory {__version__}, {now}:",
        "",
        "```sh",
        command,
        "```",
        "",
        "Definitions of the numbers, and how often they are wrong: docs/suites.md, *Forensics*.",
    ]
    return without_secrets("\n".join(lines)) + "\n"


def _section(examined: Examined, suite: Suite, endpoint: str) -> list[str]:
    lines = [f"### {examined.trajectory}", "", f"{summary(examined)}.", ""]
    findings = examined.judged.findings
    if findings:
        lines += [_cells([*HEAD, "commit"]), _cells(["---"] * 5)]
        for one in findings:
            commit = str(examined.read[one.at].row["commit"])
            lines.append(
                _cells([*described(examined, one, short=False), f"`{commit}`" if commit else ""])
            )
        lines.append("")
    lines += [f"- {one_line(remark)}" for remark in remarks(examined)]
    lines += ["", "```text", *drawing.as_text(examined, marks_of(examined)), "```", ""]
    letters = marks_of(examined).items()
    lines += [", ".join(f"{mark} is {examined.name(at)}" for at, mark in letters), ""]
    lines += _bytes_read(examined, suite, endpoint)
    return lines


def _bytes_read(examined: Examined, suite: Suite, endpoint: str) -> list[str]:
    """Which numbers were read, and where they lie in the first suspicious revision's files."""
    at = next((one.at for one in examined.judged.findings), 0)
    own = examined.read[at]
    lines = [
        f"<details><summary>What was read, and where it lies in {examined.name(at)}</summary>",
        "",
        _cells(["tensor", "numbers", "file", "bytes"]),
        _cells(["---"] * 4),
    ]
    for piece, place in zip(examined.pieces, own.places, strict=True):
        numbers = f"{piece.start:,} to {piece.stop - 1:,}"
        where = f"{place.start} to {place.stop - 1}"
        lines.append(_cells([f"`{piece.tensor}`", numbers, place.file, where]))
    if suite.repository is not None:
        first, commit = own.places[0], str(own.row["commit"])
        found = Place.of(suite.repository, commit) or Place(suite.repository, commit)
        url = f"{endpoint}/{found.repository}/resolve/{found.commit}/{found.path(first.file)}"
        ask = f"curl -sL -r {first.start}-{first.stop - 1} {url} | sha256sum"
        lines += ["", "```sh", ask, "```"]
    return [*lines, "", "</details>", ""]


def _cells(cells: Sequence[str]) -> str:
    escaped = (one_line(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def write(folder: Path, text: str, found: Sequence[Examined]) -> list[Path]:
    """Write ``report.md``, and each path as ``path-<trajectory>.html`` and ``.svg``.

    Raises TrajectoryError if they cannot be written.
    """
    from trajectory.report.figures import render

    files: dict[str, bytes] = {"report.md": text.encode()}
    for examined in found:
        stem = f"path-{examined.trajectory.replace('/', '-')}"
        chart = drawing.chart(examined, examined.trajectory)
        files[f"{stem}.svg"] = render(chart.to_dict(), stem)["svg"]
        files[f"{stem}.html"] = chart.to_html(inline=True).encode()
    for name, content in files.items():
        with atomic(folder / name) as handle:
            handle.write(content)
    return [folder / name for name in files]
