"""A few checkpoints of the smallest suite: chosen, fetched, streamed, and measured both ways."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from trajectory.api import Measured, measure
from trajectory.checkpoints.audit import SUSPECT
from trajectory.checkpoints.pin import audited, list_revisions
from trajectory.checkpoints.selection import select
from trajectory.config.registry import registered
from trajectory.config.suites import LogSpacedCheckpoints, Select, Suite
from trajectory.corpus import stdlib
from trajectory.corpus.given import batches_of
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.doctor.compare import greatest
from trajectory.doctor.plain import apart
from trajectory.doctor.random_model import write_random_model
from trajectory.doctor.steps import Differs, Skip, Step
from trajectory.hub.client import Hub
from trajectory.jobs.published import published
from trajectory.rows import Row

COUNT = 3
"""Checkpoints that are fetched."""

DOMAINS, SEQUENCES, CHARACTERS, LENGTH = ("prose", "code"), 8, 1000, 64
"""On what they are measured: beginnings of texts that every Python carries, cut to equal length."""

ROUNDING = 1e-5
"""Of float32, relative to the greatest number of a column: where the same weights lie in memory may
decide which kernel multiplies them."""

PLAIN = 1e-4
"""Difference of a sink weight, or of a loss in nats, that two computations in float32 may have."""

RANDOM = "random weights"


@cache
def texts() -> dict[str, list[str]]:
    """The texts by domain; TrajectoryError if this Python carries none."""
    found = {}
    for domain in DOMAINS:
        long = [text for text in stdlib.documents(domain) if len(text) >= CHARACTERS]
        found[domain] = [text[:CHARACTERS] for text in long[:SEQUENCES]]
    return found


@dataclass
class Subject:
    """A checkpoint in a folder, with its tokenizer and its rows."""

    folder: Path
    tokenizer: Path
    measured: Measured


@dataclass
class Contact:
    """What the steps on one suite share.

    Attributes:
        name: the suite's name.
        suite: what the registry says of it.
        hub: where it is listed.
        folder: where its checkpoints are kept meanwhile.
        chosen: rows of its manifest.
        places: folders of what was downloaded, by revision.
        downloaded: rows measured from these folders.
        streamed: rows measured over the network.
    """

    name: str
    suite: Suite
    hub: Hub
    folder: Path
    chosen: list[Row] = field(default_factory=list)
    places: dict[str, Path] = field(default_factory=dict)
    downloaded: dict[str, Measured] = field(default_factory=dict)
    streamed: dict[str, Measured] = field(default_factory=dict)
    _random: Subject | None = None

    @property
    def repository(self) -> str:
        """Where the suite lies on the hub."""
        assert self.suite.repository is not None
        return self.suite.repository

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer, once a checkpoint was downloaded."""
        return self.folder / "tokenizer"

    def subjects(self) -> dict[str, Subject]:
        """Checkpoints at hand; where there is none, a model of the suite's sizes with random
        weights, so that a machine without a network is examined too."""
        found = {
            revision: Subject(place, self.tokenizer, self.downloaded[revision])
            for revision, place in self.places.items()
            if revision in self.downloaded
        }
        if found:
            return found
        if self._random is None:
            place = self.folder / "random"
            write_random_model(self.suite, place)
            self._random = Subject(place, place, measure(place, texts(), length=LENGTH))
        return {RANDOM: self._random}


def smallest() -> tuple[str, Suite]:
    """The suite of the registry with the smallest checkpoints, of those whose size is known."""
    known = {name: Suite.model_validate(entry) for name, entry in registered().items()}
    sizes = {
        name: suite.bytes
        for name, suite in known.items()
        if suite.bytes and suite.repository and not suite.needs
    }
    name = min(sizes, key=lambda one: sizes[one])
    return name, known[name]


def choose(step: Step, contact: Contact) -> None:
    """List and audit the suite, and choose checkpoints from its first to its last."""
    rule = Select(log_spaced=LogSpacedCheckpoints(count=COUNT))
    suite = contact.suite.model_copy(update={"select": rule, "audit": "selected"})
    every = list_revisions(contact.name, suite, contact.hub)
    rows = audited(contact.name, suite, every, contact.hub)
    contact.chosen = select(contact.name, suite, rows)
    names = ", ".join(row["revision"] for row in contact.chosen)
    step.found.append(f"{names} of {contact.repository}, sound by their hashes")
    if len(contact.chosen) < COUNT:
        bad = next(row for row in rows if row["verdict"] in SUSPECT and row["trajectory"])
        raise Differs(
            f"{len(contact.chosen)} sound checkpoints, not {COUNT}; e.g. '{bad['revision']}': "
            f"{bad['reason']}"
        )


def download(step: Step, contact: Contact) -> None:
    """Fetch the checkpoints, verify their hashes, and measure what lies on the disk."""
    _need_chosen(contact)
    size, fetching, measuring = 0, 0.0, 0.0
    for row in contact.chosen:
        revision = row["revision"]
        with step.part():
            begun = time.monotonic()
            with published(
                contact.repository, revision, "download", hub=contact.hub, folder=contact.folder
            ) as found:
                fetching += time.monotonic() - begun
                size += found.row["bytes"]
                contact.places[revision] = found.folder
                assert found.tokenizer is not None
                shutil.copytree(found.tokenizer, contact.tokenizer, dirs_exist_ok=True)
            begun = time.monotonic()
            contact.downloaded[revision] = measure(
                contact.repository,
                texts(),
                revision=revision,
                weights="download",
                folder=contact.folder,
                length=LENGTH,
            )
            measuring += time.monotonic() - begun
    if contact.downloaded:
        step.found.append(
            f"{len(contact.downloaded)} of {len(contact.chosen)}, {size / 1e6:.1f} MB in "
            f"{fetching:.1f} s ({size / 1e6 / fetching:.1f} MB/s); measured in {measuring:.1f} s"
        )


def stream(step: Step, contact: Contact) -> None:
    """Measure the checkpoints over the network, with nothing on the disk."""
    _need_chosen(contact)
    begun = time.monotonic()
    for row in contact.chosen:
        with step.part():
            contact.streamed[row["revision"]] = measure(
                contact.repository,
                texts(),
                revision=row["revision"],
                weights="stream",
                length=LENGTH,
            )
    if contact.streamed:
        took = time.monotonic() - begun
        step.found.append(
            f"{len(contact.streamed)} of {len(contact.chosen)}, read and measured in {took:.1f} s"
        )


def compare_rows(step: Step, contact: Contact) -> None:
    """Hold the rows of the stream to those of the download: they are of the same bytes."""
    both = [name for name in contact.downloaded if name in contact.streamed]
    if not both:
        raise Skip("no checkpoint was measured both ways")
    rows, worst = 0, 0.0
    for name in both:
        with step.part():
            found = greatest(contact.streamed[name], contact.downloaded[name])
            rows += contact.downloaded[name].heads.height + contact.downloaded[name].layers.height
            if not found.size <= ROUNDING:
                raise Differs(f"{name}: stream and download differ by {found}")
            worst = max(worst, found.size)
    how = "equal to the last bit" if worst == 0 else f"at most {worst:.0e} apart"
    if not step.failures:
        step.found.append(f"{rows} rows by stream and by download: {how}")


def compare_with_plain(step: Step, contact: Contact) -> None:
    """Hold sink weights and losses to those of plain transformers with eager attention."""
    weight = loss = 0.0
    subjects = contact.subjects()
    for name, subject in subjects.items():
        with step.part():
            read = load_tokenizer(subject.tokenizer, name)
            batches = batches_of(texts(), read, LENGTH, "raw", name)
            found = apart(subject.folder, batches, subject.measured)
            if not found.weight <= PLAIN:
                raise Differs(
                    f"{name}: a sink weight is {found.weight:.1e} from that of plain "
                    f"transformers ({found.head})"
                )
            if not found.loss <= PLAIN:
                raise Differs(
                    f"{name}: a loss is {found.loss:.1e} nats from that of plain transformers"
                )
            weight, loss = max(weight, found.weight), max(loss, found.loss)
    if not step.failures:
        step.found.append(
            f"{', '.join(subjects)}: sink weights at most {weight:.0e}, losses {loss:.0e} nats "
            "from plain transformers (eager)"
        )


def _need_chosen(contact: Contact) -> None:
    if not contact.chosen:
        raise Skip("no checkpoint was chosen")
