"""One run of the workflow: all sections together."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args

from pydantic import model_validator

from trajectory.config.alignment import Alignment
from trajectory.config.base import FirstToken, Name, PlainPath, Section, refuse_repeats
from trajectory.config.bb import BigramBackcopy, Variant
from trajectory.config.dynamics import Dynamics
from trajectory.config.fetch import Fetch
from trajectory.config.nano import EMBEDDED
from trajectory.config.probe import Probe
from trajectory.config.suites import Suites
from trajectory.errors import TrajectoryError

RECORDING = "recording.json"
"""File that says which training a ``Recorder`` recorded in a folder."""


class Config(Section):
    """One run of the workflow."""

    name: Name
    """The run's name; a results folder belongs to one name."""
    results: PlainPath
    """Folder the run writes to; ~ and $NAMES are replaced. Two configs must not share one."""
    recorded: dict[Name, PlainPath] = {}
    """Trainings that a `Recorder` recorded, by name, with their folders: their tables join the
    run's."""
    bb: BigramBackcopy = BigramBackcopy()
    """Bigram-Backcopy runs."""
    suites: Suites = Suites.model_validate({})
    """Language-model suites."""
    fetch: Fetch = Fetch()
    """How checkpoints are fetched."""
    probe: Probe = Probe()
    """Batches on which language models are measured."""
    dynamics: Dynamics = Dynamics()
    """Onsets and laws."""
    alignment: Alignment = Alignment()
    """Trajectories on one axis."""
    claims: list[str] = []
    """More claims beside those of arXiv 2410.13835: files of your own, or sail-sg, hidden-dynamics,
    gradient-sinks, bos-attractors."""

    @model_validator(mode="before")
    @classmethod
    def _first_tokens(cls, values: Any) -> Any:
        """What the probe's section states of the first token is more than what the registry does,
        and less than what a suite's own entry does."""
        if not isinstance(values, dict):
            return values
        probe, suites = values.get("probe"), values.get("suites")
        if not isinstance(probe, dict) or not isinstance(suites, dict):
            return values
        stated = probe.get("first_token")
        if stated not in get_args(FirstToken):
            return values
        public = {
            name: {"first_token": stated, **(given or {})}
            for name, given in suites.items()
            if isinstance(given, dict | NoneType) and name not in ("nano-olmo", "nano_olmo")
        }
        return {**values, "suites": {**suites, **public}}

    @model_validator(mode="after")
    def _something_to_do(self) -> Config:
        if not (self.bb.variants or self.suites.names() or self.recorded):
            raise ValueError("nothing to do: give bb.variants, suites or recorded")
        refuse_repeats("claims", self.claims)
        if both := sorted({*self.recorded} & {*self.suites.names()}):
            raise ValueError(f"recorded.{both[0]}: a suite has this name; leave one of the two out")
        if self.probe.forces is not None:
            for name, suite in self.suites.public().items():
                if not suite.loss:
                    raise ValueError(
                        "probe.forces: forces are derivatives of the loss, and suite "
                        f"'{name}' says 'loss: false'"
                    )
        changed, nano = self.probe.interventions, self.suites.nano_olmo
        if changed is not None and nano is not None and not self.suites.public():
            steps = nano.checkpoint_steps()
            if isinstance(changed.checkpoints, list) and (
                unknown := sorted(set(changed.checkpoints) - set(steps))
            ):
                raise ValueError(
                    f"probe.interventions.checkpoints: step {unknown[0]} is not measured; "
                    f"measured: {', '.join(map(str, steps))}"
                )
        return self

    def variant(self, name: str) -> Variant:
        """The variant of that name; TrajectoryError naming the known ones if there is none."""
        if name not in self.bb.variants:
            known = ", ".join(self.bb.variants) or "none"
            raise TrajectoryError(f"unknown variant '{name}'; this config has: {known}")
        return self.bb.variants[name]

    def held(self) -> set[str]:
        """Groups of trajectories that train with a value held or attention forced."""
        toys = {f"bb/{name}" for name, variant in self.bb.variants.items() if variant.during}
        nano = self.suites.nano_olmo
        if nano is None:
            return toys
        changed = {f"{EMBEDDED}-{name}" for name in nano.experiments}
        return toys | changed | ({EMBEDDED} if nano.during else set())

    def bb_trajectories(self) -> list[tuple[str, int]]:
        """(variant, seed) of every Bigram-Backcopy trajectory."""
        return [(name, seed) for name, v in self.bb.variants.items() for seed in v.seeds]


def is_recording(config: Config) -> bool:
    """Whether a config is the one that a ``Recorder`` writes: a single training, in its folder."""
    return list(config.recorded.values()) == [config.results]
