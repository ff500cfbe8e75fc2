"""Parameters of tests, of which some are left to the thorough tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def rarely(parameters: Iterable[Any], usual: Collection[Any]) -> list[Any]:
    """The same parameters; those that are not usual are marked as thorough.

    A tuple is several parameters.
    """
    marked = []
    for one in parameters:
        values = one if isinstance(one, tuple) else (one,)
        marks = () if one in usual else (pytest.mark.thorough,)
        marked.append(pytest.param(*values, marks=marks))
    return marked
