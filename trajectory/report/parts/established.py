"""What a run established about mutual reinforcement, level by level of access, in sentences.

Every sentence is computed: from ``trajectory.dynamics.levels``, each number against its null. What
whole trainings answer is in ``answered``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.levels import NO, OPEN, YES, Contrast
from trajectory.dynamics.series import ACTIVE
from trajectory.report import words
from trajectory.report.missing import reason
from trajectory.report.run import is_bb

ORDERS = {
    "sink": "sink first",
    "drain": "drain first",
    "together": "do both together",
    "undecided": "are undecided",
}
"""Order of ``leads`` → what is told of the heads with it."""


def missing(table: str) -> list[str]:
    """What is told of a level that a run has no table of."""
    return [f"Not measured: {reason(table)}."]


def forces(courses: pl.DataFrame) -> list[str]:
    """What selects the sink: the force on its weight, and which part of it."""
    selecting = {
        readers: [c for c in levels.selecting(courses, "sink", readers) if c.difference is not None]
        for readers in ("late", "early")
    }
    if not any(selecting.values()):
        return ["No run with forces has a sink whose rise was recorded beside shams."]
    told = ["In standard errors of one checkpoint, as means over the rise of a sink:"]
    for readers, own in selecting.items():
        if own:
            told.append(
                f"{readers.capitalize()} queries: the force on the sink's weight "
                f"{_verdicts(own, 'exceeds', 'is below')}."
            )
    shares = [c for c in levels.strong(courses) if c.sham is not None]
    if shares:
        told.append(
            f"On late queries it exceeds {levels.STRONG:g} errors at "
            f"{_percent(c.sink for c in shares)} of single checkpoints at the sink, "
            f"{_percent(c.sham or 0.0 for c in shares)} at shams."
        )
    brakes = [c for c in levels.selecting(courses, "brake") if c.difference is not None]
    if brakes:
        less, more, undecided = (
            words.few([c.group for c in brakes if c.verdict == verdict])
            for verdict in (YES, NO, OPEN)
        )
        parts = [f"{say} in {own}" for say, own in (("less", less), ("more", more)) if own]
        if parts:
            rest = f"; undecided in {undecided}" if undecided else ""
            told.append(f"Against shams the sink's own value costs {', '.join(parts)}{rest}.")
        else:
            told.append(
                "Whether the sink's own value costs less than a sham's is undecided in "
                f"{undecided}."
            )
    constant = [c for c in levels.constancy(courses) if c.difference is not None]
    if constant:
        numbers = _each(constant, _difference)
        told.append(f"A value made constant changes the force on its position by {numbers}.")
    drained = levels.useful(courses)
    if drained:
        numbers = _each(drained, lambda c: words.number(c.sink, 1))
        told.append(f"The force on the sink's value is {numbers}; a positive one drains it.")
    return told


def arrows(known: pl.DataFrame) -> list[str]:
    """Whether the flow's two arrows are the loss's one number, at sinks and at shams."""
    if known.is_empty():
        return ["No head whose sink's onset was observed has them."]
    contrasts = levels.agreeing(known)
    if not contrasts:
        return ["No coupling was told from zero."]
    told = []
    for verdict, say in (
        (YES, "R_a and R_d agree with R at the sink, and less so at positional shams, in"),
        (NO, "They do not agree with R at the sink, or agree no less at shams, in"),
        (OPEN, "It is undecided in"),
    ):
        own = [c for c in contrasts if levels.arrows_agree(c) == verdict]
        if own:
            told.append(f"{say} {words.few([f'{c.group} ({_share(c)})' for c in own])}.")
    tokens = [c for c in levels.agreeing(known, "token") if c.sham is not None]
    if tokens:
        told.append(
            f"At all places of a token they agree in {_percent(c.sham or 0 for c in tokens)}, in "
            "the mean over seeds."
        )
    return told


def curves(onsets: pl.DataFrame, leads: pl.DataFrame | None) -> list[str]:
    """What curves alone say: when the sink begins, and whether it comes before the drain."""
    lead = onsets.filter(
        pl.col("lead")
        & (pl.col("phenomenon") == "sink")
        & (pl.col("level") == "head")
        & (pl.col("domain") != ACTIVE)
    )
    seen = lead.filter(pl.col("onset").is_not_null())
    told = [
        f"{seen.height} of {words.count(lead.height, 'lead head')} "
        f"{words.agree(seen.height, lead.height, 'begins', 'begin')} a sink between two "
        "checkpoints."
    ]
    if leads is not None:
        pairs = leads.filter(
            (pl.col("first") == "sink")
            & (pl.col("second") == "drain")
            & (pl.col("event") == "crossing")
        ).join(seen, on=["trajectory", "domain", "layer", "head"], how="semi")
        orders = dict(pairs.group_by("order").len().rows())
        parts = [f"{orders[name]} {say}" for name, say in ORDERS.items() if name in orders]
        if parts:
            told.append(f"Of {pairs.height} that drain as well, {words.listed(parts)}.")
    return [*told, "What comes first need not drive the other."]


def false(
    courses: pl.DataFrame, known: pl.DataFrame, reinforcement: pl.DataFrame | None
) -> list[str]:
    """Attractive statements that this run's numbers contradict."""
    found = []
    shams = known.filter(pl.col("key_kind") == "position")
    if shams.height:
        share = float((shams["coupling"] > 0).mean() or 0)  # type: ignore[arg-type]
        if share >= levels.MOST:
            found.append(
                "That a positive coupling marks a sink: R > 0 at "
                f"{words.percent(share)} of positional shams too."
            )
    pushed = [c for c in levels.useful(courses) if c.sink < 0 and c.verdict == NO]
    if pushed:
        numbers = _each(pushed, lambda c: words.number(c.sink, 1))
        found.append(
            "That a drained value starts the sink: while the sink rises descent lengthens its "
            f"value, with a force of {numbers} standard errors, below that on shams."
        )
    gains = levels.gains(reinforcement, courses) if reinforcement is not None else pl.DataFrame()
    if gains.height and max(gains["gain_high"]) < 1:
        found.append(
            f"That the pair runs away: the loop gain is at most {words.number(max(gains['gain']))} "
            "at sinks from their midst on, with intervals below 1."
        )
    return found or ["Nothing of this was found false."]


def _verdicts(found: Sequence[Contrast], above: str, below: str) -> str:
    """'exceeds that on positional shams in bb/a (by …); it is undecided in bb/b (…)'."""
    parts: list[str] = []
    shams = "that on positional shams"
    for verdict, say in ((YES, f"{above} {shams}"), (NO, f"{below} {shams}"), (OPEN, "undecided")):
        own = [c for c in found if c.verdict == verdict]
        if own:
            numbers = [f"{c.group} ({_difference(c)}, {_over(c)})" for c in own]
            start = "is " if verdict == OPEN and not parts else ""
            parts.append(f"{start}{say} in {words.few(numbers)}")
    return "; ".join(parts)


def _difference(c: Contrast) -> str:
    return f"{words.number(c.difference, 1)} {words.interval(c.low, c.high, 1)}".strip()


def _over(c: Contrast) -> str:
    several = is_bb(c.group) or c.trajectories > 1
    return words.count(c.trajectories, "seed") if several else "one run"


def _share(c: Contrast) -> str:
    sham = "none measured" if c.sham is None else words.percent(c.sham)
    return f"{words.percent(c.sink)} of checkpoints, shams {sham}, {_over(c)}"


def _each(found: Sequence[Contrast], tell: Callable[[Contrast], str]) -> str:
    return words.few([f"{tell(c)} ({c.group})" for c in found])


def _percent(values: Iterable[float]) -> str:
    found = sorted(values)
    low, high = words.percent(found[0]), words.percent(found[-1])
    return low if low == high else f"{low} to {high}"
