"""A study of single checkpoints by hand: from folders to a results folder with its report.

The stages are the workflow's own, one after the other in this process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajectory import provenance
from trajectory.checkpoints.listed import with_rates
from trajectory.checkpoints.local import revision_folder, revision_folders
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.selection import selected
from trajectory.config import Config, parse
from trajectory.config.suites import Suite
from trajectory.corpus.tokenizer import has_tokenizer, tokenizer_places
from trajectory.errors import TrajectoryError
from trajectory.hub.content import local_revision, weight_files
from trajectory.jobs.batches import make_batches, read_batches
from trajectory.jobs.intervene import intervene
from trajectory.jobs.measure import measure_checkpoint
from trajectory.probe.compute import Compute
from trajectory.probe.weights import LocalWeights
from trajectory.results import claim
from trajectory.rows import Row
from trajectory.schemas import BATCHES, EFFECTS, MEASUREMENTS, TABLES
from trajectory.tables import from_rows, write

Report = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """What is measured.

    Attributes:
        folders: of the checkpoints.
        texts: text files by domain; empty for the prose and code that every Python carries.
        interventions: as in a config.
        output: results folder.
        sequences, length: of every domain.
        first_token: what stands at position 0.
        dtype: of the forward pass.
        threads: of torch.
    """

    folders: Sequence[Path]
    texts: Mapping[str, Path]
    interventions: Mapping[str, Any]
    output: Path
    sequences: int = 16
    length: int = 64
    first_token: str = "eos_prepended"
    dtype: str = "float32"
    threads: int = 1

    def config(self) -> Config:
        """The config that the workflow would do the same with.

        Raises TrajectoryError for two folders of one name, or what no config may hold.
        """
        suites: dict[str, Row] = {}
        places: dict[str, Path] = {}
        for folder in self.folders:
            name = name_of(folder)
            if name in places:
                raise TrajectoryError(
                    f"two models are called '{name}': {places[name]} and {folder}; rename a folder"
                )
            places[name] = folder
            suites[name] = {"folder": str(folder.absolute()), "first_token": self.first_token}
        probe: Row = {
            "sequences": self.sequences,
            "length": self.length,
            "dtype": self.dtype,
            "threads": self.threads,
            "interventions": dict(self.interventions),
        }
        if self.texts:
            probe |= {"domains": [], "texts": {k: str(v) for k, v in self.texts.items()}}
        name = "-".join(suites)[:60].rstrip("-.")
        values = {"name": name, "results": str(self.output), "suites": suites, "probe": probe}
        return parse(values, "command line")


def name_of(folder: Path) -> str:
    """A folder's name as a suite's: small letters, digits, full stops, - and _."""
    found = re.sub(r"[^a-z0-9._-]+", "-", folder.absolute().name.lower()).strip("-._")
    return found or "model"


def run(study: Study, report: Report = lambda _: None) -> Config:
    """Do a study: measure, take parts away, analyse, and write tables and report.

    Args:
        study: what is measured.
        report: told what is being done.

    Returns:
        the config, whose results folder then holds tables and report.

    Raises:
        TrajectoryError: for a folder without weights, config or tokenizer, one of several
            checkpoints, a text that is too short, an intervention of no layer or head, or whatever
            the workflow's stages refuse.
    """
    from trajectory.dynamics.analyse import analyse
    from trajectory.dynamics.claims.all import ledger
    from trajectory.dynamics.families import family_tables
    from trajectory.report.site import build
    from trajectory.schemas import CLAIMS
    from trajectory.tables import scan

    config = study.config()
    # Whatever is wrong with what was given is found before anything is written.
    listed = {name: _only(name, suite) for name, suite in config.suites.public().items()}
    texts = {name: _batches(config, name, row) for name, row in listed.items()}
    claim(config)
    facts: Row = {}
    rows: dict[str, list[Row]] = {name: [] for name in (*MEASUREMENTS, *EFFECTS)}
    for name, row in listed.items():
        path = config.results / "batches" / f"{name}.parquet"
        write(from_rows(texts[name], BATCHES), BATCHES, path, {"suite": name})
        for table, found in _measured(config, name, row, path, facts, report).items():
            rows[table] += found
    described = provenance.describe(**facts)

    def save(name: str, found: list[Row]) -> None:
        path = config.results / "tables" / f"{name}.parquet"
        write(from_rows(found, TABLES[name]), TABLES[name], path, described)

    for name, found in rows.items():
        save(name, found)
    report("analysing")
    heads, layers = (scan(config.results, name).collect() for name in ("heads", "layers"))
    found_in = analyse(heads, layers, config.dynamics)
    checkpoints = scan(config.results, "checkpoints").collect()
    for name, found in (found_in | family_tables(config, checkpoints, found_in["onsets"])).items():
        save(name, found)
    save(CLAIMS.name, ledger(config.results, config))
    report("writing the report")
    build(config.results, config, config.results / "report", draw=False)
    return config


def _only(name: str, suite: Suite) -> Row:
    """The one checkpoint of a folder, as a row of a selection.

    Raises TrajectoryError if there are several, or it has no weights.
    """
    assert suite.folder is not None
    places = revision_folders(name, suite.folder, suite.pattern)
    if len(places) > 1:
        raise TrajectoryError(
            f"{suite.folder}: holds {len(places)} checkpoints, {places[0].name} to "
            f"{places[-1].name}; name one of their folders"
        )
    found = local_revision(places[0])
    if not weight_files(found.files or ()):
        raise TrajectoryError(f"{places[0]}: no weights (*.safetensors)")
    (row,) = manifest_rows(name, suite, [found])
    if row["trajectory"] is None:
        raise TrajectoryError(f"{places[0]}: {row['reason']}")
    return with_rates(selected(row, "hand"), suite)


def _batches(config: Config, name: str, row: Row) -> list[Row]:
    """The texts of a model in its tokens, as rows of ``batches``.

    Raises TrajectoryError if it has no tokenizer or no such layer, or a text is too short, and
    DamagedFiles for weights that cannot be read.
    """
    suite, probe = config.suites.public()[name], config.probe
    assert suite.folder is not None
    folder = revision_folder(suite.folder, row["revision"])
    LocalWeights(folder)  # refuses what is damaged or a pickle before anything is written
    _check_layers(config, folder)
    place = next((place for place in tokenizer_places(folder) if has_tokenizer(place)), None)
    if place is None:
        raise TrajectoryError(f"{folder}: no tokenizer in it or above it")
    if suite.first_token is not None:
        probe = probe.model_copy(update={"first_token": suite.first_token})
    return make_batches(name, place, probe)


def _check_layers(config: Config, folder: Path) -> None:
    """Raise TrajectoryError if heads of a layer are asked for that the model has not."""
    from trajectory.probe.streaming import read_config

    changes, layers = config.probe.interventions, read_config(folder).num_hidden_layers
    asked = [] if changes is None or changes.heads == "all" else changes.heads
    for layer in asked:
        if layer >= layers:
            raise TrajectoryError(f"{folder}: no layer {layer}; it has {layers}, counted from 0")


def _measured(
    config: Config, name: str, row: Row, path: Path, facts: Row, report: Report
) -> dict[str, list[Row]]:
    """Rows of the measurements and effects of one model on the batches in ``path``; notes in
    ``facts`` how they were made."""
    suite, probe = config.suites.public()[name], config.probe
    assert suite.folder is not None
    folder = revision_folder(suite.folder, row["revision"])
    batches = read_batches(path)
    compute = Compute.of(probe.device, probe.dtype, probe.statistics)
    report(f"{name}: measuring")
    rows, found = measure_checkpoint(row, folder, batches, compute=compute)
    facts |= found
    if probe.interventions is not None:
        report(f"{name}: taking parts away")
        effects, _ = intervene(row, folder, batches, probe.interventions, compute)
        rows |= effects
    return rows
