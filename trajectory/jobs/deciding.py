"""What decides the rows of a job on a checkpoint: one list, for the workflow's rules and for the
commands that they run.

A rule is run again when one of its parameters changes; the command then measures those checkpoints
whose tables bear another key. Both are made here, so that neither can overlook what the other sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trajectory.checkpoints.listed import CHANGED_FROM, MEASURED_FROM
from trajectory.config import Config
from trajectory.config.probe import Probe
from trajectory.provenance import code_digest, values_digest


@dataclass(frozen=True)
class Kind:
    """A kind of job on checkpoints.

    Attributes:
        code: the module whose code decides the rows.
        columns: those of a checkpoint's listed row that do.
        section: of the probe, which only this kind reads; None if it reads none.
        besides: keys of a suite and of the probe that it does not read.
    """

    code: str
    columns: tuple[str, ...]
    section: str | None = None
    besides: frozenset[str] = frozenset()


MEASURE = Kind("trajectory.jobs.measure", MEASURED_FROM)
_OF_LOSSES = frozenset({"loss", "rounded_loss"})
INTERVENE = Kind("trajectory.jobs.intervene", CHANGED_FROM, "interventions", _OF_LOSSES)
FORCES = Kind("trajectory.jobs.forces", CHANGED_FROM, "forces", _OF_LOSSES)


def decided_by(
    kind: Kind, config: Config, suite: str, row: Mapping[str, Any] | None
) -> dict[str, Any]:
    """All that decides a checkpoint's rows, beside the suite's token batches.

    Args:
        kind: of job.
        config: the run.
        suite: one of its suites.
        row: the checkpoint's, of the selection or the manifest; None where that is a file which the
            rule has as an input.
    """
    public = config.suites.public().get(suite)
    of_suite = {} if public is None else public.of_rows()
    settings = None if kind.section is None else getattr(config.probe, kind.section)
    return {
        "code": code_digest(kind.code),
        "listed": None if row is None else {name: row[name] for name in kind.columns},
        "probe": _read(config.probe.of_rows(), kind),
        "suite": _read(of_suite, kind),
        "settings": settings and settings.model_dump(mode="json"),
    }


def _read(values: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """The values that a kind of job reads."""
    return {name: value for name, value in values.items() if name not in kind.besides}


def decided_digest(
    kind: Kind, config: Config, suite: str, row: Mapping[str, Any] | None = None
) -> str:
    """A rule's parameter: twelve hex digits that change when something does that decides rows."""
    return values_digest(decided_by(kind, config, suite, row))


def row_key(kind: Kind, config: Config, suite: str, row: Mapping[str, Any], batches: str) -> str:
    """The key that a checkpoint's tables bear: they are its own as long as this is the same.

    Args:
        kind, config, suite, row: as of ``decided_by``.
        batches: digest of the suite's token batches.
    """
    return values_digest({"batches": batches, **decided_by(kind, config, suite, row)})


def probe_of(config: Config, suite: str) -> Probe:
    """The probe as a suite's token batches are made by it: with the suite's own first token.

    Raises TrajectoryError if the run has no such suite.
    """
    if suite in config.suites.embedded():
        return config.probe
    policy = config.suites.suite(suite).first_token
    return config.probe.model_copy(update={"first_token": policy} if policy else {})
