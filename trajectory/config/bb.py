"""The toy world: Bigram-Backcopy runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trajectory.config.base import (
    Count,
    LogSpaced,
    Name,
    Positive,
    Section,
    Steps,
    refuse_repeats,
    resolve_steps,
)
from trajectory.config.bb_parts import (
    SGD,
    AdamH,
    AdamW,
    Intervention,
    LearningRate,
    Maps,
    Muon,
    Task,
)
from trajectory.config.forces import Forces
from trajectory.config.forks import Forks
from trajectory.config.layers import Change, Hold, LayerIndex, placed, refuse_holds

OF_ANY_LAYER = ("zero_layer", "mean_residual")
"""Changes that need neither attention nor an MLP."""


class Variant(Section):
    """One Bigram-Backcopy experiment: task, model, optimiser, steps, seeds and interventions."""

    about: str = ""
    """Purpose of the experiment, in words."""
    section: Literal["tasks", "structures", "mitigations", "causes"] | None = None
    """Section of the report's *Toy laboratory* that shows it."""
    control: Name | None = None
    """The experiment it is compared with, seed by seed."""
    sham: bool = False
    """Whether this is a sham: the same change where it should have no effect."""
    task: Task = Task()
    """The task."""
    model: Literal["transformer", "simplified"] = "transformer"
    """The paper's transformer, or the theory's simplified model with parameters α, β, λ, ξ."""
    layers: Annotated[int, Field(ge=1, le=12)] = 1
    """Transformer blocks. The paper: 1 to 3."""
    width: Annotated[int, Field(ge=8)] = 64
    """Residual width; the MLP is four times as wide. The paper: 256."""
    heads: Count = 1
    """Attention heads. The paper: 1."""
    attention: Literal[
        "softmax", "relu", "sigmoid", "softpick", "softmax_off_by_one", "sink_logit"
    ] = "softmax"
    """How logits z become weights. relu: relu(z)/(i+1). sigmoid: σ(z − ln(i+1)) (arXiv 2409.04431).
    softpick: relu(e^z − 1)/Σ|e^z − 1| (arXiv 2504.20966). softmax_off_by_one: a null key with logit
    0. sink_logit: a null key with a learned logit per head."""
    value_gate: bool = False
    """Each value vector is multiplied by a learned gate σ(w·v + b) of the token's own values, per
    head (arXiv 2510.09017). The tables' values are after the gate."""
    head_gate: bool = False
    """Each head's output is multiplied by a learned gate σ(Wx) of the query's token, elementwise
    (arXiv 2505.06708)."""
    v_scale: Literal["full", "backward"] | None = None
    """V-scale (arXiv 2603.17771): each value v becomes v·u/(u + e^θ), u = ‖v‖², θ learned per head
    and 0 at first; the paper's own function of u may differ. The tables' values are those behind
    it. backward: values stay as they are, and gradients pass as if they were scaled with θ = 0;
    forces are refused, because this gradient belongs to no loss."""
    qk_norm: bool = False
    """RMSNorm of queries and keys."""
    clip_qkv: Positive | None = None
    """Queries, keys and values are clipped to ± this, as in OLMo 1."""
    norm: Literal["pre", "post", "none"] = "pre"
    """LayerNorm before attention and MLP (the paper); after them, before the residual stream
    (OLMo 2); or nowhere but before the read-out."""
    norm_kind: Literal["layer", "rms", "single_scale"] = "layer"
    """What every norm is, the read-out's too. layer: LayerNorm with gains and biases (the paper).
    rms: x/rms(x) with a learned gain per channel. single_scale: x/rms(x) with one learned gain for
    all channels, as in the code of arXiv 2506.19697."""
    positions: Literal["learned", "rope", "none"] = "learned"
    """Learned absolute positions (the paper), rotary embedding, or none."""
    no_attn: list[LayerIndex] = []
    """Layers without attention."""
    no_ffn: list[LayerIndex] = []
    """Layers without an MLP."""
    linear_ffn: list[LayerIndex] = []
    """Layers whose MLP is one D×D matrix."""
    optimizer: Annotated[AdamW | SGD | Muon | AdamH, Field(discriminator="name")] = AdamW()
    """The optimiser."""
    schedule: LearningRate = LearningRate()
    """The learning rate over the steps."""
    batch: Count = 64
    """Sequences per step. The paper: 512."""
    micro_batch: Count | None = None
    """Sequences whose gradient is computed at once; the batch's gradient is their exact sum. Chosen
    to fit the cache if empty; the whole batch on a GPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of matrix products and attention in training; weights and statistics stay float32."""
    steps: Count = 1000
    """Optimiser steps."""
    record: Steps = LogSpaced(first=10, count=32)
    """Steps before which the statistics are measured: log-spaced, or a list."""
    evaluation: Count = 128
    """Sequences the statistics are measured on; the same for every seed."""
    rounded_loss: bool = False
    """Measure the loss with the blocks' weights rounded to 8 and to 4 bits too, at every record."""
    interventions: list[Intervention] = []
    """Changes of the trained model, applied and undone at every recorded step."""
    during: list[Hold] = []
    """Changes of the model while it trains, one per layer. Holding a value and forcing attention in
    one layer is refused: the gradient to withhold from W_O would differ."""
    forces: Forces | None = None
    """Forces on the weight and the value of ⟨s⟩ and of shams; none if empty."""
    forks: Forks | None = None
    """Copies that train on for a few steps with a hook on a key; none if empty."""
    maps: Maps = Maps()
    """Attention maps to keep."""
    checkpoints: Steps | None = None
    """Steps whose weights are kept as safetensors; none if empty."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """Seeds; each draws its own initial weights and its own training data."""
    weights_seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """PyTorch's seed of the initial weights, the same for every seed, which then draws its own data
    alone. Empty: each seed its own. 42 with task.unused_delimiter: those of the authors' runs."""

    @field_validator("interventions", "during")
    @classmethod
    def _placed(cls, changes: list[Change], info: ValidationInfo) -> list[Change]:
        if not {"layers", "no_attn", "no_ffn"} <= info.data.keys():
            return changes  # which are wrong themselves

        def _having(kind: str) -> list[int]:
            lacking = [] if kind in OF_ANY_LAYER else info.data["no_attn"]
            if kind == "zero_mlp":
                lacking = info.data["no_ffn"]
            return [layer for layer in range(info.data["layers"]) if layer not in lacking]

        return placed(changes, _having)

    @model_validator(mode="after")
    def _consistent(self) -> Variant:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.positions == "rope" and self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not divisible by 2 × heads {self.heads} (rope)"
            )
        refuse_repeats("seeds", self.seeds)
        refuse_repeats("interventions", [change.label for change in self.interventions])
        resolve_steps(self.record, self.steps)
        if self.checkpoints is not None:
            resolve_steps(self.checkpoints, self.steps)
        self._check_layers()
        refuse_holds(self.during, self.task.length, self.steps, self.sham)
        if self.head_gate and any(hold.kind == "hold_value" for hold in self.during):
            raise ValueError("hold_value is not defined with a head gate")
        if self.forces is not None:
            self._check_forces(self.forces)
        if self.forks is not None:
            self._check_forks(self.forks)
        if self.task.registers:
            self._check_registers()
        if self.model == "simplified":
            self._check_simplified()
        if self.schedule.warmup >= self.steps:
            raise ValueError(
                f"warmup {self.schedule.warmup} is not before the last step {self.steps}"
            )
        return self

    def _check_layers(self) -> None:
        named = {
            "no_attn": self.no_attn,
            "no_ffn": self.no_ffn,
            "linear_ffn": self.linear_ffn,
            "interventions": [layer for change in self.interventions for layer in change.places],
            "during": [layer for hold in self.during for layer in hold.places],
        }
        for key, layers in named.items():
            if layers and max(layers) >= self.layers:
                raise ValueError(f"{key}: no layer {max(layers)}; there are {self.layers}, from 0")
        both = set(self.no_ffn) & set(self.linear_ffn)
        if both:
            raise ValueError(f"layer {min(both)} is in no_ffn and in linear_ffn")
        changes: list[Intervention | Hold] = [*self.interventions, *self.during]
        for kind, layer in [(change.kind, n) for change in changes for n in change.places]:
            if layer in self.no_attn and kind not in ("zero_mlp", *OF_ANY_LAYER):
                raise ValueError(f"{kind}: layer {layer} has no attention")
            if layer in self.no_ffn and kind == "zero_mlp":
                raise ValueError(f"zero_mlp: layer {layer} has no MLP")
        if len(self.no_attn) and set(self.no_attn) >= set(range(self.layers)):
            raise ValueError("no_attn: at least one layer needs attention, or there are no heads")

    def _check_forces(self, forces: Forces) -> None:
        forces.refuse_beyond(self.task.length)
        if self.v_scale == "backward":
            raise ValueError(
                "forces: with 'v_scale: backward' the gradient belongs to no loss; leave out "
                "forces, or set 'v_scale: full'"
            )
        if self.evaluation < 2:
            raise ValueError("forces: standard errors need two sequences; evaluation is 1")
        for place in forces.heads if isinstance(forces.heads, list) else []:
            if place.layer >= self.layers or place.head >= self.heads:
                raise ValueError(
                    f"forces.heads: no head {place.head} in layer {place.layer}; there are "
                    f"{self.layers} layers of {self.heads} heads, from 0"
                )
            if place.layer in self.no_attn:
                raise ValueError(f"forces.heads: layer {place.layer} has no attention")
        if forces.arrows and self.attention in ("relu", "sigmoid", "softpick"):
            raise ValueError(
                f"forces.arrows: {self.attention} attention has no log-odds to read; say "
                "'arrows: false'"
            )
        named = [
            step
            for steps in (forces.checkpoints, forces.second_order)
            if isinstance(steps, list)
            for step in steps
        ]
        if unknown := sorted(set(named) - set(self.recorded_steps())):
            raise ValueError(
                f"forces: step {unknown[0]} is not recorded; recorded: "
                f"{', '.join(map(str, self.recorded_steps()))}"
            )

    def _check_forks(self, forks: Forks) -> None:
        if self.model == "simplified":
            raise ValueError("forks: the simplified model has no queries and keys to hook")
        if self.during:
            raise ValueError("forks and during: give only one; forks need the unchanged training")
        if self.attention in ("relu", "sigmoid", "softpick"):
            raise ValueError(f"forks: {self.attention} attention has no log-odds to read")
        forks.refuse_missing(self.task.length, self.steps, self.layers, self.heads)
        for place in forks.heads or []:
            if place.layer in self.no_attn:
                raise ValueError(f"forks.heads: layer {place.layer} has no attention")

    def _check_registers(self) -> None:
        for key in ("interventions", "during", "forces", "forks"):
            if getattr(self, key):
                raise ValueError(
                    f"{key}: for ⟨s⟩ at position 0, which is a register here; leave out {key} or "
                    "task.registers"
                )
        if self.model == "simplified":
            raise ValueError("the simplified model has no registers")

    def _check_simplified(self) -> None:
        plain = Variant.model_fields
        fixed = (
            *("layers", "heads", "attention", "value_gate", "head_gate", "v_scale", "qk_norm"),
            *("clip_qkv", "norm", "norm_kind", "positions", "no_attn", "no_ffn", "linear_ffn"),
            *("during", "rounded_loss"),
        )
        for key in fixed:
            if getattr(self, key) != plain[key].default:
                raise ValueError(f"the simplified model has no '{key}'")
        if self.task.rule != "backcopy" or not self.task.start:
            raise ValueError("the simplified model needs the backcopy rule and ⟨s⟩")
        if self.optimizer.name in ("muon", "adamh"):
            raise ValueError(
                f"the simplified model's parameters are vectors; {self.optimizer.name} is for "
                "matrices"
            )
        if any(change.kind == "mean_residual" for change in self.interventions):
            raise ValueError("mean_residual: the simplified model has no residual stream")
        if any(change.kind == "zero_layer" for change in self.interventions):
            raise ValueError(
                "zero_layer: the simplified model has one layer and would write nothing"
            )

    def recorded_steps(self) -> list[int]:
        """Steps before which the statistics are measured, ascending."""
        return resolve_steps(self.record, self.steps)

    def training(self) -> dict[str, Any]:
        """What decides a seed's tables: everything but names, words and the other seeds.

        Steps stand as they are meant, whichever way the config says them.
        """
        values = self.model_dump(
            mode="json", exclude={"about", "section", "control", "sham", "seeds"}
        )
        return {**values, "record": self.recorded_steps(), "checkpoints": self.checkpoint_steps()}

    def checkpoint_steps(self) -> list[int]:
        """Steps whose weights are kept, ascending."""
        return [] if self.checkpoints is None else resolve_steps(self.checkpoints, self.steps)


class BigramBackcopy(Section):
    """The toy world: Bigram-Backcopy runs."""

    variants: dict[Name, Variant] = {}
    """Experiments by name; each seed becomes the trajectory bb/<name>/seed<k>."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device for training and measuring."""

    @model_validator(mode="after")
    def _controls(self) -> BigramBackcopy:
        for name, variant in self.variants.items():
            if variant.control == name:
                raise ValueError(f"variants.{name}.control: is the variant itself")
            if variant.control is not None and variant.control not in self.variants:
                known = ", ".join(self.variants)
                raise ValueError(
                    f"variants.{name}.control: no variant '{variant.control}'; there are {known}"
                )
            if variant.control and not {*variant.seeds} & {*self.variants[variant.control].seeds}:
                raise ValueError(
                    f"variants.{name}.control: {variant.control} has none of its seeds "
                    f"{', '.join(map(str, variant.seeds))}: nothing would be compared"
                )
        return self
