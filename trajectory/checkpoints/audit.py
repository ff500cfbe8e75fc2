"""Whether revisions hold what their names say, told from hashes and configs, before any download.

An interrupted upload leaves another revision's files under a step's name: a branch is created as a
copy of main and filled file by file. Equal hashes show it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trajectory.checkpoints.manifest import SIZES
from trajectory.config.suites import Suite
from trajectory.hf_olmo import as_transformers
from trajectory.hub.content import (
    File,
    has_pickles,
    missing_shards,
    weight_files,
    weights_digest,
)
from trajectory.outside import CONFIG, json_object
from trajectory.rows import Row

MAIN = "main"

DECIDING = (
    *("model_type", "architectures", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "hidden_act"),
    *("max_position_embeddings", "rope_theta", "rope_scaling", "rope_parameters"),
    *("partial_rotary_factor", "rotary_pct", "rotary_emb_base", "no_rope_layers"),
    *("clip_qkv", "sliding_window", "layer_types", "use_sliding_window", "attention_bias"),
    *("rms_norm_eps", "layer_norm_eps", "norm_topk_prob", "num_experts", "num_experts_per_tok"),
    *("use_parallel_residual", "tie_word_embeddings"),
    *("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"),
    *("hidden_activation", "rope_local_base_freq", "use_bidirectional_attention"),
    *("num_local_experts", "swiglu_alpha", "swiglu_limit"),
    *("n_embd", "n_layer", "n_head", "n_inner", "n_positions", "activation_function"),
    *("layer_norm_epsilon", "scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
)
"""Keys of config.json that change what the same weights compute."""

SUSPECT = frozenset(
    {
        *("known_bad", "main_weights", "duplicate", "shared_shard", "missing_shard"),
        *("changed_config", "pickle_only", "no_weights", "no_config"),
        "not_a_checkpoint",
    }
)
"""Verdicts that exclude a checkpoint."""

WARM_UP_TWINS = 10
"""Last step whose weights may be step 0's without a fault, where it lies in the warm-up: its first
update has rate 0, and the next are too small for half precision to hold, or are skipped."""

SHOWN = 100
"""Characters of a config's value that a reason quotes."""

LEARNT = ("bytes", "files", "weights", "config", "dtype", *SIZES)
"""The manifest's columns that tell what lies in a revision's files."""

JUDGED = ("verdict", "reason", "same_as", "link")
"""Its columns that tell what that means."""

Files = Mapping[str, Sequence[File]]
"""Files by commit."""


def audit(
    rows: Sequence[Row], suite: Suite, files: Files, configs: Mapping[str, bytes]
) -> list[Row]:
    """The rows with a verdict each, and with what was learnt of their files.

    Args:
        rows: a suite's manifest.
        suite: what is known of it.
        files: files by commit, of the revisions that were looked into.
        configs: contents of config.json by their digest.
    """
    judged = [_described(row, files, configs) for row in rows]
    seen = [row for row in judged if row["commit"] in files]
    for row in seen:
        if row["trajectory"] is not None:
            row["verdict"] = "good"
    _judge_configs(seen, files, configs)
    _judge_reports(judged, suite)
    _judge_hashes(seen, suite, files)
    for row in seen:
        if row["trajectory"] is not None:
            _judge_files(row, files[row["commit"]])
    _judge_twins(judged, suite)
    for row in judged:
        chosen = row["revision"]
        row["excluded"] = row["trajectory"] is None or (
            chosen not in suite.select.include
            and (row["verdict"] in SUSPECT or chosen in suite.select.exclude)
        )
    return judged


def config_file(files: Iterable[File]) -> File | None:
    """A revision's config.json."""
    return next((file for file in files if file.path == CONFIG), None)


def _described(row: Row, files: Files, configs: Mapping[str, bytes]) -> Row:
    found = files.get(row["commit"])
    if found is None:
        return dict(row)
    weights = weight_files(found)
    config = config_file(found)
    return {
        **row,
        "bytes": sum(file.size for file in weights) if weights else None,
        "files": len(weights),
        "weights": weights_digest(found),
        "config": config.digest if config else None,
        **stated(_read(configs.get(config.digest)) if config else {}),
    }


def _read(content: bytes | None) -> dict[str, Any]:
    try:
        return as_transformers(json_object(content or b"{}"))
    except ValueError:
        return {}


def stated(values: Mapping[str, Any]) -> Row:
    """Floating-point type and sizes that a config.json states; None where it states none."""
    dtype = values.get("torch_dtype") or values.get("dtype")
    sizes = {
        ours: next((values[key] for key in theirs if values.get(key) is not None), None)
        for ours, theirs in SIZES.items()
    }
    named = isinstance(dtype, str) and re.fullmatch(r"[\w.]{1,40}", dtype, re.ASCII)
    return {
        "dtype": dtype if named else None,
        **{key: size if _is_size(size) else None for key, size in sizes.items()},
    }


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _set(row: Row, verdict: str, reason: str, link: str | None = None) -> None:
    row["verdict"], row["reason"] = verdict, reason
    row["link"] = link or row["link"]


def _judge_configs(rows: Sequence[Row], files: Files, configs: Mapping[str, bytes]) -> None:
    """Mark revisions whose config computes something else than most of their trajectory's, and
    those whose weights are rounded to another type."""
    by_run: dict[str, list[tuple[Row, tuple[str, ...]]]] = {}
    for row in rows:
        if row["trajectory"] is not None and row["config"] in configs:
            values = _read(configs[row["config"]])
            deciding = tuple(json.dumps(values.get(key), sort_keys=True) for key in DECIDING)
            by_run.setdefault(row["trajectory"], []).append((row, deciding))
    for found in by_run.values():
        usual = Counter(values for _, values in found).most_common(1)[0][0]
        dtype = Counter(row["dtype"] for row, _ in found).most_common(1)[0][0]
        for row, deciding in found:
            if row["dtype"] != dtype:
                _set(row, "changed_dtype", f"{row['dtype']} (usually {dtype}) by its config")
            changed = [
                f"{key} {value[:SHOWN]} (usually {normal[:SHOWN]})"
                for key, value, normal in zip(DECIDING, deciding, usual, strict=True)
                if value != normal
            ]
            if changed:
                _set(row, "changed_config", "its config differs: " + ", ".join(changed))


def _judge_reports(rows: Sequence[Row], suite: Suite) -> None:
    """Mark revisions that others reported."""
    for bad in suite.known_bad:
        for row in rows:
            first = suite.stages_continue or row["stage"] in (None, 1)
            if row["revision"] in bad.revisions or (first and row["step"] in bad.steps):
                _set(row, "known_bad", bad.reason, bad.link)


def _judge_hashes(rows: Sequence[Row], suite: Suite, files: Files) -> None:
    """Mark revisions that share weight files with main or with each other."""
    digests = {
        row["revision"]: [file.digest for file in weight_files(files[row["commit"]])]
        for row in rows
    }
    holders: dict[str, set[str]] = {}
    twins: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        twins.setdefault(_place(row), set()).add(row["revision"])
        for digest in digests[row["revision"]]:
            holders.setdefault(digest, set()).add(row["revision"])
    rightful = set(suite.main_is) or _last_of_each(rows, suite)
    unmoved = _unmoved(rows, suite)
    for row in rows:
        own = digests[row["revision"]]
        if row["trajectory"] is None or row["revision"] == MAIN or not own:
            continue
        others = {digest: holders[digest] - twins[_place(row)] for digest in own}
        if row["revision"] in rightful and any(MAIN in names for names in others.values()):
            # What main shares with it is its own; so it is with those that only copy main.
            continue
        same = set.intersection(*others.values())
        partly = set().union(*others.values())
        if not partly:
            continue
        row["same_as"] = sorted(same or partly)
        if row["step"] == 0 and same == partly == unmoved.get(row["trajectory"]):
            # The later ones are duplicates of it; it is the untrained model all the same.
            if row["verdict"] == "good":
                _set(row, "good", f"untrained; the warm-up has not yet moved {_names(same)}")
        elif MAIN in same:
            _set(row, "main_weights", "its weights are those of main")
        elif same:
            _set(row, "duplicate", f"its weights are those of {_names(same)}")
        else:
            shared = sum(bool(others[digest]) for digest in own)
            _set(row, "shared_shard", f"{shared} of {len(own)} files are those of {_names(partly)}")


def _unmoved(rows: Sequence[Row], suite: Suite) -> dict[str, set[str]]:
    """Revisions that follow step 0 of the first stage with the same weights, by trajectory.

    Those of the warm-up's first steps only, and none behind one that has other weights: an upload
    that went wrong looks otherwise.
    """
    last = last_twin(suite)
    steps: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        placed = row["trajectory"] is not None and row["step"] is not None
        if placed and row["stage"] in (None, 1):
            steps.setdefault(row["trajectory"], {}).setdefault(row["step"], []).append(row)
    found = {}
    for run, at in steps.items():
        weights = {row["weights"] for row in at.get(0, [])}
        found[run] = set[str]()
        for step in sorted(step for step in at if 0 < step <= last):
            if not weights or {row["weights"] for row in at[step]} != weights:
                break
            found[run] |= {row["revision"] for row in at[step]}
    return found


def last_twin(suite: Suite) -> int:
    """Last step whose weights may be step 0's without a fault."""
    warm = suite.schedule.warmup_steps if suite.schedule else None
    return WARM_UP_TWINS if warm is None else min(warm, WARM_UP_TWINS)


def without_untrained(rows: Iterable[Row], chosen: Iterable[Row]) -> dict[str, str]:
    """Chosen trajectories of the first stage that lack the untrained model, each with the reason.

    Args:
        rows: of the manifest.
        chosen: of the selection.
    """
    steps: dict[str, set[int]] = {}
    for row in chosen:
        if row["trajectory"] is not None and row["stage"] in (None, 1) and row["step"] is not None:
            steps.setdefault(row["trajectory"], set()).add(row["step"])
    found = {run: "it has no revision of step 0" for run, own in steps.items() if 0 not in own}
    for row in rows:
        if row["trajectory"] in found and row["step"] == 0:
            why = row["verdict"] if row["verdict"] in SUSPECT else "not selected"
            found[row["trajectory"]] = f"{row['revision']} is {why}"
    return found


def _place(row: Row) -> tuple[Any, ...]:
    return row["trajectory"], row["step"]


def _judge_twins(rows: Sequence[Row], suite: Suite) -> None:
    """Of several revisions of one step, mark all but the first that is fit, best looked into."""
    rule, fit = suite.select, dict[tuple[Any, ...], str]()

    def last(row: Row) -> tuple[bool, bool]:
        return row["revision"] not in rule.include, row["verdict"] == "unaudited"

    for row in sorted(rows, key=last):
        name = row["revision"]
        if row["trajectory"] is None or name in rule.exclude:
            continue
        if name not in rule.include and row["verdict"] in SUSPECT:
            continue
        first = fit.setdefault(_place(row), name)
        if first != name:
            row["same_as"] = [first]
            _set(row, "duplicate", f"{first} is of the same step")


def _last_of_each(rows: Sequence[Row], suite: Suite) -> set[str]:
    """Last revisions: main may be one of them, unless it is known to be something else."""
    if suite.main is not None:
        return set()
    last: dict[str, Row] = {}
    for row in rows:
        run = row["trajectory"]
        if run is not None and (run not in last or (row["step"] or 0) > (last[run]["step"] or 0)):
            last[run] = row
    return {row["revision"] for row in last.values()}


def _names(found: set[str]) -> str:
    shown = sorted(found)[:3]
    return ", ".join(shown) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _judge_files(row: Row, files: Sequence[File]) -> None:
    """Mark revisions that cannot be measured."""
    if not weight_files(files):
        if has_pickles(files):
            _set(row, "pickle_only", "it has pickled weights only, which are never loaded")
        else:
            _set(row, "no_weights", "it has no weights")
    elif config_file(files) is None:
        _set(row, "no_config", f"it has no {CONFIG}, which says what its weights compute")
    elif missing := missing_shards(files):
        _set(row, "missing_shard", missing)
