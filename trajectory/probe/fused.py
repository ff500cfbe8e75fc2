"""Tensors of the ``hf_olmo`` layout by the names of transformers, fused projections taken apart.

Source of the order within them: allenai/OLMo, olmo/model.py. ``att_proj`` holds the rows of
queries, then of keys, then of values. ``SwiGLU`` multiplies the first half of its input, which is
``ff_proj``'s output, by the activated second half: the first is the up-projection, the second the
gate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trajectory.errors import DamagedFiles
from trajectory.hf_olmo import is_hf_olmo
from trajectory.outside import CONFIG, json_file
from trajectory.probe.weights import Weights

STORED = re.compile(r"(?:model\.)?transformer\.(?:blocks\.(?P<layer>[0-9]{1,9})\.)?(?P<rest>.+)")

WHOLE = {
    "wte.weight": "model.embed_tokens.weight",
    "ln_f.weight": "model.norm.weight",
    "ff_out.weight": "lm_head.weight",
}
"""Tensors outside the layers."""

IN_LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_out.weight": "self_attn.o_proj.weight",
    "ff_norm.weight": "post_attention_layernorm.weight",
    "ff_out.weight": "mlp.down_proj.weight",
}
"""Those of a layer that are not fused."""


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``stop`` of a stored tensor, or all of it."""

    name: str
    start: int = 0
    stop: int | None = None


def unfused(folder: Path, config: Any, weights: Weights) -> Weights:
    """The tensors as the model's class names them: as they are, unless the layout is ``hf_olmo``.

    Args:
        folder: holds the config.json, and is named in errors.
        config: the model's, in the words of transformers.
        weights: the tensors as they are stored.

    Raises:
        DamagedFiles: if a fused tensor has other rows than the config says.
    """
    if not is_hf_olmo(json_file(folder / CONFIG)):
        return weights
    return Unfused(folder, config, weights)


class Unfused:
    """The same interface as the ``weights`` within; a fused tensor is fetched once for all its
    parts, and a part alone by its rows."""

    def __init__(self, folder: Path, config: Any, weights: Weights) -> None:
        self.within = weights
        self._parts: dict[str, Part] = {}
        keys = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
        self._fused = {
            "att_proj.weight": {
                "self_attn.q_proj.weight": config.hidden_size,
                "self_attn.k_proj.weight": keys,
                "self_attn.v_proj.weight": keys,
            },
            "ff_proj.weight": {
                "mlp.up_proj.weight": config.intermediate_size,
                "mlp.gate_proj.weight": config.intermediate_size,
            },
        }
        for name in weights.names():
            for ours, part in self._named(name, folder):
                self._parts[ours] = part
        if config.tie_word_embeddings:  # whatever lies there, the training code reads out with wte
            self._parts.pop(WHOLE["ff_out.weight"], None)

    @property
    def bytes_read(self) -> int:
        """Bytes of weights read so far."""
        return self.within.bytes_read

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._parts)

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor."""
        part = self._find(name)
        shape = self.within.shape(part.name)
        return shape if part.stop is None else [part.stop - part.start, *shape[1:]]

    def get(self, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor in ``dtype``."""
        part = self._find(name)
        if part.stop is None:
            return self.within.get(part.name, dtype)
        return self.within.block(part.name, part.start, part.stop, dtype)

    def load(self, names: Iterable[str], dtype: torch.dtype | None) -> dict[str, Tensor]:
        """Several tensors in ``dtype``; as they are stored if None."""
        parts = {name: self._find(name) for name in names}
        found = self.within.load(dict.fromkeys(part.name for part in parts.values()), dtype)
        return {
            name: found[part.name]
            if part.stop is None
            else found[part.name][part.start : part.stop]
            for name, part in parts.items()
        }

    def rows(self, name: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Some rows of a matrix."""
        part = self._find(name)
        return self.within.rows(part.name, rows + part.start, dtype)

    def block(self, name: str, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of a matrix."""
        part = self._find(name)
        return self.within.block(part.name, part.start + start, part.start + stop, dtype)

    def close(self) -> None:
        """Let go of files and connections."""
        self.within.close()

    def _find(self, name: str) -> Part:
        # A name that is not there is one that the weights within do not have either.
        return self._parts.get(name, Part(name))

    def _named(self, name: str, folder: Path) -> Iterator[tuple[str, Part]]:
        """Names of transformers that a stored tensor holds, with its part of each."""
        match = STORED.fullmatch(name)
        layer, rest = (match["layer"], match["rest"]) if match else (None, name)
        if layer is None:
            yield WHOLE.get(rest, name), Part(name)
        elif rest not in self._fused:
            yield f"model.layers.{int(layer)}.{IN_LAYER.get(rest, rest)}", Part(name)
        else:
            sizes, start = self._fused[rest], 0
            shape, rows = self.within.shape(name), sum(sizes.values())
            if not shape or shape[0] != rows:
                raise DamagedFiles(
                    f"{folder}: {name} is {tuple(shape)}, the config wants {rows} rows"
                )
            for ours, size in sizes.items():
                yield f"model.layers.{int(layer)}.{ours}", Part(name, start, start + size)
                start += size
