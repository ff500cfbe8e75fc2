"""What a Bigram-Backcopy experiment is made of: task, optimisers, interventions, maps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trajectory.config.base import Count, ExpandedPath, Fraction, Positive, Section
from trajectory.config.layers import Placed

Decay = Annotated[float, Field(ge=0, lt=1)]


class Task(Section):
    """The Bigram-Backcopy task and its relatives (arXiv 2410.13835, section 2 and its code)."""

    rule: Literal["backcopy", "bigram", "bigram_backward", "bietti", "backcopy_first", "repeat"] = (
        "backcopy"
    )
    """What follows a trigger: the token before it (backcopy); a bigram draw, as after any other
    token (bigram, 'markov'); a draw from the bigram law of the token before it (bigram_backward,
    'dormant Markov'); the token that the sequence has drawn for this trigger (bietti, arXiv
    2306.00802); from its second occurrence on, the token before its first one (backcopy_first,
    'dormant Biette'); the token itself, for every token that the sequence has had before, while all
    others are independent draws of the unigram law (repeat, 'icl'). Names in quotes are those of
    the authors' code."""
    triggers: Count = 3
    """k: the k most frequent characters are triggers. The paper: 3 and 5."""
    mix: Fraction = 1.0
    """Interpolation: with this probability the rule holds at a trigger, else the bigram law does.
    For backcopy and bigram_backward."""
    start: bool = True
    """Whether sequences start with ⟨s⟩."""
    delimiter: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Probability that a character is followed by the delimiter ⟨d⟩; 0 for no delimiter."""
    unused_delimiter: bool = False
    """Whether the vocabulary has ⟨d⟩ although no character is followed by it, as in the authors'
    runs: their 67th token."""
    after_delimiter: Literal["same", "permuted"] = "same"
    """Whether characters change their roles after the first ⟨d⟩ ('double tasks')."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens the model sees per sequence, ⟨s⟩ included. The paper: 256."""
    registers: Annotated[int, Field(ge=0, le=8)] = 0
    """Learned tokens ⟨r1⟩, ⟨r2⟩, … before every sequence, which predict nothing: no loss is taken
    at their positions (registers of arXiv 2309.16588, before rather than after a causal sequence).
    They count in `length`; position 0, which the tables call the sink, is ⟨r1⟩."""
    text: ExpandedPath | None = None
    """A text whose character pairs replace the shipped table of tiny Shakespeare."""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.mix < 1 and self.rule not in ("backcopy", "bigram_backward"):
            raise ValueError(f"mix {self.mix:g} is for backcopy and bigram_backward")
        if self.after_delimiter == "permuted" and not self.delimiter:
            raise ValueError("after_delimiter 'permuted' needs a delimiter above 0")
        if self.after_delimiter == "permuted" and self.rule in ("bietti", "backcopy_first"):
            raise ValueError(f"after_delimiter 'permuted' is not for {self.rule}")
        if self.delimiter and self.unused_delimiter:
            raise ValueError(f"unused_delimiter: with delimiter {self.delimiter:g} it is used")
        if self.delimiter and self.rule == "repeat":
            raise ValueError("repeat is a rule without delimiters")
        return self


class AdamW(Section):
    """AdamW as in the authors' runs."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    """Learning rate. The paper: 3e-4 at width 256."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
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


class Muon(Section):
    """Muon (torch.optim.Muon) for the blocks' matrices, AdamW for everything else."""

    name: Literal["muon"] = "muon"
    lr: Positive = 1e-3
    """Learning rate of both; Muon's updates are scaled to AdamW's root mean square."""
    momentum: Fraction = 0.95
    """Momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Decoupled weight decay."""


class AdamH(Section):
    """AdamH for the blocks' matrices, AdamW without decay for everything else (Hyperball, arXiv
    2606.16899): W ← R·N(W − η R·N(u)), where N divides by the Frobenius norm, u is Adam's update
    and R the norm of the matrix before training, which it keeps."""

    name: Literal["adamh"] = "adamh"
    lr: Positive = 2e-2
    """η of the matrices: the length of a step, as a share of the matrix's norm."""
    adam_lr: Positive = 1e-3
    """Learning rate of everything else; the schedule scales both."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Decay of the moment estimates."""


class LearningRate(Section):
    """The learning rate over the steps; constant in the paper."""

    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """From the warm-up on: constant, or down to 0 at the last step."""


class Intervention(Placed):
    """A change of the trained model, applied at every recorded step; training continues without it.

    A layer whose attention is replaced keeps the head statistics of its queries and keys.
    """

    kind: Literal[
        "zero_attention",
        "zero_mlp",
        "zero_layer",
        "oracle_attention",
        "mean_value",
        "reset_value",
        "mean_residual",
    ]
    """zero_attention, zero_mlp, zero_layer: attention, MLP or both write nothing.
    oracle_attention: non-triggers attend to position 0 alone, triggers to the token before.
    mean_value: the value at position 0 becomes the mean of the others'. reset_value: it becomes
    what it was at step 0, without ⟨s⟩ in the mean over sequences. mean_residual: the residual at
    position 0 is scaled to the mean norm of the others where it enters the layer."""

    @property
    def label(self) -> str:
        """The intervention in one word and its layers, as the tables name it."""
        return f"{self.kind} {','.join(map(str, self.places))}"


class Maps(Section):
    """Attention maps kept of some probe sequences."""

    sequences: Annotated[int, Field(ge=0)] = 2
    """How many sequences; 0 for none."""
    length: Count = 32
    """Number of their first positions."""
    records: Count = 4
    """How many recorded steps, evenly spaced among them, the last included."""
