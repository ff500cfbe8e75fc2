"""The ledger of the paper's claims."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import Table, field, number

CLAIMS = Table(
    "claims",
    "claim × criterion × subject × domain",
    ("claim", "criterion", "subject", "domain"),
    (
        field("claim", pa.string(), "short name of the claim"),
        field("criterion", pa.string(), "name of one condition of the claim"),
        field(
            "subject",
            pa.string(),
            "what the verdict is about: a trajectory, a group of seeds (bb/<variant>), a comparison (a vs b), or run",
        ),
        field("domain", pa.string(), "domain it is decided on, or all"),
        field("world", pa.string(), "where it is measured: bb, language_model or both"),
        field("statement", pa.string(), "what the paper says, in short"),
        field(
            "source",
            pa.string(),
            "section or figure of arXiv 2410.13835 or of another paper, or a note that the claim is this project's",
        ),
        field("computation", pa.string(), "how the measured value is computed"),
        number("measured", "value that decides", nullable=True),
        field("unit", pa.string(), "unit of the value; empty for a ratio or share"),
        number("low", "lower end of the value's 95 % interval", nullable=True),
        number("high", "upper end of that interval", nullable=True),
        field(
            "interval",
            pa.string(),
            "source of the interval: seeds (Student); records (a line with AR(1) noise through the checkpoints, or for a moment the checkpoints around it); bootstrap; profile; jackknife (Student); binomial (Wilson); evidence (the AICc difference that decides); evidence and seeds, or binomial and seeds (the wider of the two); two joined by and (of a difference); sequences; layers; rows (Student, of a query); exact (counted, integrated, or read off fixed weights and text); none, which leaves it undecided",
        ),
        field("threshold", pa.string(), "what counts as reproduced, in words"),
        number("at_least", "lower limit of what counts as reproduced", nullable=True),
        number("at_most", "upper limit of what counts as reproduced", nullable=True),
        field(
            "verdict",
            pa.string(),
            "reproduced: the whole interval lies within the limits; not reproduced: the whole interval lies outside; undecided: the interval contains a limit; not measurable at this size: the model or its training is too small for the claim; not measurable: the run lacks what is needed",
        ),
        field("reason", pa.string(), "reason of the verdict, in one sentence with the numbers"),
        field(
            "tables",
            pa.string(),
            "tables whose rows decide, separated by commas",
        ),
    ),
)
