"""Tables about checkpoints, what became of them, and the tokens they are measured on."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import TOKENS, TRAJECTORY, Table, field, number

_SUITE = field("suite", pa.string(), "name of the suite")
_REVISION = field("revision", pa.string(), "name of the checkpoint, as published")
_COMMIT = field(
    "commit",
    pa.string(),
    "content that the name is pinned to: a commit, also as <commit>:<folder> or <repository>@<commit>, or for a local folder sha256: and a digest",
)
_STAGE = field(
    "stage", pa.int16(), "training stage, from 1; empty if the suite has one stage", nullable=True
)
_INGREDIENT = field(
    "ingredient",
    pa.int16(),
    "number of the run among several of the same stage, from 1",
    nullable=True,
)
_BYTES = field("bytes", pa.int64(), "size of the checkpoint's weights", unit="bytes", nullable=True)
_VERDICT = field(
    "verdict",
    pa.string(),
    "good (also step 0, if the next steps of its warm-up hold the same weights); unaudited; known_bad: reported by others; main_weights: all weight files equal main's; duplicate: all weight files equal another step's, or another revision has the same step; shared_shard: one of several files equals another revision's; missing_shard; changed_config: architecture, rotary positions or clipping differ from the rest of its trajectory; changed_dtype: only the floating-point type differs; pickle_only; no_weights; no_config; not_a_checkpoint: the name states no step, and there are others",
)
_REASON = field(
    "reason",
    pa.string(),
    "the verdict in words; for a good step 0, which later steps still hold its weights",
    nullable=True,
)
_LINK = field("link", pa.string(), "where the problem was reported", nullable=True)

MANIFEST = Table(
    "manifest",
    "suite × revision",
    ("suite", "revision"),
    (
        _SUITE,
        _REVISION,
        _COMMIT,
        field(
            "trajectory",
            pa.string(),
            "training run: the suite, or <suite>/stage<n>[-ingredient<k>] after the first stage. A single checkpoint whose name states no step has the suite, or <suite>/<revision> beside others. Empty where it is none",
            nullable=True,
        ),
        _STAGE,
        _INGREDIENT,
        field(
            "step",
            pa.int64(),
            "optimiser steps that the name states",
            unit="steps",
            nullable=True,
        ),
        TOKENS,
        field(
            "tokens_from",
            pa.string(),
            "where tokens comes from. counted: by the training run; steps: step × the suite's tokens per step; name: rounded in the name. Empty where unknown",
            nullable=True,
        ),
        _BYTES,
        field("files", pa.int16(), "number of files that hold the weights", nullable=True),
        field(
            "weights", pa.string(), "digest of the weights; equal for equal files", nullable=True
        ),
        field("config", pa.string(), "digest of config.json", nullable=True),
        field("dtype", pa.string(), "floating-point type that config.json states", nullable=True),
        *(
            field(name, pa.int32(), f"{what} that config.json states", nullable=True)
            for name, what in (
                ("layers", "number of decoder blocks"),
                ("heads", "number of query heads per block"),
                ("width", "width of the residual stream"),
                ("mlp", "width of the MLP's inner layer"),
                ("vocabulary", "number of rows of the embedding"),
            )
        ),
        number("learning_rate", "learning rate of the next update", nullable=True),
        number(
            "integrated_learning_rate",
            "sum of the learning rates of all updates taken",
            nullable=True,
        ),
        field(
            "missing_before",
            pa.int32(),
            "number of checkpoints missing since the one before, at the trajectory's usual spacing",
            nullable=True,
        ),
        _VERDICT,
        _REASON,
        field(
            "same_as",
            pa.list_(pa.string()),
            "revisions that hold the same weights or share a shard",
            nullable=True,
        ),
        _LINK,
        field(
            "excluded", pa.bool_(), "whether it is never selected, by its verdict or by the config"
        ),
    ),
)

SELECTION = Table(
    "selection",
    "suite × revision",
    ("suite", "revision"),
    (
        _SUITE,
        _REVISION,
        _COMMIT,
        TRAJECTORY,
        _STAGE,
        _INGREDIENT,
        field(
            "step",
            pa.int64(),
            "optimiser steps; empty for a single checkpoint whose name states none",
            unit="steps",
            nullable=True,
        ),
        TOKENS,
        _BYTES,
        field(
            "chosen",
            pa.string(),
            "why it was chosen. config: by the config's rule; densify: to narrow an onset; hand: added by you",
        ),
        _VERDICT,
    ),
)

OUTCOMES = Table(
    "outcomes",
    "suite × revision",
    ("suite", "revision"),
    (
        _SUITE,
        field(
            "revision",
            pa.string(),
            "name of the checkpoint, as published; * stands for all of a suite that could not be pinned",
        ),
        field("commit", pa.string(), "content that the name is pinned to; empty for *"),
        field("trajectory", pa.string(), "training run that it belongs to", nullable=True),
        _STAGE,
        _INGREDIENT,
        field("step", pa.int64(), "optimiser steps", unit="steps", nullable=True),
        TOKENS,
        _BYTES,
        field(
            "status",
            pa.string(),
            "measured; failed: selected, but could not be measured; excluded: by its verdict or by the config; not_selected",
        ),
        _VERDICT,
        field("error", pa.string(), "kind of failure", nullable=True),
        _REASON,
        _LINK,
    ),
)

BATCHES = Table(
    "batches",
    "suite × domain × sequence",
    ("suite", "domain", "sequence"),
    (
        field("suite", pa.string(), "suite whose tokenizer was used"),
        field("domain", pa.string(), "kind of text"),
        field("sequence", pa.int32(), "number of the sequence, from 0"),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("tokens", pa.list_(pa.int32()), "token ids of the sequence"),
        field("texts", pa.list_(pa.string()), "the tokens as the tokenizer writes them"),
        field("ends", pa.list_(pa.int32()), "ids of tokens that begin or end a text"),
    ),
)
