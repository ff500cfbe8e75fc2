"""The contract between the stages: the columns of every table, with units and definitions.

Every measured number, from a Bigram-Backcopy run or a language model, is a row of ``heads``,
``layers`` or ``checkpoints``. A column's one definition is the metadata of its field here; the
documentation and the report's tooltips are generated from it.
"""

from trajectory.schemas.alignment import ALIGNED, ALIGNMENT_SCALES, ALIGNMENTS, THEORY_CURVES
from trajectory.schemas.base import MIN_QUERY, SINK_RATE_THRESHOLD, Table
from trajectory.schemas.bb import (
    BB_COMPARISONS,
    BB_INTERVENED,
    BB_INTERVENTIONS,
    BB_MAPS,
    BB_MILESTONES,
    BB_RESIDUALS,
    BB_SCALARS,
    BB_TYPES,
    COMPARED,
)
from trajectory.schemas.bundles import BUNDLE
from trajectory.schemas.careers import CAREERS, ROLE_CHANGES, ROLE_ORDER
from trajectory.schemas.checkpoints import CHECKPOINTS
from trajectory.schemas.claims import CLAIMS
from trajectory.schemas.costs import COSTS
from trajectory.schemas.families import ONSET_SIZES, TRAJECTORIES
from trajectory.schemas.fitted import LAWS, PHENOMENA, SEEDS
from trajectory.schemas.forces import ARROWS, FORCE_LAYERS, FORCE_MEANS, FORCE_TABLES, FORCES
from trajectory.schemas.forks import FORKS
from trajectory.schemas.heads import HEADS
from trajectory.schemas.holds import HOLDS
from trajectory.schemas.interventions import HEAD_EFFECTS, INTERVENTION_LAYERS, INTERVENTIONS
from trajectory.schemas.layers import LAYERS
from trajectory.schemas.onsets import CONTRASTS, GATES, LEADS, ONSETS
from trajectory.schemas.reinforcement import (
    MOTION_TESTS,
    MOTIONS,
    REINFORCEMENT,
    REINFORCEMENT_TABLES,
)
from trajectory.schemas.suites import BATCHES, MANIFEST, OUTCOMES, SELECTION

__all__ = [
    "ALIGNED",
    "ALIGNMENTS",
    "ALIGNMENT_SCALES",
    "ARROWS",
    "BATCHES",
    "BB_COMPARISONS",
    "BB_INTERVENED",
    "BB_INTERVENTIONS",
    "BB_MAPS",
    "BB_MEASUREMENTS",
    "BB_MILESTONES",
    "BB_RESIDUALS",
    "BB_SCALARS",
    "BB_SUMMARIES",
    "BB_TYPES",
    "BUNDLE",
    "CAREERS",
    "CHECKPOINTS",
    "CLAIMS",
    "COMPARED",
    "CONTRASTS",
    "COSTS",
    "EFFECTS",
    "FORCES",
    "FORCE_LAYERS",
    "FORCE_MEANS",
    "FORCE_TABLES",
    "FORKS",
    "GATES",
    "HEADS",
    "HEAD_EFFECTS",
    "HOLDS",
    "INTERVENTIONS",
    "INTERVENTION_LAYERS",
    "LAWS",
    "LAYERS",
    "LEADS",
    "MANIFEST",
    "MEASUREMENTS",
    "MIN_QUERY",
    "MOTIONS",
    "MOTION_TESTS",
    "ONSETS",
    "ONSET_SIZES",
    "OUTCOMES",
    "PHENOMENA",
    "REINFORCEMENT",
    "REINFORCEMENT_TABLES",
    "ROLE_CHANGES",
    "ROLE_ORDER",
    "SEEDS",
    "SELECTION",
    "SINK_RATE_THRESHOLD",
    "TABLES",
    "THEORY_CURVES",
    "TRAJECTORIES",
    "Table",
]

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        *(HEADS, LAYERS, CHECKPOINTS),
        *(MANIFEST, SELECTION, OUTCOMES, BATCHES, BUNDLE, COSTS),
        *(ONSETS, LEADS, LAWS, PHENOMENA, SEEDS, CONTRASTS, GATES),
        *(CAREERS, ROLE_CHANGES, ROLE_ORDER),
        *(TRAJECTORIES, ONSET_SIZES),
        *(THEORY_CURVES, ALIGNMENTS, ALIGNMENT_SCALES, ALIGNED),
        *(BB_TYPES, BB_RESIDUALS, BB_MAPS, BB_INTERVENTIONS, BB_INTERVENED),
        *(BB_SCALARS, BB_MILESTONES, BB_COMPARISONS),
        FORKS,
        HOLDS,
        *(FORCES, FORCE_MEANS, FORCE_LAYERS, ARROWS),
        *(REINFORCEMENT, MOTIONS, MOTION_TESTS),
        CLAIMS,
        *(INTERVENTIONS, INTERVENTION_LAYERS, HEAD_EFFECTS),
    )
}
MEASUREMENTS = ("heads", "layers", "checkpoints")
BB_MEASUREMENTS = ("bb_types", "bb_residuals", "bb_maps", "bb_interventions", "bb_intervened")
"""What a Bigram-Backcopy run writes besides the measurements."""
BB_SUMMARIES = ("bb_scalars", "bb_milestones", "bb_comparisons")
"""What is computed from the tables of all Bigram-Backcopy runs together."""
EFFECTS = ("interventions", "intervention_layers", "head_effects")
"""What a checkpoint's interventions are written to."""
