"""Running a checkpoint one decoder layer at a time.

The model is built without memory; a layer's tensors are read when its turn comes, all sequences
run through it, and it is dropped while the next one is already being read. The family's own
forward does the rest, so masks and rotary positions are its own. Peak memory is two layers plus
activations, whatever the depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
)
from transformers.masking_utils import sdpa_mask

from trajectory.errors import DamagedFiles, TrajectoryError, reading
from trajectory.hf_olmo import is_hf_olmo, translated
from trajectory.outside import json_file
from trajectory.probe.attention import NAME, probe_attention
from trajectory.probe.branches import Branches
from trajectory.probe.compute import CPU, DTYPES
from trajectory.probe.families import IGNORED, Family, State, family_of
from trajectory.probe.fused import unfused
from trajectory.probe.loss import of_weight, surprises
from trajectory.probe.memory import return_freed_memory
from trajectory.probe.rope import check_rope
from trajectory.probe.rounding import RoundedStreams
from trajectory.probe.rows import batch_rows, rows_of
from trajectory.probe.weights import LocalWeights, Weights

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Keys of a model's config that must be sizes for any model to be built."""

AttentionInterface.register(NAME, probe_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)

LAYERS_BETWEEN_TRIMS = 8
"""Layers after which freed memory goes back to the system, about 6 MB per layer of OLMo-2-1B."""


class StreamedLayer(nn.Module):
    """Stands in for one decoder layer: reads it, runs every sequence through it, drops it."""

    def __init__(self, layer: nn.Module, index: int, reader: LayerReader, at_once: int) -> None:
        super().__init__()
        self.layer, self.index, self.reader, self.at_once = layer, index, reader, at_once
        self.branches: Branches | None = None
        self.rounded: RoundedStreams | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, T, D] → [B, T, D], ``at_once`` sequences at a time."""
        self.layer.load_state_dict(self.reader.take(self.index), assign=True)

        def run(hidden: Tensor) -> Tensor:
            return in_parts(self.layer, hidden, args, kwargs, self.at_once)

        if self.branches is None:
            output = run(hidden_states)
        else:
            output = self.branches.unchanged(self.index, hidden_states, run)
            self.branches.advance(self.index, self.layer, hidden_states, run)
        if self.rounded is not None:
            self.rounded.advance(
                self.index,
                self.layer,
                hidden_states,
                lambda twin, hidden: in_parts(twin, hidden, args, kwargs, self.at_once),
            )
        self.layer.to("meta")
        if self.index % LAYERS_BETWEEN_TRIMS == LAYERS_BETWEEN_TRIMS - 1:
            return_freed_memory()
        return output


def in_parts(
    layer: nn.Module, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], at_once: int
) -> Tensor:
    """A decoder layer's output [B, T, D] for a stream [B, T, D], ``at_once`` sequences at a time.

    Args:
        layer: the layer.
        hidden: the stream that enters it.
        args, kwargs: what the decoder gives it besides.
        at_once: sequences that pass it together.
    """
    size = len(hidden)
    parts = []
    for start in range(0, size, at_once):
        rows = slice(start, min(start + at_once, size))
        own = [rows_of(value, rows, size) for value in args]
        named = {name: rows_of(value, rows, size) for name, value in kwargs.items()}
        with batch_rows(rows):
            parts.append(layer(hidden[rows], *own, **named))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


class LayerReader:
    """Reads decoder layers in order, the next one while the present one computes.

    A layer is fetched, then converted, each by a thread of its own: what lies behind a network goes
    on arriving while the layer before it is converted.
    """

    def __init__(
        self,
        weights: Weights,
        prefix: str,
        family: Family,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.weights, self.family, self.dtype, self.device = weights, family, dtype, device
        self.names: dict[int, dict[str, str]] = {}
        for name in weights.names():
            if name.startswith(prefix) and not IGNORED.search(name):
                index, _, rest = name.removeprefix(prefix).partition(".")
                if not (re.fullmatch("[0-9]{1,9}", index) and rest):
                    raise DamagedFiles(f"{name} is a tensor of no layer: '{index}' is no number")
                self.names.setdefault(int(index), {})[rest] = name
        self._fetcher = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._converter = ThreadPoolExecutor(1, thread_name_prefix="convert")
        self._coming: dict[int, Future[State]] = {}

    def take(self, index: int, following: int | None = None) -> State:
        """The layer's tensors; starts reading the one wanted next, which is the one after it."""
        self._start(index)
        following = index + 1 if following is None else following
        for other in set(self._coming) - {index, following}:  # read for a walk the other way
            self._coming.pop(other)
        if following in self.names:
            self._start(following)
        return self._coming.pop(index).result()

    def close(self) -> None:
        """Stop reading ahead."""
        self._coming.clear()
        for pool in (self._fetcher, self._converter):
            pool.shutdown(cancel_futures=True)

    def _start(self, index: int) -> None:
        if index not in self._coming:
            names = list(self.names.get(index, {}).values())
            fetched = self._fetcher.submit(self.weights.load, names, None)
            self._coming[index] = self._converter.submit(self._convert, index, fetched)

    def _convert(self, index: int, fetched: Future[State]) -> State:
        found = fetched.result()
        names = self.names.get(index, {})
        for name, tensor in found.items():
            if tensor.dtype not in DTYPES.values():
                kind = str(tensor.dtype).removeprefix("torch.")
                raise DamagedFiles(f"{name} is {kind}: quantised weights are not measured")
        state = self.family.convert(
            {rest: found.pop(name).to(self.dtype) for rest, name in names.items()}
        )
        return {rest: tensor.to(self.device) for rest, tensor in state.items()}


class StreamedModel:
    """A checkpoint of a known family, run layer by layer.

    Args:
        folder: holds the config, and the safetensors unless ``weights`` are given.
        dtype: floating-point type of the computation, whatever the file's.
        at_once: sequences that pass a layer together.
        weights: tensors that lie elsewhere, ``RemoteWeights`` for instance; closed with the model.
        device: where the layers run.

    Raises:
        TrajectoryError: for an unknown family, a missing or damaged file, or tensors that do not
            fit the config.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        at_once: int = 16,
        weights: Weights | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.folder, self.dtype, self.device = folder, dtype, device
        self.config = read_config(folder)
        self.family = family_of(self.config.model_type, folder)
        if dtype == torch.float64 and hasattr(self.config, "num_experts"):
            self.one_expert_at_a_time()
        stored = LocalWeights(folder) if weights is None else weights
        self.weights = unfused(folder, self.config, stored)
        self.family.check(self.config, folder, self.weights.names())
        self.root = self.family.root(self.weights.names())
        self.embedding = f"{self.root}{self.family.embedding}.weight"
        prefix = f"{self.root}{self.family.layers}."
        self.reader = LayerReader(self.weights, prefix, self.family, dtype, device)
        self._check_depth()
        with reading(f"{folder}: its config describes no model"):
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(
                    self.config, attn_implementation=NAME, dtype=dtype, trust_remote_code=False
                )
            self.base: nn.Module = getattr(model.eval(), self.family.base)
            rotary = getattr(self.base, "rotary_emb", None)
            if rotary is not None:  # its buffers are computed, not read
                rotary = type(rotary)(self.config)
                check_rope(folder, rotary)
        if rotary is not None:
            self.base.rotary_emb = rotary.to(device)
        layers: nn.ModuleList = getattr(self.base, self.family.layers)
        self._check(layers, prefix)
        self._load(self.family.norm)
        if self.family.positions is not None:
            self._load(self.family.positions)
        streamed = (StreamedLayer(layer, i, self.reader, at_once) for i, layer in enumerate(layers))
        setattr(self.base, self.family.layers, nn.ModuleList(streamed))

    @property
    def blocks(self) -> list[nn.Module]:
        """The decoder blocks, in order."""
        return list(getattr(self.base, self.family.layers))

    def one_expert_at_a_time(self) -> None:
        """Do without torch's grouped product of experts, which has no float64 and no derivative
        along a direction."""
        self.config._experts_implementation = "eager"

    def run(self, tokens: Tensor, leaving: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """The residual stream after the final norm, [B, T, D], for token ids [B, T].

        Args:
            tokens: token ids.
            leaving: told the depth and the stream that leaves the last block.

        Raises TrajectoryError if an id lies outside the vocabulary, or the sequences are longer
        than the model's context.
        """
        check_length(self.config, tokens.shape[1], self.folder)
        name = self.embedding
        ids, places = tokens.unique(return_inverse=True)
        if int(ids.max()) >= self.weights.shape(name)[0]:
            raise TrajectoryError(
                f"{self.folder}: token {int(ids.max())} is outside its vocabulary of "
                f"{self.weights.shape(name)[0]}; the batch was made with another tokenizer"
            )
        rows = self.weights.rows(name, ids, self.dtype)
        if self.family.scaled:
            rows = rows * torch.tensor(self.family.embedding_scale(self.config), dtype=self.dtype)
        embedded = rows[places].to(self.device)
        last = self.blocks[-1]
        handle = last.register_forward_hook(
            lambda _, __, stream: None if leaving is None else leaving(len(self.blocks), stream)
        )
        try:
            called = self.base(inputs_embeds=embedded, use_cache=False, return_dict=True)
            output: Tensor = called.last_hidden_state
        finally:
            handle.remove()
        return output

    def normalised(self, hidden: Tensor) -> Tensor:
        """The final norm of a residual stream [B, T, D]."""
        norm: nn.Module = getattr(self.base, self.family.norm)
        return norm(hidden)

    def read_out(self) -> str:
        """Name of the read-out's tensor; DamagedFiles if it is missing or of another width."""
        tied = self.config.tie_word_embeddings
        name = self.family.read_out(self.weights.names(), tied, self.folder)
        self._check_width(name)
        return name

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """−log p of each target, float32 [N], from final states [N, D]; head read in blocks."""
        name = self.read_out()

        def block(start: int, stop: int) -> Tensor:
            return self.weights.block(name, start, stop, torch.float32).to(hidden.device)

        blocks = of_weight(self.weights.shape(name)[0], block, self.family.cap(self.config))
        return surprises(hidden, targets.to(hidden.device), blocks)

    def close(self) -> None:
        """Stop the reading thread and let go of the weights."""
        self.reader.close()
        self.weights.close()

    def _check_depth(self) -> None:
        """Compare the number of layers before so many are built."""
        count, found = self.config.num_hidden_layers, self.reader.names
        if len(found) != count or any(number >= count for number in found):
            raise DamagedFiles(
                f"{self.folder}: config says {count} layers, its tensors are of layers "
                f"{sorted(found)}"
            )

    def _check(self, layers: nn.ModuleList, prefix: str) -> None:
        """Compare the checkpoint's tensors with the config before anything is read."""
        self._check_width(self.embedding)
        for index, layer in enumerate(layers):
            shapes = {
                rest: torch.empty(self.weights.shape(name), device="meta")
                for rest, name in self.reader.names[index].items()
            }
            with reading(f"{self.folder}: the tensors of layer {index} do not belong together"):
                stored = {k: tuple(v.shape) for k, v in self.family.convert(shapes).items()}
            wanted = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
            wrong = sorted(k for k in stored.keys() | wanted if stored.get(k) != wanted.get(k))
            if wrong:
                k = wrong[0]
                raise DamagedFiles(
                    f"{self.folder}: {prefix}{index}.{k} is {stored.get(k, 'missing')}, "
                    f"the config wants {wanted.get(k, 'none')}"
                )

    def _check_width(self, name: str) -> None:
        shape, width = self.weights.shape(name), self.config.hidden_size
        if len(shape) != 2 or shape[1] != width:
            raise DamagedFiles(
                f"{self.folder}: {name} is {tuple(shape)}, the config wants (…, {width})"
            )

    def _load(self, part: str) -> None:
        """Read a part of the decoder that is no layer, and stays."""
        module: nn.Module = getattr(self.base, part)
        prefix = f"{self.root}{part}."
        state = {
            name: self.weights.get(prefix + name, self.dtype).to(self.device)
            for name in module.state_dict()
        }
        with reading(f"{self.folder}: {prefix}* is not what the config wants"):
            module.load_state_dict(state, assign=True)


@contextmanager
def streamed(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    at_once: int = 16,
    weights: Weights | None = None,
    device: torch.device = CPU,
) -> Iterator[StreamedModel]:
    """A streamed model whose reading thread ends with the block."""
    model = StreamedModel(folder, dtype, at_once, weights, device)
    try:
        yield model
    finally:
        model.close()


def read_config(folder: Path) -> PretrainedConfig:
    """The model config in ``folder``, of a known family, in the words of transformers.

    Raises:
        TrajectoryError: if there is none, or its family is not supported.
        DamagedFiles: if it cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        missing = "no config.json" if folder.is_dir() else "no such folder"
        raise TrajectoryError(f"{folder}: no readable model config ({missing})")
    with reading(f"{folder}: no readable model config"):
        values = json_file(path)
        if is_hf_olmo(values):
            config = AutoConfig.for_model(**translated(values, folder))
        else:
            family_of(str(values.get("model_type")), folder)
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        for name in SIZES:
            size = getattr(config, name, 1)
            if not isinstance(size, int) or not 0 < size < 1 << 31:
                raise ValueError(f"{name} is {size!r:.40}, which is not a size")
        return config


def check_length(config: PretrainedConfig, length: int, where: object) -> None:
    """Raise TrajectoryError if sequences of ``length`` tokens are beyond a model's context."""
    context = getattr(config, "max_position_embeddings", None)
    if isinstance(context, int) and length > context:
        raise TrajectoryError(
            f"{where}: sequences of {length:,} tokens, but its context is {context:,} "
            "(max_position_embeddings); set probe.length, or measure's length, to that or less"
        )
