"""The run that a report shows: its tables, read when a page asks, and what all pages agree on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trajectory.config import Config
from trajectory.dynamics.courses import courses, placed
from trajectory.dynamics.rise import sinks
from trajectory.dynamics.series import group_of
from trajectory.report.palette import INK, colours
from trajectory.schemas import COSTS, MANIFEST
from trajectory.tables import ordered, provenance, read

ACTIVE_DOMAIN = "trigger"
"""Where the BB head is active; sinks are looked for on every other domain, dormant by the paper."""

DOMAIN_ORDER = ("non_trigger", "trigger", "prose", "code")
"""Domains in the order of pages; others come after them by name."""

SUITE_FOLDERS = {"manifest": "manifests", "batches": "batches"}
"""Tables of which every suite has its own file, and the folder of these files."""

DRAWN_RECORDS = 100
"""Records of one trajectory that charts draw at most, spread evenly over log steps: more do not
show at the width of a chart. The tables hold them all."""


def domain_rank(domain: str) -> tuple[int, str]:
    """Sort key of a domain."""
    known = domain in DOMAIN_ORDER
    return DOMAIN_ORDER.index(domain) if known else len(DOMAIN_ORDER), domain


TOYS = "bb/"
"""How the names of Bigram-Backcopy runs begin."""


def is_bb(trajectory: str) -> bool:
    """Whether a trajectory, or a group of them, is a Bigram-Backcopy run."""
    return trajectory.startswith(TOYS)


def world_rank(trajectory: str) -> tuple[bool, str]:
    """Sort key of a trajectory or group: BB first, then by name."""
    return not is_bb(trajectory), trajectory


def dormant(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of the domains on which sinks are looked for."""
    return frame.filter(pl.col("domain") != ACTIVE_DOMAIN)


class Run:
    """The tables of one results folder.

    Attributes:
        results: the folder.
        config: the run's config.
    """

    def __init__(self, results: Path, config: Config) -> None:
        self.results = results
        self.config = config

    def path(self, name: str) -> Path:
        """Where the table would lie."""
        return self.results / "tables" / f"{name}.parquet"

    def has(self, name: str) -> bool:
        """Whether this run wrote the table and there is anything in it."""
        return any(path.is_file() and _height(path) for path in self.files(name))

    def files(self, name: str) -> list[Path]:
        """The table's files: one, or one per suite for tables about suites."""
        if name in SUITE_FOLDERS:
            return sorted((self.results / SUITE_FOLDERS[name]).glob("*.parquet"))
        if name == COSTS.name:  # differs from run to run, so it lies beside the tables
            return [self.results / "costs.parquet"]
        return [self.path(name)]

    def scan(self, name: str) -> pl.LazyFrame:
        """The table as a lazy frame; TrajectoryError if it is missing or not ours."""
        return ordered(self.results, name)

    def frame(self, name: str, *columns: str) -> pl.DataFrame:
        """The table's columns, all of them if none is named."""
        lazy = self.scan(name)
        return (lazy.select(*columns) if columns else lazy).collect()

    def height(self, name: str) -> int:
        """Rows of the table."""
        return sum(_height(path) for path in self.files(name))

    def drawn(self, name: str, *columns: str) -> pl.DataFrame:
        """The table's columns at the records that charts draw."""
        lazy = self.scan(name)
        kept = self.drawn_records.lazy()
        chosen = lazy.select(*columns) if columns else lazy
        return chosen.join(kept, on=["trajectory", "step"], how="semi").collect()

    def measured(self, name: str, most: int, *columns: str) -> pl.DataFrame:
        """The table's columns at every record, or at those that charts draw if it has more rows."""
        few = self.height(name) <= most
        return self.frame(name, *columns) if few else self.drawn(name, *columns)

    @cached_property
    def records(self) -> pl.DataFrame:
        """(trajectory, step) of every record, sorted."""
        found = self.scan("checkpoints").select("trajectory", "step").unique().collect()
        return found.sort("trajectory", "step")

    @cached_property
    def static(self) -> list[str]:
        """Trajectories of one record: nothing of them is drawn over training."""
        counted = self.records.group_by("trajectory").len().filter(pl.col("len") == 1)
        return sorted(counted["trajectory"], key=world_rank)

    def is_static(self, trajectory: str) -> bool:
        """Whether a trajectory has one record."""
        return trajectory in self.static

    @cached_property
    def drawn_records(self) -> pl.DataFrame:
        """Those records that charts draw."""
        return pl.concat([_spread(part) for part in self.records.partition_by("trajectory")])

    @property
    def thinned(self) -> bool:
        """Whether charts leave records out."""
        return self.drawn_records.height < self.records.height

    @cached_property
    def trajectories(self) -> list[str]:
        """All trajectories, BB first."""
        return sorted(self.records["trajectory"].unique(), key=world_rank)

    @cached_property
    def groups(self) -> list[str]:
        """The groups of the run, BB first: the order of colours."""
        return sorted({group_of(t) for t in self.trajectories}, key=world_rank)

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colour of every group, in their order; the first colours, which lie farthest apart,
        are of models that trained freely. The only language model is in ink, wherever it is drawn;
        of several each has a colour, for ink would not tell them apart."""
        found = colours(sorted(self.groups, key=self.is_held))
        models = [group for group in self.groups if not is_bb(group)]
        if len(models) == 1:
            found[models[0]] = INK
        return {group: found[group] for group in self.groups}

    def is_held(self, group: str) -> bool:
        """Whether a part of the model was held or forced while it trained, or it is only the
        control of such trainings."""
        variant = self.config.bb.variants.get(group.removeprefix(TOYS)) if is_bb(group) else None
        if variant is not None:
            return bool(variant.during) or variant.section == "causes"
        trained = self.config.suites.embedded()
        return any(training.during for name, training in trained.items() if group_of(name) == group)

    @cached_property
    def domains(self) -> list[str]:
        """All domains in the order of pages."""
        found = self.scan("checkpoints").select(pl.col("domain").unique()).collect()["domain"]
        return sorted(found, key=domain_rank)

    @cached_property
    def series(self) -> list[tuple[str, str]]:
        """Every trajectory with each of its domains, in the order of pages."""
        pairs = self.scan("checkpoints").select("trajectory", "domain").unique().collect().rows()
        return sorted(pairs, key=lambda pair: (world_rank(pair[0]), domain_rank(pair[1])))

    @cached_property
    def shown_domains(self) -> list[str]:
        """The domains that charts show at first: one of each world on which sinks are expected."""
        language = [d for d in self.domains if d not in ("trigger", "non_trigger")]
        return [d for d in self.domains if d in ("non_trigger", *language[:1])]

    @cached_property
    def free(self) -> list[str]:
        """The groups that trained freely, or all if none did."""
        return [g for g in self.groups if not self.is_held(g)] or self.groups

    @property
    def whole(self) -> str:
        """What charts show at first that leave out trainings of which a part was held."""
        return "All runs" if len(self.free) == len(self.groups) else "All runs but experiments"

    @property
    def scope(self) -> str:
        """What charts show, and sentences tell of, until a reader chooses."""
        whole = f"{self.whole[0].lower()}{self.whole[1:]}"
        domains = sorted(self.shown_domains, key=domain_rank)
        return f"Charts first show {whole}, on {' and '.join(domains)}."

    def freely(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of trainings of which no part was held."""
        held = [t for t in self.trajectories if group_of(t) not in self.free]
        return frame.filter(~pl.col("trajectory").is_in(held))

    def first_shown(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of the domains and trainings that charts show at first."""
        return self.freely(frame).filter(pl.col("domain").is_in(self.shown_domains))

    @cached_property
    def leads(self) -> pl.DataFrame:
        """The head with the greatest late sink of each trajectory and domain."""
        columns = ("trajectory", "domain", "layer", "head", "onset", "status", "low", "high")
        return self.sink_onsets.filter(pl.col("lead")).select(*columns).collect()

    @cached_property
    def layer_leads(self) -> pl.DataFrame:
        """The head with the greatest late sink of each layer."""
        columns = ("trajectory", "domain", "layer", "head", "lead")
        return self.sink_onsets.filter(pl.col("leads_layer")).select(*columns).collect()

    @property
    def sink_onsets(self) -> pl.LazyFrame:
        """When every single head becomes a sink."""
        of_sinks = (pl.col("phenomenon") == "sink") & (pl.col("level") == "head")
        return self.scan("onsets").filter(of_sinks)

    @cached_property
    def phenomena(self) -> pl.DataFrame:
        """The run's phenomena table."""
        return self.frame("phenomena")

    @cached_property
    def forced(self) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Forces with their arrows, and their course over training; None where none is measured."""
        if not all(self.has(name) for name in ("forces", "force_means")):
            return None
        arrows = self.frame("arrows") if self.has("arrows") else None
        columns = ("trajectory", "step", "domain", "layer", "head", "sink_excess")
        found = sinks(self.frame("heads", *columns), self.frame("onsets"))
        return placed(self.frame("forces"), arrows, found), courses(
            self.frame("force_means"), found
        )

    @cached_property
    def manifests(self) -> dict[str, pl.DataFrame]:
        """The manifest of every suite that has one."""
        found = {}
        for path in sorted((self.results / "manifests").glob("*.parquet")):
            found[path.stem] = pl.DataFrame(read(path, MANIFEST))
        return found

    @property
    def costs(self) -> pl.DataFrame:
        """What every job cost."""
        (path,) = self.files(COSTS.name)
        return pl.DataFrame(read(path, COSTS))

    def provenance(self, name: str) -> dict[str, Any]:
        """What wrote the table."""
        return provenance(self.path(name))


def _height(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _spread(records: pl.DataFrame) -> pl.DataFrame:
    """At most DRAWN_RECORDS of one trajectory's records: first, last, even over log steps."""
    steps = records["step"].to_numpy()
    if len(steps) <= DRAWN_RECORDS:
        return records
    wanted = np.geomspace(steps[steps > 0][0], steps[-1], DRAWN_RECORDS)
    after = np.clip(np.searchsorted(steps, wanted), 1, len(steps) - 1)
    nearer = after - (wanted - steps[after - 1] < steps[after] - wanted)
    return records[np.unique([0, *nearer.tolist(), len(steps) - 1]).tolist()]
