"""Pretraining runs whose checkpoints are measured."""

from __future__ import annotations

import re
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from trajectory.config.base import (
    Count,
    ExpandedPath,
    FirstToken,
    Name,
    Section,
    Size,
)
from trajectory.config.families import Facets, Family, members
from trajectory.config.known import Architecture, KnownBad, Missing, Schedule, Step
from trajectory.config.nano import EMBEDDED, NanoOlmo
from trajectory.config.registry import registered, suggestion
from trajectory.errors import TrajectoryError


class LogSpacedCheckpoints(Section):
    """Checkpoints spaced evenly in the logarithm, the first and the last included."""

    count: Annotated[int, Field(ge=2)] = 24
    """Checkpoints wanted; a checkpoint at step 0 is one of them."""
    axis: Literal["step", "tokens"] = "step"
    """What is spaced."""


class Select(Section):
    """Which checkpoints of a suite are measured; one rule, bounds and a budget."""

    steps: Annotated[list[Step], Field(min_length=1)] | None = None
    """Rule: these steps."""
    revisions: Annotated[list[str], Field(min_length=1)] | None = None
    """Rule: these revisions, whatever their stage. One whose name states no step is a trajectory of
    its own."""
    every: Count | None = None
    """Rule: every k-th checkpoint, and the last."""
    log_spaced: LogSpacedCheckpoints | None = None
    """Rule: spaced evenly in the logarithm. The default, with 24 checkpoints."""
    first: Step | None = None
    """First step that may be chosen."""
    last: Step | None = None
    """Last step that may be chosen."""
    budget: Size | None = None
    """Maximum bytes of weights to fetch; the rule's choice is thinned until it fits, by the same
    share in every trajectory."""
    include: list[str] = []
    """Revisions that may be chosen even if the audit rejects them."""
    exclude: list[str] = []
    """Revisions to exclude."""

    @model_validator(mode="after")
    def _one_rule(self) -> Select:
        given = [n for n in ("steps", "revisions", "every", "log_spaced") if getattr(self, n)]
        if len(given) > 1:
            raise ValueError(f"one rule at most, found {' and '.join(given)}")
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ValueError(f"first step {self.first} is after last step {self.last}")
        return self


class Suite(Section):
    """A pretraining run with its checkpoints on the hub or in a local folder.

    For a suite of the registry (`trajectory suites`) every key is optional and overrides the
    registry's; a suite of your own needs `repository` or `folder`.
    """

    like: Annotated[str, Field(pattern=r"^[a-z0-9{][a-z0-9._{}-]*$")] | None = None
    """A suite of the registry to copy facts from."""
    family: Family | None = None
    """Runs of one kind, each a suite of its own: their sizes, recipes, seeds, languages."""
    facets: Facets | None = None
    """What distinguishes the run from others like it; a family fills it in."""
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.{}-]+$")] | None = None
    """Repository on the hub: organisation/name."""
    layout: Literal["refs", "commits", "folders", "repositories"] = "refs"
    """Where the checkpoints are on the hub. refs: branches and tags; commits: those of a branch, by
    their titles; folders: of a branch; repositories: one for each checkpoint, whose names begin
    with `repository`."""
    branch: str | None = None
    """The branch whose commits or folders are the checkpoints; main if null."""
    folder: ExpandedPath | None = None
    """Local folder in place of a repository: a checkpoint, or one folder per revision."""
    model_type: str | None = None
    """Architecture, as config.json names it."""
    parameters: Count | None = None
    """Parameters."""
    architecture: Architecture | None = None
    """Sizes."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Floating-point type of the files."""
    bytes: Size | None = None
    """Weights of one checkpoint."""
    files: Count | None = None
    """Number of files of the weights."""
    pattern: str | None = None
    """Regular expression of the whole name of a checkpoint's revision, with the named groups step
    and, if present, stage, ingredient, tokens, unit (M, B or T). The default reads the names
    of OLMo, Pythia, SmolLM and Apertus."""
    counts: Literal["steps", "checkpoints"] = "steps"
    """What the number in a revision's name counts."""
    tokens_per_step: Count | dict[Annotated[int, Field(ge=1)], Count] | None = None
    """Training tokens per step, of all stages or by stage."""
    published: Count | None = None
    """Checkpoints of the measured stages when last counted, for `trajectory plan` and
    `trajectory doctor`."""
    spacing: Count | None = None
    """Usual distance of two checkpoints, in steps."""
    first_token: FirstToken | None = None
    """Token at position 0. If not set here, the config's probe.first_token applies if set, else the
    registry's value; null for probe.first_token."""
    schedule: Schedule | None = None
    """Learning rate."""
    main: str | None = None
    """What the branch main holds."""
    main_is: list[str] = []
    """Revisions whose weights may equal those of main."""
    known_bad: list[KnownBad] = []
    """Revisions reported to be wrong; never selected unless select.include names them."""
    missing: list[Missing] = []
    """Checkpoints reported not to exist."""
    licence: str | None = None
    """Licence of the weights, as their card states it."""
    needs: str | None = None
    """Why this suite cannot be measured; null if it can."""
    note: str | None = None
    """Other remarks."""
    source: str | None = None
    """Where its facts were read, if none of them was checked on the hub."""
    stages: Annotated[list[Count], Field(min_length=1)] = [1]
    """Stages to measure; each later stage is a trajectory of its own."""
    stages_continue: bool = False
    """Later stages go on with the step count of the one before: all are one trajectory."""
    select: Select = Select()
    """Checkpoints to measure."""
    audit: Literal["all", "selected", "none"] = "all"
    """Revisions whose files are compared before anything is fetched; one request per revision,
    cached."""
    weights: Literal["download", "keep", "stream"] = "download"
    """download: fetch, measure, delete; keep: fetch and keep; stream: read what is needed over the
    network, nothing on disk."""
    loss: bool = True
    """Measure the loss as well; streaming then reads the read-out too."""

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if self.folder is not None and self.repository is not None:
            raise ValueError("give repository or folder, not both")
        if self.folder is not None and self.layout != "refs":
            raise ValueError(
                f"layout {self.layout}: applies to a repository on the hub, not to a folder"
            )
        if self.branch is not None and self.layout not in ("commits", "folders"):
            raise ValueError(
                f"branch '{self.branch}': set layout to commits or folders, whose branch it is"
            )
        if self.family is None and re.search("[{}]", self.repository or ""):
            raise ValueError(f"repository: {self.repository} needs a family; see its keys")
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groupindex
            except re.error as error:
                raise ValueError(f"pattern: not a regular expression ({error})") from None
            if "step" not in groups:
                raise ValueError("pattern: has no group (?P<step>…)")
            unknown = sorted(set(groups) - {"step", "stage", "ingredient", "tokens", "unit"})
            if unknown:
                raise ValueError(f"pattern: unknown group '{unknown[0]}'")
        return self

    def tokens_per_step_of(self, stage: int | None) -> int | None:
        """Training tokens per step of a stage; None where not known."""
        if isinstance(self.tokens_per_step, dict):
            return self.tokens_per_step.get(stage or 1)
        return self.tokens_per_step

    def of_rows(self) -> dict[str, Any]:
        """The values that decide the rows of a checkpoint whose row of the selection is known: all
        that are not known to decide something else."""
        return self.model_dump(mode="json", exclude={*_OF_LISTING, *_OF_BATCHES, *_OF_NOTHING})


_OF_LISTING = (
    *("like", "repository", "layout", "branch", "folder", "pattern", "counts", "main_is"),
    *("tokens_per_step", "known_bad", "stages", "stages_continue", "select", "audit", "schedule"),
)
"""A suite's keys that decide which checkpoints there are, and what is listed of each."""

_OF_BATCHES = ("first_token",)
"""Those that decide its token batches."""

_OF_NOTHING = (
    *("family", "facets", "model_type", "parameters", "architecture", "dtype", "bytes", "files"),
    *("published", "spacing"),
    *("main", "missing", "licence", "needs", "note", "source", "weights"),
)
"""Those that say what to expect, or how weights are had: the same rows follow."""


def _or_nothing(schema: dict[str, Any]) -> None:
    """Let the JSON schema too allow a suite's name without a value."""
    schema["additionalProperties"] = {"anyOf": [schema["additionalProperties"], {"type": "null"}]}


class Suites(Section):
    """Pretraining runs whose checkpoints are measured, by the suite's name.

    `nano-olmo` is the embedded one. Any other name is a suite of the registry (`trajectory suites`)
    or one of your own: see [Suite](#suite). A name without a value takes all defaults.
    """

    model_config = ConfigDict(
        extra="allow", validate_by_name=True, validate_by_alias=True, json_schema_extra=_or_nothing
    )
    __pydantic_extra__: dict[Name, Suite]

    nano_olmo: Annotated[NanoOlmo | None, Field(alias=EMBEDDED)] = None
    """The embedded stand-in: needs no network. With several seeds or experiments each training is a
    suite of its own: nano-olmo-seed1, nano-olmo-held-seed1."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name in values:
            if not isinstance(name, str):
                raise ValueError(f"a suite's name must be text, found {name!r}")
        found: dict[str, Any] = {}
        for name, given in values.items():
            for member, own in _members(name, given).items():
                if member in found or (member in values and member != name):
                    raise ValueError(f"{member}: occurs twice; {name} has a member of this name")
                found[member] = _known(member, own)
        return found

    @model_serializer(mode="wrap")
    def _without_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A suite without a value is one with all defaults, so what is absent is left out."""
        return {name: given for name, given in serialize(self).items() if given is not None}

    @model_validator(mode="after")
    def _measurable(self) -> Suites:
        if both := sorted(set(self.embedded()) & set(self.public())):
            raise ValueError(f"{both[0]}: nano-olmo has a training of this name; choose another")
        for name, suite in self.public().items():
            if suite.needs:
                raise ValueError(f"{name} cannot be measured: {suite.needs}")
            if suite.repository is None and suite.folder is None:
                raise ValueError(f"{name}: needs repository or folder")
        return self

    def names(self) -> list[str]:
        """The suites of this run."""
        return [*self.embedded(), *self.public()]

    def embedded(self) -> dict[str, NanoOlmo]:
        """The trainings that the run does itself, by the suites' names."""
        return {} if self.nano_olmo is None else self.nano_olmo.trainings()

    def public(self) -> dict[str, Suite]:
        """The suites that are listed before they are measured: all but the embedded one."""
        return dict(self.__pydantic_extra__)

    def suite(self, name: str) -> Suite:
        """The suite of that name; TrajectoryError naming the known ones if there is none."""
        if name in self.embedded():
            raise TrajectoryError(
                f"suite '{name}' is pretrained by the run itself: nothing to choose or fetch"
            )
        if name not in self.public():
            known = ", ".join(self.public()) or "none"
            raise TrajectoryError(f"unknown suite '{name}'; this config has: {known}")
        return self.public()[name]


def _members(name: str, given: Any) -> dict[str, Any]:
    """The members of a family, each with what the config says of it; what is none, by itself."""
    values = {} if given is None else given
    if not isinstance(values, dict):
        return {name: given}
    if isinstance(values.get("family"), str):
        raise ValueError(
            f"{name}.family: should hold keys and values (sizes, recipes, seeds, languages); the "
            f"architecture is model_type: {values['family']}"
        )
    found = members(name, values, registered())
    if found is None:
        return {name: given}
    first = next(iter(found))
    try:
        Suite.model_validate(_known(first, found[first]))
    except ValueError:  # all have the same mistake: it is told once
        return {first: found[first]}
    return found


def _known(name: str, given: Any) -> Any:
    """What the config says about a suite, over what the registry knows of it."""
    if not isinstance(given, dict | NoneType):
        return given
    given = given or {}
    if name in ("nano-olmo", "nano_olmo"):
        return given
    model = given.get("like") or name
    if not isinstance(model, str):
        return given
    known = registered()
    if model in known:
        # A folder takes the place of what lies on the hub; facets are those of another run.
        place = {"repository", "layout", "branch"} if given.get("folder") else set()
        place |= {"facets"} if model != name else set()
        return {key: fact for key, fact in known[model].items() if key not in place} | given
    if given.get("like") or not (given.get("repository") or given.get("folder")):
        raise ValueError(
            f"unknown suite '{model}'; {suggestion(model)} (a suite of your own needs repository "
            "or folder)"
        )
    return given
