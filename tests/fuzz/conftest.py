from __future__ import annotations

from collections.abc import Iterator

import pytest

from .mutations import say_what_was_tried


@pytest.fixture(autouse=True)
def _told() -> Iterator[None]:
    """Each test tells what it tried when it ends, whichever process it ran in."""
    yield
    say_what_was_tried()
