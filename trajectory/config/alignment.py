"""Settings of the collapse of trajectories on one axis."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trajectory.config.base import Section


class Alignment(Section):
    """The collapse of trajectories on one axis."""

    surrogates: Annotated[int, Field(ge=19)] = 99
    """Surrogate runs behind each score's null distribution."""
    bootstraps: Annotated[int, Field(ge=20)] = 99
    """Block-bootstrap replicates behind each scale's interval."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of both."""
