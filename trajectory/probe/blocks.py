"""How a decoder block reads the residual stream and writes to it.

That is its first norm, what it clips, and what its attention and its MLP add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trajectory.probe import statistics
from trajectory.probe.rows import current_rows
from trajectory.schemas.base import SPARSE

NORMS_BEFORE = ("input_layernorm", "attention_layernorm", "attention_norm", "ln_1")
"""Names of the norm before a block's attention, in the order they are looked for."""

NORMS_AFTER = ("post_attention_layernorm", "attention_norm")
"""Names of the first norm where there is none before."""

LESS_ONE = ("Gemma2RMSNorm", "Gemma3RMSNorm", "Qwen3NextRMSNorm")
"""Norms whose weights are kept less 1."""

CLIPPED = {"query": ("q_norm", "q_proj"), "key": ("k_norm", "k_proj"), "value": ("v_proj",)}
"""The module whose output is clipped: the norm where there is one, or the projection."""


MIXERS = ("self_attn", "attention", "attn", "linear_attn")
"""Names of what mixes positions in a block."""


def writers_of(block: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The modules whose outputs are what attention and MLP add to the residual stream.

    They are the norms behind attention and MLP where the block has such. None where it lacks
    attention or an MLP of its own.
    """
    inner: Any = getattr(block, "layer", block)
    attention, mlp = _first(inner, MIXERS), _first(inner, ("mlp",))
    if attention is None or mlp is None:
        return None
    if getattr(inner, "post_feedforward_layernorm", None) is not None:
        return inner.post_attention_layernorm, inner.post_feedforward_layernorm
    if getattr(inner, "post", False):  # a toy's
        return inner.attention_norm, inner.mlp_norm
    return attention, mlp


class BlockReader:
    """Watches every block's first norm, clipped projections and writes while the model runs.

    Args:
        add: told (layer, name, values [b, 1], sequences) — one value per sequence, NaN for none.
        members: positions of each domain, bool [B, T].
        sink: the sink position.
        dtype: floating-point type of the statistics.
    """

    def __init__(
        self,
        add: Callable[[int, str, str, Tensor], None],
        members: dict[str, Tensor],
        sink: int,
        dtype: torch.dtype,
    ) -> None:
        self.add, self.members, self.sink, self.dtype = add, members, sink, dtype
        self.scales: dict[int, tuple[float, float]] = {}
        self._sinks: dict[tuple[int, int], Tensor] = {}
        self._written: dict[tuple[int, int], Tensor] = {}

    @contextmanager
    def watching(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Watch the blocks inside the block."""
        handles = []
        for index, block in enumerate(blocks):
            inner = getattr(block, "layer", block)
            before = None if getattr(inner, "post", False) else _first(inner, NORMS_BEFORE)
            norm = before if before is not None else _first(inner, NORMS_AFTER)
            if norm is not None:
                hook = self._norm(index, before is not None)
                handles.append(norm.register_forward_hook(hook))
            handles += self._clips(index, getattr(inner, "self_attn", None))
            writers = writers_of(block)
            if writers is not None:
                handles += [
                    writers[0].register_forward_hook(self._attended(index)),
                    writers[1].register_forward_hook(self._mixed(index)),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _norm(self, index: int, before: bool) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            weight = getattr(module, "weight", None)
            if weight is not None and index not in self.scales:
                size = (weight.detach().cpu().double() + _offset(module)).abs()
                self.scales[index] = float(size.mean()), float(size.max())
            if before:
                self._normalised(index, output)

        return hook

    def _normalised(self, index: int, x: Tensor) -> None:
        """The block's normalised input, [b, T, D]."""
        rows, x = current_rows(), x.cpu() if x.is_mps else x
        # As numbers, in place: torch is slow to count what is true.
        small = x.abs().lt_(SPARSE).mean(-1, dtype=self.dtype)  # (b, T)
        sink = x[:, self.sink].to(self.dtype)
        first = rows.start or 0
        before = self._sinks.pop((index - 1, first), None)
        self._sinks[index, first] = sink
        place = torch.arange(x.shape[1], device=x.device)
        for domain, member in self.members.items():
            here = member[rows].to(x.device)
            active, others = here.any(1), here & (place != self.sink)
            at_sink = statistics.or_nan(small[:, self.sink], active)
            self.add(index, domain, "norm_sparsity_sink", at_sink)
            rest = torch.where(others, small, 0).sum(1) / others.sum(1)
            self.add(index, domain, "norm_sparsity_rest", rest)
            if before is not None:
                cosine = nn.functional.cosine_similarity(sink, before, dim=-1)
                self.add(index, domain, "norm_cosine_sink", statistics.or_nan(cosine, active))

    def _attended(self, index: int) -> Callable[..., None]:
        """Keep ‖a_j‖ of the running sequences until the block's MLP has written."""

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            self._written[index, current_rows().start or 0] = self._norms(output)

        return hook

    def _mixed(self, index: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            rows = current_rows()
            attention, mlp = self._written.pop((index, rows.start or 0)), self._norms(output)
            share = statistics.ratio(mlp, attention + mlp)  # (b, T)
            place = torch.arange(share.shape[1], device=share.device)
            for domain, member in self.members.items():
                here = member[rows].to(share.device)
                at_sink = statistics.or_nan(share[:, self.sink], here.any(1))
                self.add(index, domain, "mlp_share_sink", at_sink)
                others = here & (place != self.sink) & ~share.isnan()
                rest = torch.where(others, share, 0).sum(1) / others.sum(1)
                self.add(index, domain, "mlp_share_rest", rest)

        return hook

    def _norms(self, output: Any) -> Tensor:
        """Norms [b, T] of what a module gives, [b, T, D], which some give first of several."""
        written: Tensor = output[0] if isinstance(output, tuple) else output
        written = written.cpu() if written.is_mps else written
        return torch.linalg.vector_norm(written, dim=-1, dtype=self.dtype)

    def _clips(self, index: int, attention: nn.Module | None) -> list[Any]:
        limit = getattr(getattr(attention, "config", None), "clip_qkv", None)
        if limit is None or attention is None:
            return []
        handles = []
        for name, candidates in CLIPPED.items():
            module = _first(attention, candidates)
            if module is not None:
                handles.append(module.register_forward_hook(self._clipped(index, name, limit)))
        return handles

    def _clipped(self, index: int, name: str, limit: float) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            output = output.cpu() if output.is_mps else output
            over = output.abs().gt_(limit).mean(-1, dtype=self.dtype)  # (b, T)
            rows = current_rows()
            for domain, member in self.members.items():
                here = member[rows].to(output.device)
                share = torch.where(here, over, 0).sum(1) / here.sum(1)
                self.add(index, domain, f"clip_share_{name}", share)

        return hook


def _offset(norm: nn.Module) -> float:
    """What a norm adds to its weights before it scales by them: these are kept less 1."""
    return float(type(norm).__name__ in LESS_ONE)


def _first(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    for name in names:
        found = getattr(module, name, None)
        if isinstance(found, nn.Module) and not isinstance(found, nn.Identity):
            return found
    return None


BLOCK_MEANS = (
    *("mlp_share_sink", "mlp_share_rest"),
    *("norm_sparsity_sink", "norm_sparsity_rest", "norm_cosine_sink"),
    *("clip_share_query", "clip_share_key", "clip_share_value", "column_sum_rate"),
)
"""Columns of ``layers`` that belong to the block the stream enters."""
