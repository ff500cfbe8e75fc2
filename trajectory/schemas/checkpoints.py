"""The ``checkpoints`` table: losses, rates over all heads, and measured value."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import (
    DOMAIN,
    SINK_RATE_THRESHOLD,
    STEP,
    TOKENS,
    TRAJECTORY,
    Table,
    field,
    number,
)

CHECKPOINTS = Table(
    "checkpoints",
    "trajectory × step × domain",
    ("trajectory", "step", "domain"),
    (
        TRAJECTORY,
        STEP,
        TOKENS,
        DOMAIN,
        number(
            "loss",
            "mean negative log-likelihood per predicted token of the domain on held-out data; empty where the suite's config leaves it out",
            "nats/token",
            nullable=True,
        ),
        number(
            "loss_se",
            "standard error of that loss, from its spread over sequences; empty for fewer than two sequences",
            "nats/token",
            nullable=True,
        ),
        number(
            "loss_8_bits",
            "the loss with every matrix of the blocks rounded to 8 bits: to the nearest multiple of its output row's greatest magnitude / 127; empty where the config does not ask for it",
            "nats/token",
            nullable=True,
        ),
        number(
            "loss_4_bits",
            "the same with 4 bits: to the nearest multiple of the row's greatest magnitude / 7",
            "nats/token",
            nullable=True,
        ),
        field("predictions", pa.int64(), "predicted tokens averaged over", unit="tokens"),
        number(
            "risk",
            "BB: mean cross-entropy against the oracle's next-token law (trigger: backcopy risk; "
            "non_trigger: bigram risk)",
            "nats/token",
            "arXiv 2410.13835, get_risk; position 0 with the law that generates it",
            nullable=True,
        ),
        number(
            "excess_risk", "BB: risk minus the oracle's own entropy", "nats/token", nullable=True
        ),
        number(
            "excess_risk_bb",
            "BB: excess_risk as in the paper's BB code: at position 0 against all unigrams, triggers "
            "included, which backcopy never draws there",
            "nats/token",
            "arXiv 2410.13835, get_risk",
            nullable=True,
        ),
        number("learning_rate", "learning rate of the next update", nullable=True),
        number(
            "integrated_learning_rate",
            "sum of the learning rates of the updates taken",
            nullable=True,
        ),
        number(
            "sink_rate",
            f"share of sequences, layers and heads whose own mean A_is exceeds {SINK_RATE_THRESHOLD}",
            source="Sink^ε of arXiv 2410.10781, own row excluded",
        ),
        number(
            "own_sink_rate",
            f"share of sequences, layers and heads with some key whose column mass exceeds {SINK_RATE_THRESHOLD}, whichever key it is",
            nullable=True,
        ),
        number(
            "column_sum_rate",
            f"share of sequences and layers whose mean over heads of A_is exceeds {SINK_RATE_THRESHOLD}",
            source="ColSumRate of arXiv 2510.06477, own row excluded",
        ),
        number(
            "delimiter_share",
            "share of heads and sequences in which the key with the greatest column mass is a delimiter or a mark of a text's end, not position 0",
            nullable=True,
        ),
        field("revision", pa.string(), "checkpoint's name, as published", nullable=True),
        field(
            "commit",
            pa.string(),
            "checkpoint's content: the hub's commit, or the SHA-256 of a local checkpoint",
            nullable=True,
        ),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("batch", pa.string(), "SHA-256 of the probe batch's token ids"),
        field("dtype", pa.string(), "floating-point type of the forward pass"),
        field("device", pa.string(), "where the forward pass ran: cpu, cuda or mps"),
        field(
            "bytes_read",
            pa.int64(),
            "bytes of weights read; empty where the model was in memory",
            unit="bytes",
            nullable=True,
        ),
        field(
            "audit",
            pa.string(),
            "verdict of the suite's manifest on this checkpoint",
            nullable=True,
        ),
    ),
)
