"""What measuring a checkpoint will take, from its config and the headers of its files alone."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig

from trajectory.errors import TrajectoryError
from trajectory.probe.compute import Compute
from trajectory.probe.families import Family, family_of
from trajectory.probe.remote import Entry, parse_header
from trajectory.probe.statistics import SPREAD_BLOCK
from trajectory.probe.streaming import TOKEN_BLOCK, VOCABULARY_BLOCK, read_config

IMPORTS = 450_000_000
"""Bytes that torch, transformers and polars take before anything is measured."""


@dataclass(frozen=True)
class Plan:
    """What measuring one checkpoint on a batch takes.

    Attributes:
        layers: decoder layers.
        parameters: of the whole model.
        layer_bytes: the largest decoder layer in the type of the computation.
        layer_read: the largest decoder layer as stored.
        read: bytes of weights read in all, the read-out included, of the embedding only rows.
        activations: bytes of the residual stream and of one layer's work on it.
        statistics: bytes of one attention call's statistics.
        read_out: bytes of the loss's blocks.
        operations: multiplications and additions of the forward pass and of the statistics.
    """

    layers: int
    parameters: int
    layer_bytes: int
    layer_read: int
    read: int
    activations: int
    statistics: int
    read_out: int
    operations: float

    @property
    def memory(self) -> int:
        """Peak resident bytes: imports, two layers, and the greater of a layer's and the loss's
        work."""
        work = max(self.activations + self.statistics, self.read_out)
        return IMPORTS + 2 * self.layer_bytes + work

    def seconds(self, operations_per_second: float, bytes_per_second: float) -> float:
        """Time at given speeds: the next layer is read while this one computes."""
        computing = self.operations / operations_per_second
        return max(computing, self.read / bytes_per_second)


def plan(folder: Path, length: int, sequences: int, compute: Compute, at_once: int = 16) -> Plan:
    """What a checkpoint will take, from ``config.json`` and the safetensors headers in ``folder``.

    Args:
        folder: the headers' files may end after the header; no tensor is read.
        length: tokens per sequence.
        sequences: how many there are.
        compute: types of the forward pass and the statistics.
        at_once: sequences that pass a layer together.

    Raises:
        TrajectoryError: for an unknown family or unreadable headers.
    """
    config = read_config(folder)
    family = family_of(config.model_type, folder)
    entries = headers(folder)
    by_layer = _by_layer(entries, family, folder)
    sizes = {name: _numbers(e) for name, e in entries.items()}
    largest = max(sum(sizes[name] for name in names) for names in by_layer.values())
    tokens, part = length * sequences, length * min(at_once, sequences)
    width, item = config.hidden_size, compute.dtype.itemsize
    heads, dim = _heads(config)
    kept = compute.statistics.itemsize
    embedding = f"{family.base}.{family.embedding}.weight"
    head = family.read_out(entries, config.tie_word_embeddings, folder)
    in_layers = sum(sizes[name] for names in by_layer.values() for name in names)
    stored = sum(e.stop - e.start for name, e in entries.items() if name != embedding)
    if head == embedding:
        stored += entries[head].stop - entries[head].start
    attention = 2 * part * length * heads * dim  # causal: half of 2·2·T²·d per product pair
    passes = 1 + 3 * (compute.statistics == torch.float64)  # the scan; float64 is slow
    vocabulary = sizes[head]
    return Plan(
        layers=len(by_layer),
        parameters=sum(sizes.values()),
        layer_bytes=largest * item,
        layer_read=max(
            sum(entries[name].stop - entries[name].start for name in names)
            for names in by_layer.values()
        ),
        read=stored,
        activations=2 * tokens * width * item + part * item * (_mlp_width(config) * 3 + 6 * width),
        statistics=part * heads * dim * kept * 8
        + min(at_once, sequences) * heads * SPREAD_BLOCK * length * kept * 3,
        read_out=tokens * width * 4
        + VOCABULARY_BLOCK * width * 4
        + min(tokens, TOKEN_BLOCK) * VOCABULARY_BLOCK * 4 * 2,
        operations=2.0 * in_layers * tokens
        + attention * (1 + passes) * len(by_layer) * (sequences / min(at_once, sequences))
        + 2.0 * vocabulary * tokens,
    )


def headers(folder: Path) -> dict[str, Entry]:
    """Every tensor of the safetensors files in ``folder``, from their headers."""
    found: dict[str, Entry] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            text = handle.read(size) if size < path.stat().st_size else b""
        found |= parse_header(text, path.name, folder)
    if not found:
        raise TrajectoryError(f"{folder}: no safetensors files")
    return found


def measured_speed(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Operations per second of a product of matrices here and now."""
    a, b = (torch.ones(1024, 2048, dtype=dtype) for _ in range(2))
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        a @ b.T
        count += 1
    return 2.0 * 1024 * 1024 * 2048 * count / (time.perf_counter() - start)


def _by_layer(entries: dict[str, Entry], family: Family, where: Path) -> dict[int, list[str]]:
    layer = re.compile(rf"{re.escape(family.base)}\.layers\.(\d+)\.")
    found: dict[int, list[str]] = {}
    for name in entries:
        match = layer.match(name)
        if match:
            found.setdefault(int(match[1]), []).append(name)
    if not found:
        raise TrajectoryError(f"{where}: no tensors of decoder layers")
    return found


def _numbers(entry: Entry) -> int:
    total = 1
    for size in entry.shape:
        total *= size
    return total


def _heads(config: PretrainedConfig) -> tuple[int, int]:
    heads = config.num_attention_heads
    return heads, getattr(config, "head_dim", None) or config.hidden_size // heads


def _mlp_width(config: PretrainedConfig) -> int:
    return int(getattr(config, "intermediate_size", 4 * config.hidden_size))
