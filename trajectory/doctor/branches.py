"""The registry's suites as the hub lists them, held to what the registry says of their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trajectory.checkpoints.audit import MAIN
from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.pin import list_revisions
from trajectory.config.families import AXES, members
from trajectory.config.registry import registered, suggestion
from trajectory.config.suites import Suite
from trajectory.doctor.steps import Failure, Skip, Step
from trajectory.errors import TrajectoryError
from trajectory.hub.client import Hub
from trajectory.hub.content import Revision
from trajectory.hub.errors import CheckpointError
from trajectory.progress import progress

GIVE_UP = 3
"""Suites in a row that fail by the hub or the network before the others are not asked for."""

MOST_MEMBERS = 20
"""Members of a family up to which each is listed. DataDecide has 1,750, in 350 repositories."""

TO_MEND = "paste this report into an issue: the registry is to be mended"


@dataclass
class Listing:
    """A suite's names, held to the registry.

    Attributes:
        checkpoints: names that state a step.
        others: names that state none, main aside.
        wrong: in what it falls short of the registry, in words.
        news: what the registry does not know yet, in words.
    """

    checkpoints: int
    others: int
    wrong: list[str] = field(default_factory=list)
    news: list[str] = field(default_factory=list)


def suites_of(names: Sequence[str]) -> dict[str, Suite]:
    """The registry's suites of these names that have a repository; all of them if there are none.

    Of a family with more than MOST_MEMBERS the first is taken for all.

    Raises TrajectoryError for a name that the registry does not have.
    """
    known = registered()
    for name in names:
        if name not in known:
            raise TrajectoryError(f"unknown suite '{name}'; {suggestion(name)}")
    found: dict[str, Suite] = {}
    for name in names or known:
        suite = Suite.model_validate(known[name])
        if suite.family is None:
            found[name] = suite
            continue
        chosen = {key: own for key in AXES if (own := suite.family.listed(key))}
        if math.prod(map(len, chosen.values())) > MOST_MEMBERS:
            chosen = {key: own[:1] for key, own in chosen.items()}
        for member, facts in (members(name, {"family": chosen}, known) or {}).items():
            found.setdefault(member, Suite.model_validate(facts))
    return {name: suite for name, suite in found.items() if suite.repository is not None}


def listing_of(name: str, suite: Suite, every: Sequence[Revision]) -> Listing:
    """What the hub lists of a suite, beside what the registry says: pattern, number, holes.

    Args:
        name: the suite's.
        suite: what the registry says.
        every: its revisions.

    Raises:
        TrajectoryError: if the suite's pattern finds no numbers in a name.
    """
    rows = [row for row in manifest_rows(name, suite, every) if row["revision"] != MAIN]
    read = [row for row in rows if row["step"] is not None]
    unread = [row["revision"] for row in rows if row["step"] is None]
    found = Listing(len(read), len(unread))
    first = {
        (row["trajectory"], row["step"]) for row in read if (row["stage"] or 1) in suite.stages
    }
    if not read:
        example = f"none of its {len(unread)} names is read, e.g. '{unread[0]}'" if unread else ""
        found.wrong.append(example or "it has no revisions besides main")
    elif suite.published is not None and len(first) < suite.published:
        example = f"; not read: e.g. '{unread[0]}'" if unread else ""
        found.wrong.append(f"{len(first):,} checkpoints, {suite.published:,} stored{example}")
    elif suite.published is not None and len(first) > suite.published:
        found.news.append(f"{len(first):,} checkpoints, {suite.published:,} stored")
    listed = {step for _, step in first}
    holes = {step for missing in suite.missing for step in missing.steps}
    if there := sorted(holes & listed):
        found.news.append(f"step {there[0]} is there, stored as missing")
    return found


def look(step: Step, hub: Hub, suites: Mapping[str, Suite]) -> None:
    """List the suites one by one, as fast as the hub allows; nothing but names is asked for."""
    if not suites:
        raise Skip("none of these suites has a repository of its own")
    listings: dict[str, Listing] = {}
    refused, in_vain = 0, 0
    with progress("branches", len(suites), "suites") as report:
        for n, (name, suite) in enumerate(suites.items(), 1):
            if in_vain == GIVE_UP:
                left = len(suites) - n + 1
                step.found.append(f"{left} more suites were not asked for")
                break
            try:
                listings[name] = listing_of(name, suite, list_revisions(name, suite, hub))
                in_vain = 0
            except TrajectoryError as error:
                in_vain = in_vain + 1 if getattr(error, "again", False) else 0
                refused += 1
                with step.part():
                    raise _named(error, name) from None
            report(n)
    wrong = {name: one.wrong for name, one in listings.items() if one.wrong}
    for name, reasons in wrong.items():
        step.failures.append(Failure(f"{name}: {'; '.join(reasons)}", TO_MEND))
    as_stored = len(listings) - len(wrong)
    checkpoints = sum(one.checkpoints for one in listings.values())
    others = sum(one.others for one in listings.values())
    count = f"{as_stored} of {len(suites)} suites as the registry says"
    names = f": {checkpoints:,} names of checkpoints, {others:,} others" if listings else ""
    step.found.insert(0, count + names)
    news = [f"{name}: {'; '.join(one.news)}" for name, one in listings.items() if one.news]
    if news:
        step.found.append(f"news of {len(news)}, e.g. {news[0]}")


def _named(error: TrajectoryError, name: str) -> TrajectoryError:
    """The error, its message with the suite's name."""
    if isinstance(error, CheckpointError):
        return type(error)(f"{name}: {error}")
    return error
