from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trajectory.config.fetch import Fetch
from trajectory.hub.client import Hub

from .hostile import HostileHub, hostile
from .server import StandIn, serving


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with serving(StandIn()) as hub:
        yield hub


@pytest.fixture
def enemy() -> Iterator[HostileHub]:
    """A hub that answers what it likes."""
    with hostile() as hub:
        yield hub


@pytest.fixture
def hub(standin: StandIn, tmp_path: Path) -> Hub:
    """The real client, pointed at the stand-in."""
    return Hub(Fetch(timeout=1.0, patience=1.0), standin.endpoint, tmp_path / "cache")
