"""What language models are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trajectory.config.base import Count, FirstToken, Name, Section, refuse_repeats
from trajectory.config.forces import Forces
from trajectory.config.interventions import Interventions


class Parquet(Section):
    """Texts in a column of Parquet files."""

    source: str
    """A path, a glob, or a URL: hf://datasets/<owner>/<name>/<path>.parquet."""
    column: str = "text"
    """The column that holds the texts."""
    rows: Count = 1000
    """Rows to read, from the first."""


class Probe(Section):
    """What language models are measured on."""

    domains: list[Literal["prose", "code", "repeated-random"]] = ["prose", "code"]
    """Built-in domains. Held-out texts: prose, Python's documentation topics; code, the standard
    library's sources. repeated-random: a block of distinct random tokens, twice, on which the field
    scores induction. May be empty if other domains are given."""
    texts: dict[Name, Path] = {}
    """More domains by name: UTF-8 text files. A special token spelled in a text (<s> in HTML) is
    read as characters, here and in `parquet`."""
    parquet: dict[Name, Parquet] = {}
    """More domains by name: Parquet files, local or on the hub."""
    prompts: dict[Name, Annotated[list[str], Field(min_length=1)]] = {}
    """More domains by name: short texts, each one sequence, with no token prepended. A special
    token spelled in a prompt is that token: `<s>Summer is warm.` begins with it."""
    sequences: Count = 64
    """Sequences per domain; fewer if the text is too short for so many without overlap."""
    length: Annotated[int, Field(ge=16)] = 64
    """Tokens per sequence, a prepended first token included."""
    first_token: FirstToken = "eos_prepended"
    """Token at position 0: the tokenizer's end-of-text token (<|endoftext|>), its beginning-of-text
    token, or the text's own first token (raw). A suite's entry in the config wins over this key;
    this key, if the config sets it, wins over the registry; the default is for suites without
    either."""

    device: Literal["cpu", "cuda", "mps", "auto"] = "cpu"
    """Device that runs checkpoints; auto is CUDA, else MPS, else the CPU. The device used is
    stored."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Floating-point type of the forward pass, whatever the files hold."""
    statistics: Literal["float64", "float32"] = "float64"
    """Floating-point type of the statistics; float32 is faster and accurate to about 1e-5."""
    rounded_loss: bool = False
    """Measure the loss with the blocks' weights rounded to 8 and to 4 bits too, in the same pass;
    three times the computation. For suites whose loss is measured."""
    threads: Count = 1
    """CPU threads of a job that measures or ablates checkpoints; the last digits depend on it. Use
    more for checkpoints of gigabytes, one for many small checkpoints."""
    interventions: Interventions | None = None
    """Ablations of the models; null for none."""
    forces: Forces | None = None
    """Forces on sinks and their values; null for none."""

    @model_validator(mode="after")
    def _distinct(self) -> Probe:
        refuse_repeats("domains", self.domains)
        if self.forces is not None:
            self.forces.refuse_beyond(self.length)
            if self.sequences < 2:
                raise ValueError("forces: standard errors need two sequences; sequences is 1")
        known = {*self.domains, "trigger", "non_trigger", "all", "repeated-random"}
        for section, names in (
            ("texts", self.texts),
            ("parquet", self.parquet),
            ("prompts", self.prompts),
        ):
            taken = known & set(names)
            if taken:
                raise ValueError(f"{section}: the name '{min(taken)}' is a domain already")
            known |= set(names)
        if not (self.domains or self.texts or self.parquet or self.prompts):
            raise ValueError("no domain: give domains, texts, parquet or prompts")
        return self

    def of_batches(self) -> dict[str, Any]:
        """The values that decide the token batches."""
        return self.model_dump(mode="json", include={*_OF_BATCHES})

    def of_compute(self) -> dict[str, Any]:
        """The values that decide how checkpoints are run."""
        return self.model_dump(mode="json", include={"device", "dtype", "statistics"})

    def of_rows(self) -> dict[str, Any]:
        """The values that decide the rows of every job on a checkpoint, whatever its batches: all
        that are not known to decide something else."""
        return self.model_dump(mode="json", exclude={*_OF_BATCHES, "interventions", "forces"})


_OF_BATCHES = ("domains", "texts", "parquet", "prompts", "sequences", "length", "first_token")
