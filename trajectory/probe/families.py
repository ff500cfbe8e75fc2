"""Model families that are known to be measured right, and how their checkpoints name tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trajectory.errors import DamagedFiles, TrajectoryError

State = dict[str, Tensor]

IGNORED = re.compile(r"(rotary_emb\.inv_freq|\.(attention|attn)\.(masked_)?bias)$")
"""Buffers that old checkpoints carry and the models compute."""


def _as_stored(state: State) -> State:
    return state


def _stacked_experts(state: State) -> State:
    """Experts saved one by one → the stacked tensors that transformers computes with."""
    found: State = {}
    experts: dict[int, State] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"mlp\.experts\.(\d+)\.(\w+)\.weight", name)
        if match:
            experts.setdefault(int(match[1]), {})[match[2]] = tensor
        else:
            found[name] = tensor
    if experts:
        order = [experts[i] for i in range(len(experts))]
        found["mlp.experts.gate_up_proj"] = torch.stack(
            [torch.cat([e["gate_proj"], e["up_proj"]]) for e in order]
        )
        found["mlp.experts.down_proj"] = torch.stack([e["down_proj"] for e in order])
    return found


def _joined_convolutions(state: State) -> State:
    """OlmoHybrid's linear layers: three convolutions in one, and two norms under other names."""
    renamed = {
        name.replace("attention_layer_norm", "input_layernorm").replace(
            "feedforward_layer_norm", "post_attention_layernorm"
        ): tensor
        for name, tensor in state.items()
    }
    parts = [f"linear_attn.{part}_conv1d.weight" for part in "qkv"]
    if parts[0] in renamed:
        renamed["linear_attn.conv1d.weight"] = torch.cat([renamed.pop(part) for part in parts])
    return renamed


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts.

    Attributes:
        base: attribute of the causal model that holds the decoder.
        embedding: name of the token embedding below ``base``.
        norm: name of the final norm below ``base``.
        head: name of the read-out's weight in the checkpoint.
        convert: a decoder layer's tensors as stored → as the module names them.
        layers: name of the decoder blocks below ``base``.
        positions: name of the table of learned positions below ``base``, if there is one.
        scaled: whether the first stream is the embedding times the root of its width.
        softcap: key of the config whose number c caps the read-out's logits z to c·tanh(z/c).
        ignored: a key of the config that transformers takes no notice of, so it must be null.
        packed: what the names of quantised matrices end in.
    """

    base: str = "model"
    embedding: str = "embed_tokens"
    norm: str = "norm"
    head: str = "lm_head.weight"
    convert: Callable[[State], State] = _as_stored
    layers: str = "layers"
    positions: str | None = None
    scaled: bool = False
    softcap: str | None = None
    ignored: str | None = None
    packed: str | None = None

    def embedding_scale(self, config: Any) -> float:
        """Factor of the embedding's rows in the first stream."""
        return float(config.hidden_size**0.5) if self.scaled else 1.0

    def cap(self, config: Any) -> float | None:
        """c of the read-out's logits; None if they are not capped."""
        return None if self.softcap is None else getattr(config, self.softcap)

    def check(self, config: Any, where: object, stored: Collection[str] = ()) -> None:
        """Refuse what the family's models may be besides the one that is measured.

        Args:
            config: the model's.
            where: named in errors.
            stored: names of the checkpoint's tensors.

        Raises:
            DamagedFiles: if the config says what would be ignored, or weights are quantised.
        """
        packed = sorted(name for name in stored if self.packed and name.endswith(self.packed))
        if packed:
            raise DamagedFiles(
                f"{where}: {packed[0]} is packed (MXFP4): quantised weights are not measured; load "
                "the model with Mxfp4Config(dequantize=True) and measure that, or save it with "
                "save_original_format=False"
            )
        if self.ignored is not None and getattr(config, self.ignored, None) is not None:
            raise DamagedFiles(
                f"{where}: its {self.ignored} {getattr(config, self.ignored)} would be ignored by "
                "transformers; null is measured"
            )

    def root(self, stored: Collection[str]) -> str:
        """What the names of the decoder's tensors begin with; a decoder that was saved without its
        read-out, as GPT-2 was, has nothing there."""
        root = f"{self.base}."
        return root if any(name.startswith(root) for name in stored) else ""

    def read_out(self, stored: Collection[str], tied: bool, where: object) -> str:
        """Name of the tensor that the logits are read out with.

        Args:
            stored: names of the checkpoint's tensors.
            tied: whether the config says that it is the embedding.
            where: named in the error.

        Raises:
            DamagedFiles: if there is none of its own though it is not the embedding.
        """
        if self.head in stored:
            return self.head
        if not tied:
            raise DamagedFiles(
                f"{where}: it has no tensor '{self.head}', and its config does not tie the "
                "read-out to the embedding"
            )
        return f"{self.root(stored)}{self.embedding}.weight"


FAMILIES: dict[str, Family] = {
    "olmo": Family(),
    "olmo2": Family(),
    "olmo3": Family(),
    "olmo_hybrid": Family(convert=_joined_convolutions),
    "olmoe": Family(convert=_stacked_experts),
    "gpt_neox": Family("gpt_neox", "embed_in", "final_layer_norm", "embed_out.weight"),
    "gpt2": Family("transformer", "wte", "ln_f", layers="h", positions="wpe"),
    "gemma2": Family(scaled=True, softcap="final_logit_softcapping"),
    "gemma3_text": Family(
        scaled=True, softcap="final_logit_softcapping", ignored="attn_logit_softcapping"
    ),
    "gpt_oss": Family(packed="_blocks"),
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(),
    "qwen3": Family(),
    "qwen3_next": Family(convert=_stacked_experts),
    "smollm3": Family(),
    "apertus": Family(),
}
"""By ``model_type``. Each is compared with a dense reference in the tests; others are refused."""


ADVICE = {
    "gemma3": "it holds an image encoder; take its text model out and measure that: text = "
    "Gemma3ForCausalLM(model.config.text_config); text.model, text.lm_head = "
    "model.model.language_model, model.lm_head",
}
"""What to do about models that hold a known family's."""


def family_of(model_type: str, where: object) -> Family:
    """The family of a model type; TrajectoryError naming the known ones if there is none."""
    if model_type not in FAMILIES:
        raise TrajectoryError(
            f"{where}: model type '{model_type}' is not supported; "
            f"{ADVICE.get(model_type, 'supported: ' + ', '.join(FAMILIES))}"
        )
    return FAMILIES[model_type]
