"""What a run found, for a reader with one minute: a title, findings, and what it is not.

Whether sink and drain drive each other is a finding of its own, in ``driven``.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from trajectory.dynamics.circuit import behind
from trajectory.dynamics.series import group_of
from trajectory.report import words
from trajectory.report.names import Names, change
from trajectory.report.page import Finding
from trajectory.report.parts.own import elsewhere
from trajectory.report.parts.tally import Tallies, Tally, in_worlds, share
from trajectory.report.run import Run, is_bb

YES, MIXED, NO, OPEN, UNTESTED = "yes", "mixed", "no", "undecided", "not tested"
"""Verdicts that stand on chips, the same for findings and claims."""

Change = tuple[str, str, str]
"""Variant, its control, what the one has that the other has not."""


def is_static(run: Run) -> bool:
    """Whether the run has nothing but single checkpoints of language models."""
    return not any(map(is_bb, run.trajectories)) and all(map(run.is_static, run.trajectories))


def title(run: Run, found: Tallies) -> str:
    """The run's finding in plain words."""
    sink = found.of["sink"]
    if not sink.yes:
        return _without_sink(run, found)
    drained = found.within("drain", sink.yes)
    own = [t for t in run.trajectories if group_of(t) in set(sink.yes)]
    several, static = len(sink.yes) > 1, all(map(run.is_static, own))
    # A checkpoint alone grows nothing.
    verb = ("have" if several else "has") if static else ("grow" if several else "grows")
    told = f"{_who(run, found)} {verb} an attention sink"
    if drained.decidable and len(drained.yes) == drained.decidable:
        told += (
            " with a drained value" if static else f" and drain{'' if several else 's'} its value"
        )
    elif drained.yes:
        told += f", whose value drains in {share(drained)}"
    removed = _removers(run, found)
    prevent = "prevents it" if len(removed) == 1 else "prevent it"
    return f"{told}; {words.few(removed)} {prevent}" if removed else told


def _without_sink(run: Run, found: Tallies) -> str:
    if found.of["sink"].open:
        return "This run does not decide whether its models end with an attention sink"
    told = f"None of {words.count(len(found.groups), 'model')} ends with an attention sink"
    other = elsewhere(run, found.groups)
    if not other:
        return told
    have = "has one" if len(other) == 1 else "have one"
    return f"{told} at the sink position; {words.count(len(other), 'model')} {have} on a token"


def _who(run: Run, found: Tallies) -> str:
    """The models with a sink. Toys are named as a whole where all of them have one but those whose
    change removes it."""
    yes = set(found.of["sink"].yes)
    toys, models = ([g for g in own if g in yes] for own in (found.toys, found.models))
    removed = {f"bb/{name}" for name, _, _ in _removed(run, found)}
    parts = []
    if toys:
        whole = len(toys) == len(set(found.toys) - removed)
        parts.append("Toy models" if whole else f"{len(toys)} of {len(found.toys)} toy models")
        if whole and len(toys) == 1:
            parts = ["A toy model"]
    if len(models) == 1:
        parts += models
    elif models:
        of = "" if len(models) == len(found.models) else f" of {len(found.models)}"
        parts.append(f"{len(models)}{of} language models")
    return words.listed(parts)


def _compared(run: Run, found: Tallies) -> list[Change]:
    """Every main variant with a control that ends with a sink, and what is changed."""
    variants = run.config.bb.variants
    yes = set(found.of["sink"].yes)
    rows = []
    for name, variant in variants.items():
        control = variants.get(variant.control or "")
        if control is None or f"bb/{name}" not in found.toys or f"bb/{variant.control}" not in yes:
            continue
        rows.append((name, str(variant.control), change(variant, control) or name))
    return rows


def _removed(run: Run, found: Tallies) -> list[Change]:
    """The changes without whose like the sink is there."""
    without = set(found.of["sink"].no)
    return [row for row in _compared(run, found) if f"bb/{row[0]}" in without]


def _removers(run: Run, found: Tallies) -> list[str]:
    return list(dict.fromkeys(what for _, _, what in _removed(run, found)))


def findings(run: Run, found: Tallies, names: Names) -> list[Finding]:
    """Where the sink appears, what comes with it, what removes it.

    Args:
        run, found, names: the run, its main models, what they are called.
    """
    rows = [_where(run, found, names), _with(found), _without(run, found)]
    if not is_static(run):
        return rows
    # What the other pages draw over training, Circuit draws by depth.
    places = ("circuit.html#weights", "circuit.html#values", "circuit.html#changed")
    return [replace(row, link=place) for row, place in zip(rows, places, strict=True)]


def _where(run: Run, found: Tallies, names: Names) -> Finding:
    """Whether it appears, in which worlds, and where it sits if not at the sink position."""
    told, open_, worlds = [], [], []
    for groups, noun in ((found.toys, "toy variant"), (found.models, "language model")):
        if groups:
            within = found.within("sink", groups)
            worlds.append(within)
            if _verdict(within) == OPEN:
                open_.append(f"in {words.count(within.decidable, noun)}")
            else:
                told.append(share(within, noun))
    absent = "" if found.toys else " This run has no toys."
    absent = absent if found.models else " This run has no language model."
    verdict = _verdict(found.of["sink"])
    # What removes it in toys does not make it absent from them.
    verdict = YES if verdict == MIXED and all(one.yes for one in worlds) else verdict
    text = f"It is there at the end in {words.listed(told)}." if told else ""
    other = elsewhere(run, found.of["sink"].no)
    if other:
        places = [f"“{names.of(group)}” on {place}" for group, place in other.items()]
        text += f" Away from the sink position it is in {words.few(places)}."
    if open_:
        text += f" Whether it is there at the end is undecided {words.listed(open_)}."
    return Finding(
        "Does an attention sink appear?",
        verdict,
        f"{text.strip()}{absent}",
        "trajectories.html#sink",
    )


def _verdict(own: Tally) -> str:
    """Yes where all that is defined is yes, no where all is no, likewise undecided."""
    if not own.decidable:
        return UNTESTED
    if len(own.undecided) == own.decidable:
        return OPEN
    return YES if len(own.yes) == own.decidable else NO if len(own.no) == own.decidable else MIXED


def _with(found: Tallies) -> Finding:
    """What comes with the sink, in the words and numbers of the charts."""
    question, link = "What comes with it?", "trajectories.html#value_ratio"
    sinking = found.of["sink"].yes
    drain, peak = (found.within(name, sinking) for name in ("drain", "peak"))
    if not sinking:
        text = "No model ends with a sink."
        if found.of["sink"].open:
            text = "Whether a model ends with a sink is undecided."
        return Finding(question, UNTESTED, text, link)
    text = (
        f"Where a sink is there at the end, a drain is too in {in_worlds(found, 'drain', sinking)}"
    )
    text += (
        f"; a peak, which takes two layers, in {in_worlds(found, 'peak', sinking)}."
        if peak.decidable
        else "; no model has a second layer for a peak."
    )
    verdicts = {_verdict(own) for own in (drain, peak) if own.decidable}
    return Finding(
        question,
        verdicts.pop() if len(verdicts) == 1 else MIXED if verdicts else UNTESTED,
        text,
        link,
    )


def _without(run: Run, found: Tallies) -> Finding:
    """Which change of a toy removes it."""
    rows = _compared(run, found)
    question = "What removes the sink?"
    if not rows and not found.toys:
        return _taken(run, question)
    if not rows:
        why = "No variant with a change has a control that ends with a sink."
        return Finding(question, UNTESTED, why, "laboratory.html#section-mitigations")
    removed = _removers(run, found)
    kept = list(dict.fromkeys(w for n, _, w in rows if f"bb/{n}" in set(found.of["sink"].yes)))
    open_ = list(dict.fromkeys(w for n, _, w in rows if f"bb/{n}" in set(found.of["sink"].open)))
    parts = [
        f"{words.few(own)} {verb if len(own) > 1 else single}"
        for own, verb, single in (
            (removed, "remove it", "removes it"),
            (kept, "do not", "does not"),
            (open_, "are undecided", "is undecided"),
        )
        if own
    ]
    verdict = YES if removed else MIXED if open_ else NO
    return Finding(question, verdict, f"{'; '.join(parts)}.", "laboratory.html#sink")


def _taken(run: Run, question: str) -> Finding:
    """Which zeroed part of a language model takes most of its sink in the layers behind it."""
    link = "circuit.html#changed"
    if not (run.has("intervention_layers") and run.has("interventions")):
        return Finding(question, UNTESTED, "This run takes no part of its models away.", link)
    found = behind(run.frame("interventions"), run.frame("intervention_layers"))
    found = found.drop_nulls(("at", "sink")).with_columns(
        lost=pl.col("sink_before") - pl.col("sink")
    )
    told, halved = [], False
    for trajectory in run.trajectories:
        domain = next(d for t, d in run.series if t == trajectory)
        own = found.filter(trajectory=trajectory, domain=domain)
        if own.is_empty():
            continue
        row = own.sort("lost", "at", descending=[True, False]).row(0, named=True)
        halved |= row["sink"] < row["sink_before"] / 2
        told.append(
            f"“{row['changes']}” takes most in {trajectory} on {domain}, from "
            f"{words.number(row['sink_before'])} to {words.number(row['sink'])}, at "
            f"{words.signed(row['loss_difference'])} nats/token"
        )
    if not told:
        return Finding(question, UNTESTED, "This run zeroes no layer that has layers behind.", link)
    text = f"Of the mean weight on the sink in the layers behind, {words.few(told)}."
    if not halved:
        return Finding(question, NO, f"No zeroed part halves it. {text}", link)
    return Finding(question, YES, text, link)


def caveat(run: Run) -> str:
    """What the models of this run are not."""
    told = []
    for name, nano in run.config.suites.embedded().items():
        if name in run.trajectories:
            told.append(
                f"{group_of(name)} is an OLMo of {nano.layers} layers and width {nano.width}, "
                "trained here on texts of the local Python: a stand-in, no result about OLMo."
            )
            break
    variants = [v for n, v in run.config.bb.variants.items() if f"bb/{n}" in run.groups]
    if variants and max(v.width for v in variants) < 256:
        most = max(v.width for v in variants)
        told.append(f"Toys are at most {most} wide, those of the paper (Guo et al.) 256.")
    return " ".join(told)
