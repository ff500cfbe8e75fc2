"""*Toy laboratory*: what the toy transformers learn, token type by token type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import charts, marks, series, words
from trajectory.report.controls import Choice, Control, Value
from trajectory.report.missing import reason
from trajectory.report.page import Block, Figure, Heading, Missing, Page
from trajectory.report.parts import interventions, types
from trajectory.report.parts.tally import Tallies, ending_told, uncounted
from trajectory.report.run import Run, is_bb
from trajectory.schemas import BB_MILESTONES, CHECKPOINTS


def make(run: Run) -> Page:
    """The page."""
    title = "What does a Bigram-Backcopy transformer learn, and with which part?"
    lead = (
        "The toy world in detail: risks against the oracle, what each token type attends to, and "
        "what breaks when a part is taken out."
    )
    trajectories = [t for t in run.trajectories if is_bb(t)]
    if not trajectories:
        missing = Missing("Laboratory", "its config names no Bigram-Backcopy variant")
        return Page("laboratory", "Toy laboratory", title, lead, [missing])
    risks = series.checkpoints(run, ["excess_risk"]).drop_nulls("excess_risk")
    own = [d for d in run.domains if d in ("trigger", "non_trigger")]
    data = {"risks": risks}
    blocks: list[Block] = [_risks(run, risks)]
    if run.has("bb_milestones"):
        known = run.frame("bb_milestones").with_columns(pl.col("milestone").replace(MILESTONES))
        data["milestones"] = with_group(known)
        blocks.append(_milestones(run, data["milestones"]))
    else:
        blocks.append(Missing("Milestones", reason("bb_milestones"), "milestones"))
    limits: dict[str, Mapping[str, Sequence[Value]]] = {}
    first = interventions.first_changed(run) or trajectories[0]
    controls: list[Control] = [
        Choice("chosen_trajectory", "run", [(t, t) for t in trajectories], first,
               "In detail"),
    ]  # fmt: skip
    for part in (types.make(run, first), interventions.make(run, first)):
        blocks += [Heading(part.title, part.text, part.name), *part.blocks]
        controls += part.controls
        data |= part.data
        limits |= part.limits
    domains = marks.domain_checks(run, own)
    return Page(
        "laboratory",
        "Toy laboratory",
        title,
        lead,
        blocks,
        [*controls, domains, marks.legend(run, trajectories, every=True)],
        data,
        facts={"limits": limits},
        answer=_answer(run, risks),
    )


def _answer(run: Run, risks: pl.DataFrame) -> str:
    """How near the oracle the models end, and where their non-triggers look."""
    last = risks.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    found = []
    for domain, name in (("non_trigger", "bigrams"), ("trigger", "backcopies")):
        own = last.filter(pl.col("domain") == domain)["excess_risk"]
        if own.len():
            found.append(f"{words.number(words.median(own))} nats/token on {name}")
    told = f"Models end {words.listed(found)} above the oracle, in the median."
    parts = (told, ending_told(Tallies.read(run), "sink", toys_only=True), uncounted(run))
    return " ".join(filter(None, parts))


def _risks(run: Run, risks: pl.DataFrame) -> Figure:
    last = risks.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    bigram = words.per_group(last.filter(pl.col("domain") == "non_trigger"), "excess_risk")
    copied = words.per_group(last.filter(pl.col("domain") == "trigger"), "excess_risk")
    return Figure(
        "risks",
        "Risk above the oracle",
        alt.layer(*charts.lines(run, "risks", "excess_risk", CHECKPOINTS)),
        f"At the last checkpoint, in nats/token: bigrams (non-triggers) {bigram}; backcopies "
        f"(triggers) {copied}.",
        data="risks",
        table="checkpoints",
        definition=marks.definition(CHECKPOINTS, "excess_risk"),
        height=300,
    )


MILESTONES = {
    "bigram_90": "90 % of bigrams",
    "backcopy_50": "50 % of backcopy",
    "backcopy_90": "90 % of backcopy",
    "sink_50": "50 % of the sink",
    "value_peak": "greatest ‖W_O v‖ of the sink",
    "drain_50": "50 % of the drain",
}
"""What milestones are called."""


def _defined(frame: pl.DataFrame) -> str:
    """What every milestone means, as its rows say."""
    known = frame.select("milestone", "definition").unique().sort("milestone").rows()
    return "; ".join(f"{name}: {meaning}" for name, meaning in known)


def _milestones(run: Run, frame: pl.DataFrame) -> Figure:
    order = (
        frame.drop_nulls("step")
        .group_by("milestone")
        .agg(pl.col("step").median())
        .sort("step", "milestone")["milestone"]
        .to_list()
    )
    base = (
        marks.shown(marks.named("milestones"), domain=False)
        .transform_filter("isValid(datum.step) && datum.step > 0")
        .transform_calculate(start="max(datum.after_step, 1)")
        .encode(
            y=alt.Y("milestone:N", title=None, sort=order).axis(**marks.rows_axis(240)),
            yOffset=alt.YOffset("group:N", sort=run.groups),
            color=marks.colour(run),
            tooltip=[
                *marks.tips(
                    BB_MILESTONES, ["trajectory", "after_step", "by_step", "step", "value"]
                ),
                alt.Tooltip("milestone:N"),
                alt.Tooltip("definition:N"),
            ],
        )
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=marks.step_axis(column="start"), x2="by_step:Q")
    points = base.mark_point(filled=True, size=34, opacity=0.9).encode(x=marks.step_axis())
    reached = frame.drop_nulls("step").height
    first = f"; in the median “{order[0]}” comes first, “{order[-1]}” last" if order else ""
    return Figure(
        "milestones",
        "Milestones",
        alt.layer(bars, points),
        f"{reached} of {words.count(frame.height, 'milestone')} (counted per run) "
        f"{words.agree(reached, frame.height, 'was', 'were')} reached{first}.",
        data="milestones",
        table="bb_milestones",
        definition=_defined(frame),
        height=max(180, max(26, 7 * frame["group"].n_unique()) * max(len(order), 1)),
    )
