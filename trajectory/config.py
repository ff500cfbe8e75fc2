"""The config: typed models of ``config.yaml``, one class per section.

The JSON schema in ``workflow/schemas`` is generated from these classes. Values are checked before
any job starts; a mistake is reported as one line per key.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from trajectory.errors import TrajectoryError

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values cannot be changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class LogSpaced(Section):
    """Steps spaced evenly in the logarithm, step 0 and the last step included."""

    first: Count = 1
    """First step after step 0."""
    count: Annotated[int, Field(ge=2)]
    """Distinct steps wanted between the first and the last, both included."""


StepList = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Steps = Annotated[
    Annotated[LogSpaced, Tag("<log-spaced>")] | Annotated[StepList, Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<log-spaced>"),
]


def resolve_steps(record: list[int] | LogSpaced, last: int) -> list[int]:
    """The steps meant by ``record`` in a run of ``last`` steps, ascending and distinct.

    Raises ValueError if an explicit step lies beyond the run or the first log-spaced step does.
    """
    if isinstance(record, LogSpaced):
        if record.first >= last:
            raise ValueError(f"first step {record.first} is not before the last step {last}")
        ratio = (last / record.first) ** (1 / (record.count - 1))
        return sorted({0} | {round(record.first * ratio**k) for k in range(record.count)})
    if max(record) > last:
        raise ValueError(f"step {max(record)} lies beyond the run's {last} steps")
    return sorted(set(record))


class Task(Section):
    """The Bigram-Backcopy task (arXiv 2410.13835, section 2)."""

    triggers: Count = 3
    """k: after each of the k most frequent characters, the character before it is copied."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens the model sees per sequence, ⟨s⟩ included. The paper: 256."""
    text: Path | None = None
    """A text whose character pairs replace the shipped table of tiny Shakespeare."""


class AdamW(Section):
    """AdamW as in the authors' runs."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    """Learning rate. The paper: 3e-4 at width 256."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    """Decay of the moment estimates."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay."""


class SGD(Section):
    """SGD with momentum as in the authors' runs."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.03
    """Learning rate. The paper: 0.03."""
    momentum: Fraction = 0.9
    """Momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """L2 penalty."""


class Variant(Section):
    """One Bigram-Backcopy experiment: task, model, optimiser, steps and seeds."""

    task: Task = Task()
    """The task."""
    layers: Annotated[int, Field(ge=1, le=12)] = 1
    """Transformer blocks. The paper: 1 to 3."""
    width: Annotated[int, Field(ge=8)] = 64
    """Residual width; the MLP is four times as wide. The paper: 256."""
    heads: Count = 1
    """Attention heads. The paper: 1."""
    attention: Literal["softmax", "relu"] = "softmax"
    """Attention weights: softmax, or relu(z)/(i+1)."""
    optimizer: Annotated[AdamW | SGD, Field(discriminator="name")] = AdamW()
    """The optimiser."""
    batch: Count = 64
    """Sequences per step. The paper: 512."""
    steps: Count = 1000
    """Optimiser steps."""
    record: Steps = LogSpaced(first=10, count=32)
    """Steps before which the statistics are measured: log-spaced, or a list."""
    evaluation: Count = 128
    """Sequences the statistics are measured on; the same for every seed."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """Seeds; each draws its own initial weights and its own training data."""

    @model_validator(mode="after")
    def _consistent(self) -> Variant:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} repeat")
        resolve_steps(self.record, self.steps)
        return self

    def recorded_steps(self) -> list[int]:
        """Steps before which the statistics are measured, ascending."""
        return resolve_steps(self.record, self.steps)


class BigramBackcopy(Section):
    """The toy world: Bigram-Backcopy runs."""

    variants: dict[Name, Variant] = {}
    """Experiments by name; each seed becomes the trajectory bb/<name>/seed<k>."""


class NanoOlmo(Section):
    """The embedded suite: a small OLMo pretrained by the workflow on this Python's own texts."""

    layers: Count = 2
    """Decoder blocks."""
    width: Annotated[int, Field(ge=8)] = 128
    """Residual width."""
    heads: Count = 8
    """Attention heads."""
    mlp: Count = 512
    """Width of the gated MLP."""
    vocabulary: Annotated[int, Field(ge=512)] = 2048
    """Byte-level BPE tokens, <|endoftext|> included."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens per training sequence; the first is <|endoftext|>."""
    batch: Count = 16
    """Sequences per step."""
    lr: Positive = 6e-3
    """Peak learning rate of AdamW (betas 0.9, 0.95)."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps of linear warm-up; constant afterwards."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""
    gradient_clip: Positive = 1.0
    """Greatest norm of the gradient."""
    prose_share: Fraction = 0.25
    """Share of training sequences that are prose; the rest is code."""
    steps: Count = 3000
    """Optimiser steps."""
    checkpoints: Steps = LogSpaced(first=16, count=24)
    """Steps saved as revisions: log-spaced, or a list."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the initial weights and the order of the data."""

    @model_validator(mode="after")
    def _consistent(self) -> NanoOlmo:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not divisible by 2 × heads {self.heads} (rotary embedding)"
            )
        resolve_steps(self.checkpoints, self.steps)
        return self

    def checkpoint_steps(self) -> list[int]:
        """Steps saved as revisions, ascending."""
        return resolve_steps(self.checkpoints, self.steps)


class Suites(Section):
    """Pretraining runs whose checkpoints are measured, by the suite's name."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    nano_olmo: Annotated[NanoOlmo | None, Field(alias="nano-olmo")] = None
    """The embedded stand-in: needs no network."""

    def names(self) -> list[str]:
        """The suites of this run."""
        return ["nano-olmo"] if self.nano_olmo else []


class Probe(Section):
    """What language models are measured on."""

    domains: Annotated[list[Literal["prose", "code"]], Field(min_length=1)] = ["prose", "code"]
    """Held-out text: Python's documentation topics, the standard library's sources."""
    texts: dict[Name, Path] = {}
    """More domains by name: UTF-8 text files."""
    sequences: Count = 64
    """Sequences per domain."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens per sequence, the first token's policy included."""
    first_token: Literal["eos_prepended", "raw"] = "eos_prepended"
    """What stands at position 0: <|endoftext|>, or the text's own token."""

    @model_validator(mode="after")
    def _distinct(self) -> Probe:
        taken = set(self.texts) & {"prose", "code", "trigger", "non_trigger"}
        if taken:
            raise ValueError(f"texts: the name '{min(taken)}' is a domain already")
        return self


class Dynamics(Section):
    """Thresholds of the phenomena and of the fits."""

    sink_threshold: Fraction = 0.2
    """sink_excess from which a head counts as a sink."""
    drain_threshold: Positive = 0.5
    """value_ratio up to which the sink's value counts as drained."""
    peak_threshold: Positive = 2.0
    """residual_ratio from which the sink's residual counts as a peak."""
    gate_threshold: Positive = 2.0
    """Difference of sink log-odds between two domains from which a head is gated, in nats."""
    least_points: Annotated[int, Field(ge=5)] = 8
    """Records a curve needs to be fitted."""


class Config(Section):
    """One run of the workflow."""

    name: Name
    """The run's name; a results folder belongs to one name."""
    results: Path
    """Folder the run writes to. Two configs must not share one."""
    bb: BigramBackcopy = BigramBackcopy()
    """Bigram-Backcopy runs."""
    suites: Suites = Suites()
    """Language-model suites."""
    probe: Probe = Probe()
    """Batches on which language models are measured."""
    dynamics: Dynamics = Dynamics()
    """Onsets and laws."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Config:
        if not self.bb.variants and not self.suites.names():
            raise ValueError("nothing to do: give bb.variants or suites")
        return self

    def variant(self, name: str) -> Variant:
        """The variant of that name; TrajectoryError naming the known ones if there is none."""
        if name not in self.bb.variants:
            known = ", ".join(self.bb.variants) or "none"
            raise TrajectoryError(f"unknown variant '{name}'; this config has: {known}")
        return self.bb.variants[name]

    def bb_trajectories(self) -> list[tuple[str, int]]:
        """(variant, seed) of every Bigram-Backcopy trajectory."""
        return [(name, seed) for name, v in self.bb.variants.items() for seed in v.seeds]


def parse(values: Any, source: str = "config") -> Config:
    """The validated config; TrajectoryError with one line per mistake, each naming file and key."""
    if not isinstance(values, dict):
        raise TrajectoryError(
            f"{source}: should hold keys and values, found {type(values).__name__}"
        )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(details) for details in error.errors())
        raise TrajectoryError("\n".join(f"{source}: {line}" for line in lines)) from None


def load(path: Path) -> Config:
    """The config in a YAML or JSON file; TrajectoryError if it cannot be read or is wrong."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise TrajectoryError(f"{path}: not YAML ({reason})") from None
    return parse(values, str(path))


def _explain(error: ErrorDetails) -> str:
    """One line for a pydantic error: where, what was found, what would be right."""
    location = _keys(error["loc"])
    where = ".".join(location) or "config"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(location[-1], known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        kind = "suite" if location[:-1] == ["suites"] else "key"
        return f"{where}: unknown {kind} '{location[-1]}'; {hint}"
    if error["type"] == "missing":
        return f"{where}: is required"
    if error["type"] == "too_short":
        return f"{where}: must not be empty"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, found {error['input']!r}"


def _keys(location: tuple[str | int, ...]) -> list[str]:
    """The keys the user wrote: pydantic adds the name of the union's member it tried."""
    parts = [str(part) for part in location]
    return [
        part
        for before, part in zip(["", *parts], parts, strict=False)
        if not part.startswith("<") and not (before == "optimizer" and part in ("adamw", "sgd"))
    ]


def _known_keys(location: list[str]) -> list[str]:
    """The keys the config knows at ``location``, read off its JSON schema."""
    schema = Config.model_json_schema(by_alias=True)
    node: dict[str, Any] = schema

    def follow(node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return follow(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        choices = [c for key in ("anyOf", "oneOf", "allOf") for c in node.get(key, [])]
        return [n for c in choices for n in follow(c)] if choices else [node]

    nodes = [node]
    for key in location:
        below = [
            child
            for n in nodes
            for child in (
                [n["properties"][key]]
                if key in n.get("properties", {})
                else n.get("patternProperties", {}).values()
            )
        ]
        nodes = [m for child in below for m in follow(child)]
    return sorted({key for n in nodes for key in n.get("properties", {})})
