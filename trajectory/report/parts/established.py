"""What a run established about mutual reinforcement, level by level of access, in one paragraph.

Every clause is computed: from ``trajectory.dynamics.levels``, each number against its null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.levels import NO, OPEN, YES, Contrast, Forked
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

P_VALUE = 0.05
"""Below it shuffled heads do not explain an agreement."""

NOT = "not measured in this run, because"


def forces(courses: pl.DataFrame) -> str:
    """What selects the sink: the force on its weight, and which part of it."""
    found = [(r, c) for r in ("late", "early") for c in levels.selecting(courses, "sink", r)]
    if not found:
        return "Forces: no trajectory with forces has a sink whose rise was recorded."
    told = []
    for readers in ("late", "early"):
        own = [c for r, c in found if r == readers and c.difference is not None]
        if own:
            told.append(f"for {readers} queries {_verdicts(own, 'above', 'below')}")
    shares = [c for c in levels.strong(courses) if c.sham is not None]
    strong = (
        f" It exceeds {levels.STRONG:g} standard errors in {_percent(c.sink for c in shares)} of "
        f"late records at sinks and in {_percent(c.sham or 0.0 for c in shares)} at the shams."
        if shares
        else ""
    )
    text = (
        "Forces: while a sink rises the force on its weight is, against positional shams, "
        f"{'; '.join(told)}.{strong}"
    )
    brakes = [c for c in levels.selecting(courses, "brake") if c.difference is not None]
    if brakes:
        parts = [
            f"{say} in {_few(groups)}"
            for verdict, say in ((YES, "smaller"), (NO, "greater"), (OPEN, "undecided"))
            if (groups := [c.group for c in brakes if c.verdict == verdict])
        ]
        text += (
            " What the key's own value costs, the brake, is at the sink, against the shams, "
            f"{', '.join(parts)}."
        )
    constant = [c for c in levels.constancy(courses) if c.difference is not None]
    if constant:
        text += (
            " Making a position's value constant changes the force on it by "
            f"{_numbers(constant)} standard errors."
        )
    before = levels.useful(courses)
    if before:
        text += (
            " Meanwhile the force that drains the sink's value is "
            f"{_each(before, lambda c: words.number(c.sink, 1))} standard errors. Where it is "
            "negative, descent lengthens the value."
        )
    return text


def arrows(known: pl.DataFrame) -> str:
    """Whether the flow's two arrows are the loss's one number, at sinks and at shams."""
    if known.is_empty():
        return "Flow arrows: no head whose sink's onset was observed has them."
    contrasts = levels.agreeing(known)
    if not contrasts:
        return "Flow arrows: no coupling was told from zero."
    told = []
    for verdict, say in (
        (YES, "R_a and R_d are R at the sink and less so at positional shams"),
        (NO, "they are not R at the sink, or are R no less at shams"),
        (OPEN, "undecided"),
    ):
        own = [c for c in contrasts if levels.arrows_agree(c) == verdict]
        if own:
            told.append(f"{say} {_groups(own, _share)}")
    text = f"Flow arrows: {'; '.join(told)}."
    tokens = [c for c in levels.agreeing(known, "token") if c.sham is not None]
    if tokens:
        text += f" At all places of a token they agree in {_percent(c.sham or 0 for c in tokens)}."
    return text


def forks(found: Sequence[Forked]) -> str:
    """The optimiser's own answer to a hook on the value and on the logit."""
    own = [f for f in found if f.kind == "sink"]
    if not own:
        return f"Forks: none of {levels.UPDATES} updates holds a hook on a sink."
    told = []
    for hooked, arrow in (("value", "drain drives the sink"), ("logit", "the sink drives drain")):
        mine = [f for f in own if f.hooked == hooked]
        if not mine:
            continue
        parts = []
        for sign, say in ((1, "yes in all seeds"), (-1, "the reverse in all seeds"), (0, "mixed")):
            steps = [f"{f.group} at {f.step:,}" for f in mine if f.sign == sign]
            if steps:
                parts.append(f"{say}: {_few(steps)}")
        near = [f.mean / f.predicted for f in mine if f.predicted]
        ratio = f", {words.number(words.median(pl.Series(near)))} of the prediction" if near else ""
        told.append(f"{arrow} ({'; '.join(parts)}{ratio})")
    shams = [f for f in found if f.kind == "position"]
    weaker = [
        abs(s.mean) < abs(f.mean)
        for f in own
        for s in shams
        if (s.group, s.step, s.hooked) == (f.group, f.step, f.hooked)
    ]
    null = (
        f" Positional shams answer less in {sum(weaker)} of {len(weaker)} comparisons."
        if weaker
        else ""
    )
    return f"Forks, {levels.UPDATES} updates: {'; '.join(told)}.{null}"


def holds(table: pl.DataFrame) -> str:
    """What whole trainings became with a value held or a sink forced.

    Args:
        table: from ``levels.held``.
    """
    predicted = table.filter(~pl.col("sham")).drop_nulls("predicted")
    told = []
    for verdict, say in (
        (YES, "the predicted sign, with an interval that excludes zero"),
        (NO, "the other sign"),
        (OPEN, "undecided, the interval includes zero"),
    ):
        own = predicted.filter(pl.col("verdict") == verdict)
        if own.height:
            told.append(f"{say}: {_few([_held(row) for row in own.to_dicts()])}")
    text = f"Holds: {'; '.join(told)}." if told else "Holds: no change has a prediction."
    shams = table.filter("sham")
    if shams.height:
        moved = shams.filter(pl.col("moved") != 0).height
        text += f" Shams that change, though none should: {moved} of {shams.height}."
    return text


def _held(row: dict[str, Any]) -> str:
    unit = "nats of sink" if row["kind"] == "hold_value" else "e-folds of drain"
    ends = words.interval(row["observed_low"], row["observed_high"], 1)
    number = f"{words.number(row['observed'], 1)} {ends}".strip()
    where = "" if is_bb(row["experiment"]) else f" on {row['domain']}, layer {row['layer']}"
    return (
        f"{row['experiment']}{where} ({number} {unit}, predicted "
        f"{words.number(row['predicted'], 1)})"
    )


def curves(onsets: pl.DataFrame, leads: pl.DataFrame | None) -> str:
    """What curves alone say: when the sink begins, and whether it comes before the drain."""
    lead = onsets.filter(
        pl.col("lead")
        & (pl.col("phenomenon") == "sink")
        & (pl.col("level") == "head")
        & (pl.col("domain") != ACTIVE)
    )
    seen = lead.filter(pl.col("onset").is_not_null())
    text = (
        f"Curves: {seen.height} of {words.count(lead.height, 'lead head')} begin their sink "
        "between two records."
    )
    if leads is not None:
        pairs = leads.filter(
            (pl.col("first") == "sink")
            & (pl.col("second") == "drain")
            & (pl.col("event") == "crossing")
        ).join(seen, on=["trajectory", "domain", "layer", "head"], how="semi")
        if pairs.height:
            orders = dict(pairs.group_by("order").len().rows())
            parts = [f"{orders.get(name, 0)} {say}" for name, say in ORDERS.items()]
            text += f" Of {pairs.height} that drain as well, {words.listed(parts)}."
    return f"{text} An order is no arrow."


def motion(tests: pl.DataFrame) -> str:
    """Whether the first-order force says what moves until the next record."""
    whole = (pl.col("domain") == "all").any().over("group")
    own = tests.filter(
        (pl.col("key") == "sink")
        & (pl.col("predictor") == "force")
        & (pl.col("readers") == "late")
        & (~whole | (pl.col("domain") == "all"))
    )
    if own.is_empty():
        return "Force and motion: no sink has two neighbouring records with forces."
    told = []
    for variable, called in (("sink", "the sink's log-odds"), ("drain", "the value's norm")):
        rows = own.filter(pl.col("variable") == variable)
        tested = rows.drop_nulls("rank_p")
        tells = (pl.col("rank_p") <= P_VALUE) & (pl.col("rank_correlation") > 0)
        parts = [
            f"{say} {_few([_moved(row) for row in part.to_dicts()])}"
            for say, part in (("it does in", tested.filter(tells)),
                              ("it does not in", tested.filter(~tells)))
            if part.height
        ]  # fmt: skip
        alone = rows.filter(pl.col("rank_p").is_null())["group"].to_list()
        if alone:
            parts.append(f"no heads to shuffle in {_few(alone)}")
        told.append(f"Of {called} {', '.join(parts)}")
    return (
        "Force and motion: does the first-order force tell, better than with heads shuffled "
        f"(p ≤ {P_VALUE:g} of the rank correlation), what moves until the next record? "
        f"{'. '.join(told)}."
    )


def _moved(row: dict[str, Any]) -> str:
    return (
        f"{row['group']} ({words.number(row['rank_correlation'])}, shuffled "
        f"{words.number(row['rank_null'])}; signs agree in "
        f"{words.number(100 * row['sign_agreement'], 0)} %, shuffled "
        f"{words.number(100 * (row['sign_null'] or 0), 0)} %)"
    )


def false(courses: pl.DataFrame, known: pl.DataFrame, reinforcement: pl.DataFrame | None) -> str:
    """Attractive statements that this run's numbers contradict."""
    found = []
    shams = known.filter(pl.col("key_kind") == "position")
    if shams.height:
        share = float((shams["coupling"] > 0).mean() or 0)  # type: ignore[arg-type]
        if share >= levels.MOST:
            found.append(
                "that a positive coupling marks a sink: R > 0 at "
                f"{words.number(100 * share, 0)} % of positional shams too"
            )
    pushed = [c for c in levels.useful(courses) if c.sink < 0]
    if pushed:
        found.append(
            f"that a drained value starts the sink, in {words.listed([c.group for c in pushed])}: "
            "while the sink rises the force on its value is "
            f"{_each(pushed, lambda c: words.number(c.sink, 1))} standard errors, towards growth"
        )
    gains = levels.gains(reinforcement, courses) if reinforcement is not None else pl.DataFrame()
    if gains.height and max(gains["gain_high"]) < 1:
        found.append(
            f"that the pair runs away: the loop gain is at most {words.number(max(gains['gain']))} "
            "at sinks, with intervals below 1"
        )
    return f"Found false: {'; '.join(found)}." if found else "Nothing of this was found false."


def missing(level: str, table: str) -> str:
    """The clause of a level that a run has no table of."""
    return f"{level}: {NOT} {reason(table)}."


def answer(known: pl.DataFrame, found: Sequence[Forked]) -> str:
    """The page's question, as far as arrows and forks decide it; R > 0 alone never does."""
    judged = [(c, levels.arrows_agree(c)) for c in levels.agreeing(known)] if known.height else []
    yes = [c.group for c, verdict in judged if verdict == YES]
    no = [c.group for c, verdict in judged if verdict == NO]
    unclear = [c.group for c, verdict in judged if verdict == OPEN]
    parts = []
    if yes:
        parts.append(f"yes in {words.listed(yes)}")
    if no:
        parts.append(f"not shown in {words.listed(no)}")
    if unclear:
        parts.append(f"undecided in {words.listed(unclear)}")
    flow = f"In the gradient flow: {', '.join(parts)}." if parts else ""
    signs = [f.sign for f in found if f.kind == "sink"]
    forked = (
        f" In forks of the training: {sum(s > 0 for s in signs)} of "
        f"{words.count(len(signs), 'arrow')} are positive in all seeds, "
        f"{sum(s < 0 for s in signs)} negative in all."
        if signs
        else ""
    )
    return (flow + forked).strip()


def _verdicts(found: Sequence[Contrast], above: str, below: str) -> str:
    parts = []
    for verdict, say in ((YES, above), (NO, below), (OPEN, "undecided")):
        own = [c for c in found if c.verdict == verdict]
        if own:
            parts.append(f"{say} {_groups(own, _difference)}")
    return ", ".join(parts)


def _groups(found: Sequence[Contrast], tell: Callable[[Contrast], str]) -> str:
    return f"in {_few([f'{c.group} ({tell(c)})' for c in found])}"


def _difference(c: Contrast) -> str:
    over = _over(c)
    between = f" {words.interval(c.low, c.high, 1)}".rstrip()
    return f"by {words.number(c.difference, 1)}{between} standard errors, {over}"


def _over(c: Contrast) -> str:
    several = is_bb(c.group) or c.trajectories > 1
    return words.count(c.trajectories, "seed") if several else "one trajectory"


def _share(c: Contrast) -> str:
    sham = "none measured" if c.sham is None else f"{words.number(100 * c.sham, 0)} %"
    over = _over(c)
    return f"{words.number(100 * c.sink, 0)} % of records against {sham} at shams, {over}"


def _numbers(found: Sequence[Contrast]) -> str:
    return _each(
        found,
        lambda c: f"{words.number(c.difference, 1)} {words.interval(c.low, c.high, 1)}".strip(),
    )


def _each(found: Sequence[Contrast], tell: Callable[[Contrast], str]) -> str:
    return _few([f"{tell(c)} ({c.group})" for c in found])


def _percent(values: Iterable[float]) -> str:
    found = sorted(100 * v for v in values)
    low, high = (words.number(v, 0) for v in (found[0], found[-1]))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _few(parts: Sequence[str]) -> str:
    shown = list(parts[: words.LISTED_GROUPS])
    rest = len(parts) - len(shown)
    return words.listed([*shown, f"{rest} more"] if rest else shown)
