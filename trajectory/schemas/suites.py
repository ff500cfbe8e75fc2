"""Tables about checkpoints, what became of them, and the tokens they are measured on."""

from __future__ import annotations

import pyarrow as pa

from trajectory.schemas.base import TOKENS, TRAJECTORY, Table, field, number

_SUITE = field("suite", pa.string(), "name of the suite")
_REVISION = field("revision", pa.string(), "checkpoint's name, as published")
_COMMIT = field(
    "commit",
    pa.string(),
    "content the name is pinned to: a commit, also as <commit>:<folder> or <repository>@<commit>; sha256: and a digest in a local folder",
)
_STAGE = field(
    "stage", pa.int16(), "training stage, from 1; null if the suite has one stage", nullable=True
)
_INGREDIENT = field(
    "ingredient", pa.int16(), "one of several runs of the same stage, from 1", nullable=True
)
_BYTES = field("bytes", pa.int64(), "size of its weights", unit="bytes", nullable=True)
_VERDICT = field(
    "verdict",
    pa.string(),
    "good, which step 0 is although the next steps of its warm-up hold the same weights; unaudited; known_bad: reported by others; main_weights: all weight files equal main's; "
    "duplicate: all equal another step's, or another revision has the same step; "
    "shared_shard: one of several files equals another revision's; "
    "missing_shard; changed_config: architecture, rotary positions or clipping differ from the rest "
    "of its trajectory; changed_dtype: only the floating-point type does; pickle_only; no_weights; no_config; not_a_checkpoint: the name states no step, and there are others",
)
_REASON = field(
    "reason",
    pa.string(),
    "the verdict in words; of a good step 0, which later steps still hold its weights",
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
            "training run: the suite, or <suite>/stage<n>[-ingredient<k>] after the first stage; of a single checkpoint whose name states no step the suite, or <suite>/<revision> beside others; null where it is none",
            nullable=True,
        ),
        _STAGE,
        _INGREDIENT,
        field(
            "step",
            pa.int64(),
            "optimiser steps, as its name states them",
            unit="steps",
            nullable=True,
        ),
        TOKENS,
        field(
            "tokens_from",
            pa.string(),
            "counted: by the training run; steps: step × the suite's tokens per step; name: rounded in the name; null: unknown",
            nullable=True,
        ),
        _BYTES,
        field("files", pa.int16(), "files that hold its weights", nullable=True),
        field(
            "weights", pa.string(), "digest of the weights: equal for equal files", nullable=True
        ),
        field("config", pa.string(), "digest of config.json", nullable=True),
        field("dtype", pa.string(), "floating-point type that config.json states", nullable=True),
        *(
            field(name, pa.int32(), f"{what}, as config.json states them", nullable=True)
            for name, what in (
                ("layers", "decoder blocks"),
                ("heads", "query heads per block"),
                ("width", "numbers per position of the residual stream"),
                ("mlp", "numbers per position of the MLP's inner layer"),
                ("vocabulary", "rows of the embedding"),
            )
        ),
        number("learning_rate", "learning rate of the next update", nullable=True),
        number(
            "integrated_learning_rate",
            "sum of the learning rates of the updates taken",
            nullable=True,
        ),
        field(
            "missing_before",
            pa.int32(),
            "checkpoints missing since the one before it, at the trajectory's usual spacing",
            nullable=True,
        ),
        _VERDICT,
        _REASON,
        field(
            "same_as",
            pa.list_(pa.string()),
            "revisions that hold the same weights, or share a shard",
            nullable=True,
        ),
        _LINK,
        field("excluded", pa.bool_(), "never selected, by the verdict or by the config"),
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
            "config: by the config's rule; densify: to narrow an onset; hand: added by you",
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
            "checkpoint's name, as published; * for all of a suite that could not be pinned",
        ),
        field("commit", pa.string(), "content the name is pinned to; empty for *"),
        field("trajectory", pa.string(), "the training run it belongs to", nullable=True),
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
        field("error", pa.string(), "kind of the failure", nullable=True),
        _REASON,
        _LINK,
    ),
)

BATCHES = Table(
    "batches",
    "suite × domain × sequence",
    ("suite", "domain", "sequence"),
    (
        field("suite", pa.string(), "name of the suite, whose tokenizer was used"),
        field("domain", pa.string(), "what the text is"),
        field("sequence", pa.int32(), "sequence, from 0"),
        field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        field("tokens", pa.list_(pa.int32()), "token ids"),
        field("texts", pa.list_(pa.string()), "the tokens as the tokenizer writes them"),
        field("ends", pa.list_(pa.int32()), "ids of the tokens that begin or end a text"),
    ),
)
