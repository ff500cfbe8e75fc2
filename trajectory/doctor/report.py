"""The report of an examination: one screen that can be pasted into an issue."""

from __future__ import annotations

import getpass
import os
import platform
import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from trajectory import __version__
from trajectory.doctor.steps import Failure, Step
from trajectory.errors import without_secrets

WIDTH = 80
"""Columns of the screen."""

SHOWN = 2
"""Failures of one cause that are shown, and causes; standard error has them all."""

MOST = 320
"""Characters of a failure that are shown."""

_LIBRARIES = ("torch", "transformers", "huggingface_hub")


def report(steps: Sequence[Step], endpoint: str) -> str:
    """The report's lines, none wider than ``WIDTH``, without secrets.

    Args:
        steps: of the examination.
        endpoint: the hub's address.
    """
    failed = [step.name for step in steps if step.failures]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "nothing failed"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    versions = " · ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    head = [
        f"trajectory doctor {__version__} · {now} · {verdict}",
        f"python {platform.python_version()} · {versions}",
        f"{platform.system()} {platform.machine()} · {os.cpu_count()} cores · hub {endpoint} "
        f"{'with' if _token() else 'without'} a token",
    ]
    lines = [line for text in head for line in _folded(text, "", "  ")]
    for step in steps:
        lines += _of(step)
    return "\n".join(lines)


def _of(step: Step) -> list[str]:
    took = "" if step.status == "skipped" else f"{step.seconds:.0f} s"
    mark = f"{step.status:<8}{step.name:<9}{took:>5}  "
    lines: list[str] = []
    for text in [*step.found, *_failures(step.failures)]:
        lines += _folded(text, " " * len(mark) if lines else mark, " " * len(mark))
    return lines


def _failures(failures: Sequence[Failure]) -> list[str]:
    """The first failures of each cause, with its advice, and how many there are besides."""
    causes: dict[str, list[str]] = {}
    for failure in failures:
        causes.setdefault(failure.advice, []).append(_short(failure.reason))
    lines, shown = [], 0
    for advice, reasons in list(causes.items())[:SHOWN]:
        lines += [*reasons[:SHOWN], f"→ {advice}"]
        shown += len(reasons[:SHOWN])
    if shown < len(failures):
        lines.append(f"and {len(failures) - shown} more, printed above this report")
    return lines


def _short(text: str) -> str:
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def _folded(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        pasteable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
    )


def pasteable(text: str) -> str:
    """The text without access tokens, passwords, and names of users in paths."""
    if token := _token():
        text = text.replace(token, "…")
    text = without_secrets(text)
    home = Path.home()
    text = re.sub(rf"{re.escape(str(home))}(?=/|\b)", "~", text) if home.name else text
    for name in {home.name, _user()} - {"", "root"}:
        text = re.sub(rf"(?<=[/\\]){re.escape(name)}(?![\w.-])", "…", text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def _token() -> str | None:
    """The access token; None where there is none, or it cannot be read."""
    from huggingface_hub import get_token

    try:
        return get_token()
    except (OSError, UnicodeDecodeError):
        return None
