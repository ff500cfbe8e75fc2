"""Fetching checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field

from trajectory.config.base import Count, Rate, Section, Size


class Fetch(Section):
    """How checkpoints are fetched, and where they are stored."""

    folder: Path | None = None
    """Folder of weights while they are measured, or for good if they are kept; <results>/downloads
    if null. Each job replaces ~ and $NAMES of environment variables, as in $TMPDIR/weights. Other
    files in it are left alone."""
    disk: Size | None = None
    """Maximum bytes of weights in that folder at once; jobs wait for room. Kept weights do not
    count."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Seconds without a byte after which a connection counts as dead."""
    patience: Annotated[float, Field(ge=0)] = 300.0
    """Seconds without progress to keep retrying when the hub is busy, broken or asks to wait; after
    that the checkpoint fails."""
    connections: Count = 4
    """Files or ranges of one checkpoint to fetch at once."""
    bandwidth: Rate = ByteSize(100_000_000)
    """Bytes per second that `trajectory plan` assumes."""
