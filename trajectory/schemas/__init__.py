"""The contract between the stages: the columns of every table, with units and definitions.

Every measured number, from a Bigram-Backcopy run or a language model, is a row of ``heads``,
``layers`` or ``checkpoints``. A column's one definition is the metadata of its field here; the
documentation and the report's tooltips are generated from it.
"""

from trajectory.schemas.base import MIN_QUERY, SINK_RATE_THRESHOLD, Table
from trajectory.schemas.fitted import CONTRASTS, LAWS, ONSETS, PHENOMENA
from trajectory.schemas.measured import CHECKPOINTS, HEADS, LAYERS
from trajectory.schemas.suites import BATCHES, MANIFEST

__all__ = [
    "BATCHES",
    "CHECKPOINTS",
    "CONTRASTS",
    "HEADS",
    "LAWS",
    "LAYERS",
    "MANIFEST",
    "MEASUREMENTS",
    "MIN_QUERY",
    "ONSETS",
    "PHENOMENA",
    "SINK_RATE_THRESHOLD",
    "TABLES",
    "Table",
]

TABLES: dict[str, Table] = {
    t.name: t
    for t in (HEADS, LAYERS, CHECKPOINTS, MANIFEST, BATCHES, ONSETS, LAWS, PHENOMENA, CONTRASTS)
}
MEASUREMENTS = ("heads", "layers", "checkpoints")
