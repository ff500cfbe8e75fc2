"""The whole examination: every step in turn, whatever the others found."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trajectory.config.fetch import Fetch
from trajectory.doctor import branches, contact
from trajectory.doctor.devices import compare_devices
from trajectory.doctor.report import report
from trajectory.doctor.steps import Step, take
from trajectory.hub.client import Hub

PATIENCE = 20.0
"""Seconds without progress to keep asking for names: there are many to ask for."""


def examine(names: Sequence[str] = (), hub: Hub | None = None) -> tuple[list[Step], str]:
    """Take every step; the steps, and the report of them.

    Args:
        names: suites whose branches are listed; all of the registry if none are named.
        hub: what is asked for branches; the one of ``HF_ENDPOINT`` if None.

    Raises:
        TrajectoryError: for a suite that the registry does not have. What fails in a step is told.
    """
    suites = branches.suites_of(names)
    hub = hub or Hub(Fetch(patience=PATIENCE))
    with tempfile.TemporaryDirectory(prefix="trajectory-doctor-") as folder:
        of = contact.Contact(*contact.smallest(), hub, Path(folder))
        steps = [take("branches", partial(branches.look, hub=hub, suites=suites))]
        for name, action in (
            ("choose", contact.choose),
            ("download", contact.download),
            ("stream", contact.stream),
            ("rows", contact.compare_rows),
            ("plain", contact.compare_with_plain),
            ("device", compare_devices),
        ):
            steps.append(take(name, partial(action, contact=of)))
    return steps, report(steps, hub.api.endpoint)
