"""Running a transformers model that lies in memory as the probe runs a checkpoint's, and leaving it
as it was.

The family's own forward does the work, on the model's own modules: whatever hooks, adapters or
edits they carry are measured with it. Inside ``borrowed`` the model attends by the probe's function
and its layers take a few sequences at a time; behind it nothing of that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from trajectory.corpus.given import Given, batches_of
from trajectory.corpus.tokenizer import load_tokenizer, tokenizer_in_memory
from trajectory.corpus.tokens import FirstToken, TokenBatch
from trajectory.errors import TrajectoryError
from trajectory.probe.compute import DTYPES
from trajectory.probe.families import family_of
from trajectory.probe.interventions import attention_of
from trajectory.probe.kinds import capped
from trajectory.probe.loss import of_weight, surprises
from trajectory.probe.streaming import NAME, check_length, in_parts

CAUSAL = frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
"""Classes of transformers that predict the next token."""

COLLECTED = ("output_attentions", "output_hidden_states", "output_router_logits")
"""What a config may have the model collect, for which transformers leaves hooks behind."""

SHARDED = "_is_fsdp_managed_module"
"""What FSDP marks modules with, those within an FSDP-wrapped model as well, whose parameters may
look like anybody's."""

IN_PARTS = (
    "it lies in parts on several processes (FSDP, tensor parallel or ZeRO-3); measure a checkpoint "
    "of it, or a gathered copy"
)

Blocks = list[nn.Module]


class LentLayer(nn.Module):
    """Stands in for one decoder layer while the model is borrowed."""

    def __init__(self, layer: nn.Module, at_once: int) -> None:
        super().__init__()
        self.layer, self.at_once = layer, at_once

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, T, D] → [B, T, D], ``at_once`` sequences at a time."""
        return in_parts(self.layer, hidden_states, args, kwargs, self.at_once)


class ModelInMemory:
    """A causal language model of a known family, run on its device and in its dtype.

    Args:
        model: the model, or one that DistributedDataParallel, torch.compile or an adapter's class
            is wrapped around.

    Raises:
        TrajectoryError: if it is no transformers model, not causal, of an unknown family, lies in
            parts or in several places, is quantised, or has hooks around decoder and read-out.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = causal_model(model)
        self.where = type(self.model).__name__
        self.config: Any = self.model.config
        self.family = family_of(self.config.model_type, self.where)
        self.family.check(self.config, self.where)
        self.base: Any = getattr(self.model, self.family.base)
        self.head = self.model.get_output_embeddings()
        self.dtype, self.device = self._placed()
        around = (self.model._forward_hooks, self.model._forward_pre_hooks)
        if any(around):
            raise TrajectoryError(
                f"{self.where}: a forward hook on the whole model would not be run; the probe runs "
                "decoder and read-out: put the hook on one of them, or remove it"
            )
        for index, layer in enumerate(self._layers()):
            own = getattr(attention_of(layer), "layer_idx", index)
            if own != index:
                raise TrajectoryError(
                    f"{self.where}: layer {index} says that it is layer {own} (layer_idx); number "
                    "the layers of an edited model from 0"
                )

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        rows = getattr(self.base.get_input_embeddings(), "num_embeddings", self.config.vocab_size)
        return int(rows)

    @property
    def blocks(self) -> Blocks:
        """The decoder blocks, in order."""
        return list(self._layers())

    def run(self, tokens: Tensor) -> Tensor:
        """The residual stream after the final norm, [B, T, D], for token ids [B, T].

        Raises TrajectoryError if the sequences are longer than the model's context.
        """
        check_length(self.config, tokens.shape[1], self.where)
        quiet = {name: False for name in COLLECTED if getattr(self.config, name, False)}
        called = self.base(
            input_ids=tokens.to(self.device), use_cache=False, return_dict=True, **quiet
        )
        output: Tensor = called.last_hidden_state
        return output

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """−log p of each target, float32 [N], from final states [N, D]."""
        targets, head = targets.to(hidden.device), self.head
        cap = self.family.cap(self.config)
        hooked = head._forward_hooks or head._forward_pre_hooks
        if type(head) is nn.Linear and head.bias is None and not hooked:
            weight = head.weight.detach()
            blocks = of_weight(len(weight), lambda start, stop: weight[start:stop].float(), cap)
            return surprises(hidden, targets, blocks)
        rows = head(hidden[:1]).shape[-1]
        whole = [(0, rows, lambda states: capped(head(states).float(), cap))]
        return surprises(hidden, targets, whole)

    def _layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = getattr(self.base, self.family.layers)
        return layers[: self.config.num_hidden_layers]

    def _placed(self) -> tuple[torch.dtype, torch.device]:
        """Type and place of the computation."""
        if any(getattr(module, SHARDED, False) for module in self.model.modules()):
            raise TrajectoryError(f"{self.where}: {IN_PARTS}")
        parameters = dict(self.model.named_parameters())
        for name, parameter in parameters.items():
            if hasattr(parameter, "placements") or hasattr(parameter, "ds_id"):
                raise TrajectoryError(f"{self.where}: {IN_PARTS}")
            if parameter.dtype not in DTYPES.values():
                kind = str(parameter.dtype).removeprefix("torch.")
                raise TrajectoryError(
                    f"{self.where}: {name} is {kind}: quantised weights are not measured"
                )
        places = sorted({str(parameter.device) for parameter in parameters.values()})
        if len(places) != 1 or places == ["meta"]:
            raise TrajectoryError(
                f"{self.where}: its weights are on {', '.join(places)}; the probe runs models that "
                "lie on one device"
            )
        weight = self.base.get_input_embeddings().weight
        return weight.dtype, weight.device


def causal_model(model: nn.Module) -> PreTrainedModel:
    """The causal model itself, without what is wrapped around it.

    Raises:
        TrajectoryError: if there is none.
    """
    found: Any = model
    while True:
        if any(kind.__name__ == "FullyShardedDataParallel" for kind in type(found).__mro__):
            raise TrajectoryError(f"model: {IN_PARTS}")
        if isinstance(found, nn.parallel.DistributedDataParallel):
            found = found.module
        elif hasattr(found, "_orig_mod"):  # torch.compile
            found = found._orig_mod
        elif hasattr(found, "peft_config") and hasattr(found, "get_base_model"):
            if getattr(found.active_peft_config, "is_prompt_learning", False):
                raise TrajectoryError("model: an adapter of learned prompts is not measured")
            found = found.get_base_model()
        else:
            break
    name = type(found).__name__
    if not isinstance(found, PreTrainedModel):
        raise TrajectoryError(f"model: a {name} is neither a folder nor a transformers model")
    causal = any(kind.__name__ in CAUSAL for kind in type(found).__mro__)
    if not causal or found.get_output_embeddings() is None:
        raise TrajectoryError(
            f"{name}: no causal language model; give the model that predicts the next token "
            "(…ForCausalLM)"
        )
    return found


def batches_in_memory(
    model: ModelInMemory,
    texts: Given,
    tokenizer: Any,
    length: int,
    first_token: FirstToken,
    sequences: int | None = None,
) -> list[TokenBatch]:
    """Texts or token ids by domain, as batches for a model in memory.

    Args:
        model: the model.
        texts: as in ``corpus.given``.
        tokenizer: a folder, or a tokenizer in memory; None for ids alone.
        length: longest sequence.
        first_token: what stands at position 0.
        sequences: most of each domain, as in ``batches_of``.

    Raises:
        TrajectoryError: as ``batches_of``; for a tokenizer that has more tokens than the model's
            vocabulary, or fewer than half: no padding of an embedding doubles it.
    """
    read = None
    if isinstance(tokenizer, Path | str):
        if not Path(tokenizer).is_dir():
            raise TrajectoryError(f"tokenizer: {tokenizer}: no such folder")
        read = load_tokenizer(Path(tokenizer), tokenizer)
    elif tokenizer is not None:
        read = tokenizer_in_memory(tokenizer)
    if read is not None:
        size, rows = read.size, model.vocabulary
        if not rows / 2 <= size <= rows:
            raise TrajectoryError(
                f"tokenizer: its {size:,} tokens are not those of {model.where}, whose vocabulary "
                f"has {rows:,}"
            )
    ends: list[int] = []
    for name in ("bos_token_id", "eos_token_id"):
        stated = getattr(model.config, name, None)
        ends += stated if isinstance(stated, list) else [] if stated is None else [stated]
    return batches_of(texts, read, length, first_token, model.where, ends, sequences)


@contextmanager
def borrowed(model: ModelInMemory, at_once: int) -> Iterator[None]:
    """Let the model attend by the probe's function, without dropout and without gradients.

    Behind the block it has its attention, its layers, the training mode of each module, its
    buffers, and torch its random states, precision and grad mode, whatever happened inside.

    Args:
        model: the model.
        at_once: sequences that pass a layer together.
    """
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_buffers_kept(model.model))
        stack.enter_context(_evaluating(model.model))
        stack.enter_context(_attending(model))
        stack.enter_context(_lent(model, at_once))
        yield


@contextmanager
def undisturbed(model: ModelInMemory) -> Iterator[None]:
    """Compute eagerly in the tensors' own types, whatever a training has set, and leave torch's
    random states as they were."""
    cuda = [model.device] if model.device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        stack.enter_context(torch.autocast(model.device.type, enabled=False))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_exact_products())
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products of float32 matrices in float32, where a training may take TF32 or bfloat16."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # before torch 2.9
        precise = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precise)
        return
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Rotary positions that grow with the length are computed anew in place of the old ones."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for module, name, buffer, values in before:
            if not torch.equal(buffer, values):
                buffer.copy_(values)
            module._buffers[name] = buffer


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    for module, _ in before:
        module.training = False
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _attending(model: ModelInMemory) -> Iterator[None]:
    """The probe's attention; and experts one by one where torch has no product of all."""
    found = {id(c): c for m in model.base.modules() if (c := getattr(m, "config", None))}
    wanted = {"_attn_implementation": NAME}
    if model.dtype == torch.float64 and hasattr(model.config, "num_experts"):
        wanted["_experts_implementation"] = "eager"
    before = [(c, name, getattr(c, name)) for c in found.values() for name in wanted]
    for config, name, _ in before:
        setattr(config, name, wanted[name])
    try:
        yield
    finally:
        for config, name, value in before:
            setattr(config, name, value)


@contextmanager
def _lent(model: ModelInMemory, at_once: int) -> Iterator[None]:
    layers = getattr(model.base, model.family.layers)
    lent = nn.ModuleList(LentLayer(layer, at_once).eval() for layer in layers)
    setattr(model.base, model.family.layers, lent)
    try:
        yield
    finally:
        setattr(model.base, model.family.layers, layers)
