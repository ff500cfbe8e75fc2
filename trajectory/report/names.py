"""What people call a run's variants and models: "3 layers, AdamW" for ``bb/adamw-3l``.

Tables and downloads keep the names of the config; pages say these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from trajectory.config import Config, Variant
from trajectory.dynamics.series import SEED, group_of
from trajectory.report.run import is_bb

OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD", "muon": "Muon", "adamh": "AdamH"}

ATTENTIONS = {
    "relu": ("ReLU", "ReLU attention"),
    "sigmoid": ("sigmoid", "sigmoid attention"),
    "softpick": ("softpick", "softpick attention"),
    "softmax_off_by_one": ("off by one", "a null key with logit 0"),
    "sink_logit": ("sink logit", "a null key with a learned logit"),
}
"""Kind of attention → in a list of features, and as what a change is."""

FLAGS = {
    "value_gate": "value gate",
    "head_gate": "head gate",
    "qk_norm": "QK norm",
    "clip_qkv": "clipped QKV",
}

CHOICES = {
    ("v_scale", "full"): "V-scale",
    ("v_scale", "backward"): "V-scale of gradients alone",
    ("model", "simplified"): "simplified model",
    ("norm", "post"): "post-norm",
    ("norm", "none"): "no norm",
    ("norm_kind", "rms"): "RMSNorm",
    ("norm_kind", "single_scale"): "single-scale norm",
    ("positions", "rope"): "rotary positions",
    ("positions", "none"): "no positions",
}

DOMAINS = {"non_trigger": "non-trigger"}
"""Domains whose name in tables is no word."""

CHANGES = {
    "zero_attention": "no attention in {}",
    "zero_mlp": "no MLP in {}",
    "zero_layer": "no attention or MLP in {}",
    "oracle_attention": "the task's own attention in {}",
    "mean_value": "the others' mean value in {}",
    "reset_value": "the first value in {}",
    "mean_residual": "the others' mean norm into {}",
    "zero_head": "no head {1} in {0}",
    "head_to_sink": "head {1} all on the sink in {0}",
}
"""Kind of an intervention → what it makes of a layer, and of a head in it."""

_CHANGED = (
    rf"(?<![\w-])(?P<kind>{'|'.join(CHANGES)})"
    r"(?:(?:-L| layer )(?P<layer>\d+)(?:(?:H| head )(?P<head>\d+))?| (?P<layers>\d+(?:,\d+)*))"
    r"(?![\w-])"
)
"""An intervention as tables name it: ``zero_head-L1H4`` or ``zero_head layer 1 head 4``, of a toy
``zero_mlp 0,1``."""

CONTROL = "control"
"""What a control is told as whose features are those of another variant."""

HOLDS = {"hold_value": "value held", "force_attention": "sink forced"}


def features(variant: Variant) -> list[tuple[str, str]]:
    """What a variant is, each in a list of features and as what a change is: its layers, what is
    not the paper's, its optimiser."""
    layers = f"{variant.layers} layer{'s' if variant.layers > 1 else ''}"
    return [(layers, layers), *_own(variant), (_optimiser(variant), _optimiser(variant))]


def _own(variant: Variant) -> Iterator[tuple[str, str]]:
    """Everything that differs from the paper's task and model."""
    if variant.attention in ATTENTIONS:
        yield ATTENTIONS[variant.attention]
    for key, told in FLAGS.items():
        if getattr(variant, key):
            yield told, told
    for (key, value), told in CHOICES.items():
        if getattr(variant, key) == value:
            yield told, told
    for key, told in (
        ("no_attn", "no attention"),
        ("no_ffn", "no MLP"),
        ("linear_ffn", "linear MLP"),
    ):
        if layers := getattr(variant, key):
            text = f"{told} in {', '.join(map(str, layers))}"
            yield text, text
    yield from ((text, text) for text in _task(variant))
    if variant.weights_seed is not None:
        text = f"weights of seed {variant.weights_seed}"
        yield text, text
    for hold in variant.during:
        text = HOLDS[hold.kind] + (f" at position {hold.position}" if hold.position else "")
        yield text, text


def _task(variant: Variant) -> Iterator[str]:
    task = variant.task
    if task.rule != "backcopy":
        yield f"{task.rule.replace('_', ' ')} task"
    if task.mix < 1:
        yield f"rule with probability {task.mix:g}"
    if task.triggers != 3:
        yield f"{task.triggers} triggers"
    if not task.start:
        yield "no ⟨s⟩"
    if task.unused_delimiter:
        yield "unused delimiter"
    if task.registers:
        yield f"{task.registers} register{'s' if task.registers > 1 else ''}"
    if task.delimiter:
        yield "two tasks" if task.after_delimiter == "permuted" else "delimiter"


def _optimiser(variant: Variant) -> str:
    name = OPTIMISERS[variant.optimizer.name]
    decay = getattr(variant.optimizer, "weight_decay", None)
    usual = getattr(Variant().optimizer, "weight_decay", None)
    if variant.optimizer.name != "adamw" or decay == usual:
        return name
    return f"{name}, weight decay {decay:g}"


def change(variant: Variant, control: Variant) -> str:
    """What a variant has that its control has not: 'ReLU attention'; '' where features agree."""
    own = {short for short, _ in features(control)}
    return " and ".join(long for short, long in features(variant) if short not in own)


def _changed(found: re.Match[str]) -> str:
    """What an intervention makes of its layers, for people."""
    layers = (found["layer"] or found["layers"]).split(",")
    place = f"layer{'s' if len(layers) > 1 else ''} {' and '.join(layers)}"
    return CHANGES[found["kind"]].format(place, found["head"])


class Names:
    """What the variants and models of one run are called.

    Of two variants with the same features the first in the config keeps them as its name; the name
    in the config tells the others from it, or that it is the control of experiments.
    """

    def __init__(self, config: Config) -> None:
        self.labels: dict[str, str] = {}
        taken: set[str] = set()
        controls = {variant.control for variant in config.bb.variants.values()}
        for name, variant in config.bb.variants.items():
            label = ", ".join(short for short, _ in features(variant))
            if label in taken:
                told = CONTROL if name in controls else re.sub("[-_]", " ", name)
                told = re.sub("[-_]", " ", name) if f"{label} ({told})" in taken else told
                label = f"{label} ({told})"
            taken.add(label)
            self.labels[f"bb/{name}"] = label

    def of(self, name: str) -> str:
        """A group, or a trajectory with its seed; a language model keeps its name."""
        group = group_of(name)
        label = self.labels.get(group)
        if label is None:
            return name
        seed = SEED.search(name) if is_bb(name) else None
        return f"{label}, seed {seed.group().rsplit('seed')[1]}" if seed else label

    def within(self, text: str) -> str:
        """A sentence with the names of the config replaced; those of models are quoted, for they
        hold commas."""
        return self._pattern.sub(lambda m: self._told(m, "“{}”"), text)

    def inside(self, text: str) -> str:
        """The same without quotes, for a cell or an entry of a list."""
        return self._pattern.sub(lambda m: self._told(m, "{}"), text)

    def called(self, names: Iterable[str]) -> dict[str, str]:
        """What people call these models and all domains → their names in the config."""
        return {new: name for name in (*names, *DOMAINS) if (new := self.inside(name)) != name}

    def _told(self, found: re.Match[str], written: str) -> str:
        name = found.group()
        if found["kind"]:
            return _changed(found)
        return DOMAINS[name] if name in DOMAINS else written.format(self.of(name))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest = "|".join(re.escape(n) for n in sorted(self.labels, key=len, reverse=True))
        models = rf"(?<![\w/-])(?:{longest})(?:/seed\d+)?(?![\w/-])|" if longest else ""
        return re.compile(rf"{models}{_CHANGED}|(?<![\w-])(?:{'|'.join(DOMAINS)})(?![\w-])")
