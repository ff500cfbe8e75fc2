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
            "mean negative log-likelihood per predicted token of the domain's held-out data; empty where the suite's config leaves it out",
            "nats/token",
            nullable=True,
        ),
        number(
            "loss_se",
            "standard error of loss, from its spread over sequences; empty for fewer than two sequences",
            "nats/token",
            nullable=True,
        ),
        number(
            "loss_8_bits",
            "loss with every matrix of the blocks rounded to 8 bits: to the nearest multiple of its output row's largest magnitude / 127; empty unless the config asks for it",
            "nats/token",
            nullable=True,
        ),
        number(
            "loss_4_bits",
            "loss with every matrix of the blocks rounded to 4 bits: to the nearest multiple of its output row's largest magnitude / 7; empty unless the config asks for it",
            "nats/token",
            nullable=True,
        ),
        field("predictions", pa.int64(), "number of predicted tokens averaged over", unit="tokens"),
        number(
            "risk",
            "BB: mean cross-entropy against the oracle's next-token law; the backcopy risk on trigger, the bigram risk on non_trigger",
            "nats/token",
            "arXiv 2410.13835, get_risk; position 0 with the law that generates it",
            nullable=True,
        ),
        number(
            "excess_risk", "BB: risk minus the oracle's own entropy", "nats/token", nullable=True
        ),
        number(
            "excess_risk_bb",
            "BB: excess_risk of the paper's BB code. It holds position 0 against all unigrams, triggers included, which backcopy never draws there",
            "nats/token",
            "arXiv 2410.13835, get_risk",
            nullable=True,
        ),
        number("learning_rate", "learning rate of the next update", nullable=True),
        number(
            "integrated_learning_rate",
            "sum of the learning rates of all updates taken",
            nullable=True,
        ),
        number(
            "sink_rate",
            f"share of sequences, layers and heads whose own mean A_is exceeds {SINK_RATE_THRESHOLD}",
            source="Sink^ε of arXiv 2410.10781, own row excluded",
        ),
        number(
            "own_sink_rate",
            f"share of sequences, layers and heads in which some key's column mass exceeds {SINK_RATE_THRESHOLD}, whichever key it is",
            nullable=True,
        ),
        number(
            "column_sum_rate",
            f"share of sequences and layers in which A_is, averaged over heads and queries, exceeds {SINK_RATE_THRESHOLD}",
            source="ColSumRate of arXiv 2510.06477, own row excluded",
        ),
        number(
            "delimiter_share",
            "share of heads and sequences in which the key with the largest column mass is a delimiter or a mark of a text's end, not position 0",
            nullable=True,
        ),
        field("revision", pa.string(), "name of the checkpoint, as published", nullable=True),
        field(
            "commit",
            pa.string(),
            "content of the checkpoint: the hub's commit, or the SHA-256 of a local checkpoint",
            nullable=True,
        ),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("batch", pa.string(), "SHA-256 of the probe batch's token ids"),
        field("dtype", pa.string(), "floating-point type of the forward pass"),
        field("device", pa.string(), "device of the forward pass: cpu, cuda or mps"),
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
