"""The contract between the stages: the columns of every table, with units and definitions.

Every measured number, from a Bigram-Backcopy run or a language model, is a row of ``heads``,
``layers`` or ``checkpoints``. A column's one definition is the metadata of its field here; the
documentation and the report's tooltips are generated from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

MIN_QUERY = 8
"""First query (counted from the sink) that enters logit statistics: a mean over fewer than eight
keys is mostly noise (statistics.md of the field calls these the early rows)."""

SINK_RATE_THRESHOLD = 0.3
"""ε of Sink^ε (Gu et al., arXiv 2410.10781)."""


def _field(
    name: str,
    dtype: pa.DataType,
    definition: str,
    *,
    unit: str = "",
    source: str = "",
    nullable: bool = False,
) -> pa.Field:
    metadata = {"definition": definition, "unit": unit, "source": source}
    return pa.field(name, dtype, nullable, {k: v for k, v in metadata.items() if v})


@dataclass(frozen=True)
class Table:
    """One kind of table: its name, what a row is, its columns and the columns that name a row."""

    name: str
    row: str
    key: tuple[str, ...]
    fields: tuple[pa.Field, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, definitions and units in each field's metadata."""
        return pa.schema(self.fields)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change when a column, its type or its definition changes."""
        parts = [(f.name, str(f.type), f.nullable, sorted(f.metadata.items())) for f in self.fields]
        return hashlib.sha256(repr((self.name, self.key, parts)).encode()).hexdigest()[:12]


_TRAJECTORY = _field(
    "trajectory", pa.string(), "one training run: bb/<variant>/seed<k>, or the suite's name"
)
_STEP = _field("step", pa.int64(), "optimiser steps taken before this measurement", unit="steps")
_TOKENS = _field(
    "tokens",
    pa.int64(),
    "training tokens seen before this measurement",
    unit="tokens",
    nullable=True,
)
_DOMAIN = _field(
    "domain",
    pa.string(),
    "positions or text averaged over: trigger / non_trigger (BB), prose / code (language models)",
)
_LAYER = _field("layer", pa.int16(), "decoder block, from 0")
_HEAD = _field("head", pa.int16(), "query head, from 0")


def _number(
    name: str, definition: str, unit: str = "", source: str = "", nullable: bool = False
) -> pa.Field:
    return _field(name, pa.float64(), definition, unit=unit, source=source, nullable=nullable)


HEADS = Table(
    "heads",
    "trajectory × step × domain × layer × query head",
    ("trajectory", "step", "domain", "layer", "head"),
    (
        _TRAJECTORY,
        _STEP,
        _TOKENS,
        _DOMAIN,
        _LAYER,
        _HEAD,
        _field(
            "kv_head",
            pa.int16(),
            "key-value head this query head reads (value and key norms repeat within a group)",
        ),
        _field("sink_position", pa.int32(), "key position s whose statistics are given, from 0"),
        _field(
            "sink_token",
            pa.string(),
            "token at the sink position, where it is the same in all sequences",
            nullable=True,
        ),
        _field("queries", pa.int64(), "queries i > s of this domain averaged over", unit="queries"),
        _number(
            "sink_weight",
            "mean over queries i > s of the attention weight A_is (the sink's own row excluded)",
            source="arXiv 2410.10781 α_1, own row excluded",
        ),
        _number(
            "sink_weight_floor",
            "the same mean for uniform causal attention, 1/(i+1)",
        ),
        _number(
            "sink_excess",
            "(sink_weight − sink_weight_floor) / (1 − sink_weight_floor): 0 uniform, 1 all on the sink",
        ),
        _number(
            "sink_rate",
            f"share of sequences whose own mean A_is exceeds {SINK_RATE_THRESHOLD}",
            source="Sink^ε of arXiv 2410.10781, own row excluded",
        ),
        _number(
            "delta_logit",
            f"Δlogit: mean over queries i ≥ s+{MIN_QUERY} of z_is − mean over visible keys j ≠ s of z_ij",
            "nats",
        ),
        _number(
            "delta_logit_sd", "standard deviation over the same queries of that difference", "nats"
        ),
        _number(
            "delta_logit_bb",
            "Δlogit as in the paper's BB code: mean over queries i ≥ s+2 of z_is − mean over s < j < i of z_ij",
            "nats",
            "arXiv 2410.13835, summarise_logits_difference",
        ),
        _number(
            "delta_logit_lm",
            "Δlogit as in the paper's OLMo notebook: mean over queries of z_is − mean over all keys, "
            "future keys and the sink included, before the mask",
            "nats",
            "arXiv 2410.13835, OLMo_pretraining.ipynb",
        ),
        _number(
            "sink_log_odds",
            f"mean over queries i ≥ s+{MIN_QUERY} of log A_is/(1 − A_is)",
            "nats",
            nullable=True,
        ),
        _number("row_entropy", "mean over queries i > s of H(A_i·) / ln(i+1)", nullable=True),
        _number("value_norm_sink", "mean over sequences of ‖v_s‖", "activation"),
        _number(
            "value_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖v_j‖",
            "activation",
        ),
        _number("value_ratio", "mean over sequences of ‖v_s‖ / median ‖v_j‖, j ≠ s"),
        _number(
            "output_value_norm_sink",
            "mean over sequences of ‖W_O v_s‖",
            "activation",
            "arXiv 2410.13835 fig. 2c",
        ),
        _number(
            "output_value_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖W_O v_j‖",
            "activation",
        ),
        _number("output_value_ratio", "mean over sequences of ‖W_O v_s‖ / median ‖W_O v_j‖, j ≠ s"),
        _number(
            "key_norm_sink", "mean over sequences of ‖k_s‖, after rotary embedding", "activation"
        ),
        _number(
            "key_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖k_j‖",
            "activation",
        ),
        _number("query_norm", "mean over queries i > s of ‖q_i‖", "activation"),
        _number("sink_cosine", "mean over queries i > s of cos(q_i, k_s)"),
        _number(
            "head_output_norm",
            "mean over queries i > s of ‖Σ_j A_ij v_j‖, before W_O",
            "activation",
            "HONOR, arXiv 2504.03889",
        ),
        _number(
            "first_visible_weight",
            "mean over queries i ≥ 1 of the weight on the first key they see: position 0, or the edge of a sliding window",
            nullable=True,
        ),
        _field(
            "top_position",
            pa.int32(),
            f"position with the greatest column mass: mean A_ij over later queries i > j that see it, among keys that at least {MIN_QUERY} queries per sequence see",
            nullable=True,
        ),
        _number("top_mass", "that column mass", nullable=True),
        _field(
            "second_position",
            pa.int32(),
            "position with the second greatest column mass",
            nullable=True,
        ),
        _number("second_mass", "that column mass", nullable=True),
        _field(
            "top_token",
            pa.string(),
            "token that most often has the greatest column mass of its sequence",
            nullable=True,
        ),
        _number("top_token_share", "share of sequences in which it does", nullable=True),
        _number(
            "top_is_sink",
            "share of sequences in which the sink position has the greatest column mass",
            nullable=True,
        ),
    ),
)

LAYERS = Table(
    "layers",
    "trajectory × step × domain × depth of the residual stream",
    ("trajectory", "step", "domain", "layer"),
    (
        _TRAJECTORY,
        _STEP,
        _TOKENS,
        _DOMAIN,
        _field(
            "layer",
            pa.int16(),
            "depth l: the residual stream that enters block l; the last depth is the stream that "
            "leaves the last block, before the final norm",
        ),
        _field("sink_position", pa.int32(), "position s, from 0"),
        _number("residual_norm_sink", "mean over sequences of ‖h_s‖", "activation"),
        _number(
            "residual_norm_rest",
            "mean over sequences of the median over the domain's positions j ≠ s of ‖h_j‖",
            "activation",
        ),
        _number(
            "residual_norm_rest_max",
            "mean over sequences of the maximum over the domain's positions j ≠ s of ‖h_j‖",
            "activation",
        ),
        _number("residual_ratio", "mean over sequences of ‖h_s‖ / median ‖h_j‖, j ≠ s"),
        _number(
            "residual_excess",
            "residual_norm_sink − mean over sequences and the domain's positions j ≠ s of ‖h_j‖",
            "activation",
            "'massive norm' of arXiv 2410.13835",
        ),
        _number(
            "massive_top",
            "greatest |h| of any position and channel",
            "activation",
            "arXiv 2402.17762",
        ),
        _field("massive_position", pa.int32(), "position of that activation"),
        _field("massive_channel", pa.int32(), "channel of that activation"),
        _number(
            "massive_median",
            "mean over sequences of the lower median of |h| over the domain's positions and channels",
            "activation",
            nullable=True,
        ),
        _number(
            "massive_ratio",
            "massive_top / massive_median",
            source="arXiv 2508.03616",
            nullable=True,
        ),
        _number("kurtosis", "mean over positions of D·Σh⁴ / (Σh²)²; 3 for a Gaussian"),
    ),
)

CHECKPOINTS = Table(
    "checkpoints",
    "trajectory × step × domain",
    ("trajectory", "step", "domain"),
    (
        _TRAJECTORY,
        _STEP,
        _TOKENS,
        _DOMAIN,
        _number(
            "loss",
            "mean negative log-likelihood per predicted token of the domain on held-out data",
            "nats/token",
        ),
        _number(
            "risk",
            "BB: mean cross-entropy against the oracle's next-token law (trigger: backcopy risk; "
            "non_trigger: bigram risk)",
            "nats/token",
            "arXiv 2410.13835, get_risk; position 0 with the law that generates it",
            nullable=True,
        ),
        _number(
            "excess_risk", "BB: risk minus the oracle's own entropy", "nats/token", nullable=True
        ),
        _number("learning_rate", "learning rate of the next update", nullable=True),
        _number(
            "integrated_learning_rate",
            "sum of the learning rates of the updates taken",
            nullable=True,
        ),
        _field("revision", pa.string(), "checkpoint's name, as published", nullable=True),
        _field(
            "commit",
            pa.string(),
            "checkpoint's content: the hub's commit, or the SHA-256 of a local checkpoint",
            nullable=True,
        ),
        _field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        _field("batch", pa.string(), "SHA-256 of the probe batch's token ids"),
        _field("dtype", pa.string(), "floating-point type of the forward pass"),
    ),
)

MANIFEST = Table(
    "manifest",
    "suite × revision",
    ("suite", "revision"),
    (
        _field("suite", pa.string(), "name of the suite"),
        _field("revision", pa.string(), "checkpoint's name, as published"),
        _field("commit", pa.string(), "content the name is pinned to"),
        _field("stage", pa.int16(), "training stage, from 1", nullable=True),
        _STEP,
        _TOKENS,
        _field("bytes", pa.int64(), "size of its weights", unit="bytes"),
        _number("learning_rate", "learning rate of the next update", nullable=True),
        _number(
            "integrated_learning_rate",
            "sum of the learning rates of the updates taken",
            nullable=True,
        ),
    ),
)

BATCHES = Table(
    "batches",
    "suite × domain × sequence",
    ("suite", "domain", "sequence"),
    (
        _field("suite", pa.string(), "name of the suite, whose tokenizer was used"),
        _field("domain", pa.string(), "what the text is"),
        _field("sequence", pa.int32(), "sequence, from 0"),
        _field("first_token", pa.string(), "first-token policy: bos, eos_prepended or raw"),
        _field("tokens", pa.list_(pa.int32()), "token ids"),
        _field("texts", pa.list_(pa.string()), "the tokens as the tokenizer writes them"),
    ),
)

_STATISTIC = _field("statistic", pa.string(), "column of heads or layers that was fitted")

ONSETS = Table(
    "onsets",
    "trajectory × domain × layer × head",
    ("trajectory", "domain", "layer", "head"),
    (
        _TRAJECTORY,
        _DOMAIN,
        _LAYER,
        _HEAD,
        _field(
            "lead",
            pa.bool_(),
            "the head with the greatest mean sink_excess over the last quarter of the recorded steps of this trajectory and domain",
        ),
        _field("leads_layer", pa.bool_(), "the head with the greatest such mean in its layer"),
        _number("threshold", "sink_excess that counts as a sink"),
        _field(
            "status",
            pa.string(),
            "observed: crossed between two records; before_first: above at the first record; "
            "not_reached: never above",
        ),
        _field(
            "after_step",
            pa.int64(),
            "last record below the threshold before the crossing",
            unit="steps",
            nullable=True,
        ),
        _field(
            "by_step",
            pa.int64(),
            "first record above the threshold, confirmed by the next record",
            unit="steps",
            nullable=True,
        ),
        _number("onset", "geometric midpoint of (after_step, by_step]", "steps", nullable=True),
    ),
)

LAWS = Table(
    "laws",
    "trajectory × domain × layer × head × statistic × law",
    ("trajectory", "domain", "layer", "head", "statistic", "law"),
    (
        _TRAJECTORY,
        _DOMAIN,
        _LAYER,
        _field("head", pa.int16(), "query head, from 0; −1 for a statistic of the whole layer"),
        _STATISTIC,
        _field("law", pa.string(), "name of the curve"),
        _field("formula", pa.string(), "the curve; t in steps"),
        _field("first_step", pa.int64(), "first record of the fit's window", unit="steps"),
        _field("last_step", pa.int64(), "last record of the fit's window", unit="steps"),
        _field("points", pa.int32(), "records fitted"),
        _field(
            "parameters", pa.map_(pa.string(), pa.float64()), "least-squares parameters by name"
        ),
        _number("r2", "1 − residual / total sum of squares", nullable=True),
        _number(
            "aicc",
            "corrected Akaike criterion under independent residuals; records of one run are autocorrelated, so small differences decide nothing",
            nullable=True,
        ),
        _number("lag1", "lag-1 autocorrelation of the residuals", nullable=True),
        _field(
            "at_bound",
            pa.bool_(),
            "a parameter ended on its bound: the records do not identify this curve",
        ),
        _field(
            "best",
            pa.bool_(),
            "least AICc among the curves of this series that are not at a bound; none for a constant series",
        ),
    ),
)

PHENOMENA = Table(
    "phenomena",
    "trajectory × domain",
    ("trajectory", "domain"),
    (
        _TRAJECTORY,
        _DOMAIN,
        _LAYER,
        _HEAD,
        _field("last_step", pa.int64(), "last record", unit="steps"),
        _number("sink_weight", "sink weight of the lead head at the last record"),
        _number("sink_weight_floor", "its uniform floor"),
        _number("sink_excess", "its excess over the floor"),
        _number("delta_logit", "Δlogit of the lead head at the last record", "nats"),
        _number("value_ratio", "value ratio of the lead head at the last record"),
        _number("value_ratio_peak", "greatest value ratio of the lead head over all records"),
        _number(
            "residual_ratio",
            "greatest residual ratio at the last record among the streams that enter a block",
        ),
        _number("residual_ratio_first", "residual ratio of the same depth at the first record"),
        _field("residual_layer", pa.int16(), "that depth"),
        _field("sink", pa.bool_(), "sink_excess is at or above the onset threshold"),
        _field("drain", pa.bool_(), "value_ratio is at or below the drain threshold"),
        _field("peak", pa.bool_(), "residual_ratio is at or above the peak threshold"),
    ),
)

CONTRASTS = Table(
    "contrasts",
    "trajectory × step × layer × head × pair of domains",
    ("trajectory", "step", "layer", "head", "domain", "other_domain"),
    (
        _TRAJECTORY,
        _STEP,
        _LAYER,
        _HEAD,
        _field("domain", pa.string(), "first domain of the pair, by name"),
        _field("other_domain", pa.string(), "second domain of the pair"),
        _number(
            "log_odds_difference",
            "sink_log_odds on the first domain minus on the other: positive where the head is more dormant on the first",
            "nats",
        ),
        _number("log_output_ratio", "log of head_output_norm on the first domain over the other"),
        _field(
            "gated",
            pa.bool_(),
            "the difference reaches the gate threshold and the output is smaller where the sink is stronger: dormant on one domain, active on the other",
        ),
    ),
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (HEADS, LAYERS, CHECKPOINTS, MANIFEST, BATCHES, ONSETS, LAWS, PHENOMENA, CONTRASTS)
}
MEASUREMENTS = ("heads", "layers", "checkpoints")
