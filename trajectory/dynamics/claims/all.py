"""The whole ledger of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajectory.config import Config
from trajectory.dynamics.claims.careers import OF_HEADS
from trajectory.dynamics.claims.causes import CAUSES
from trajectory.dynamics.claims.data import DATA
from trajectory.dynamics.claims.evidence import Evidence
from trajectory.dynamics.claims.forces import FORCED
from trajectory.dynamics.claims.forks import FORKED
from trajectory.dynamics.claims.holds import HELD
from trajectory.dynamics.claims.ledger import Criterion, claim_rows
from trajectory.dynamics.claims.llama import LLAMAS
from trajectory.dynamics.claims.null_targets import RESTS
from trajectory.dynamics.claims.peaks import PEAKS
from trajectory.dynamics.claims.pretrained import PRETRAINED
from trajectory.dynamics.claims.queried import queried
from trajectory.dynamics.claims.theoretical import THEORY
from trajectory.dynamics.claims.toy import TOY
from trajectory.errors import TrajectoryError

CRITERIA: tuple[Criterion, ...] = (
    *DATA.criteria,
    *TOY.criteria,
    *RESTS.criteria,
    *HELD.criteria,
    *CAUSES.criteria,
    *FORCED.criteria,
    *FORKED.criteria,
    *PEAKS.criteria,
    *THEORY.criteria,
    *LLAMAS.criteria,
    *PRETRAINED.criteria,
    *OF_HEADS.criteria,
)


def tables_needed() -> list[str]:
    """Every table that some criterion reads."""
    named = {name for one in CRITERIA for name in one.tables}
    return sorted(named | {"checkpoints", "phenomena", "trajectories"})


def ledger(results: Path, config: Config) -> list[dict[str, Any]]:
    """Rows of the ``claims`` table of a run: the paper's claims, then those of the config's files.

    Raises TrajectoryError for no table or one that is not ours, and for a file that is wrong.
    """
    more = list(queried(config.claims, [one.claim.name for one in CRITERIA]))
    read = {*tables_needed(), *(name for one in more for name in one.tables)}
    evidence = Evidence.read(results, config, sorted(read))
    if not evidence.frames:
        raise TrajectoryError(f"{results}: no tables of a run to check claims against")
    return list(claim_rows([*CRITERIA, *more], evidence))
