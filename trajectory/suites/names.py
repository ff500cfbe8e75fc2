"""Names of revisions."""

from __future__ import annotations

import re

_STAGED = re.compile(r"^stage(?P<stage>\d+)-step(?P<step>\d+)$")


def revision_name(step: int, stage: int = 1) -> str:
    """The name of a step of a local suite, in the form of OLMo-3's: stage1-step1000."""
    return f"stage{stage}-step{step}"


def parse_revision(name: str) -> tuple[int, int] | None:
    """(stage, step) of such a name; None if it is not one."""
    found = _STAGED.match(name)
    return (int(found["stage"]), int(found["step"])) if found else None
