"""Findings in words: what a revision is, the number that says so, and what honest paths give."""

from __future__ import annotations

from collections.abc import Sequence

from trajectory.forensics.examine import Examined
from trajectory.forensics.findings import Finding

SHOWN = 5
"""Members of an average that are named."""

IN_A_ROW = 3
"""Neighbouring revisions that are all named."""


def described(examined: Examined, one: Finding, short: bool) -> tuple[str, str, str, str]:
    """The revision, what is wrong, the evidence, and what it is held to.

    Args:
        examined: the trajectory.
        one: a finding of it.
        short: whether other revisions are called by their steps alone.
    """
    return examined.name(one.at), _wrong(examined, one, short), *_evidence(one)


def _wrong(examined: Examined, one: Finding, short: bool) -> str:
    others = _called(examined, one.others[:SHOWN], short)
    match one.kind:
        case "broken":
            assert one.piece is not None
            return f"broken: {examined.pieces[one.piece].tensor}"
        case "copy":
            return f"re-saved copy of {others}" if one.sure else f"same numbers as {others}"
        case "unrelated":
            return "of another run or seed"
        case "average":
            more = f" and {len(one.others) - SHOWN} more" if len(one.others) > SHOWN else ""
            even = max(one.weights) < 1.1 * min(one.weights)
            weights = ", ".join(f"{weight:.2f}" for weight in one.weights[:SHOWN])
            return f"average of {others}{more}" + ("" if even else f" ({weights})")
        case "swapped":
            return f"swapped with {others}"
        case "misplaced":
            return f"belongs at {others}" if len(one.others) == 1 else f"lies between {others}"
        case "off the path":
            return "off the path"


def _evidence(one: Finding) -> tuple[str, str]:
    found, bound = one.evidence, f"{one.threshold:g}"
    match one.kind:
        case "broken":
            return f"{found:,.0f} not finite" if one.wild else f"{found:.0f} all alike", "0"
        case "copy":
            return f"{found:.0f} differ", f"≥ {one.threshold:,.0f}"
        case "unrelated":
            return f"cosine {found:.2f}", f"> {bound}"
        case "average":
            return f"residual {found:.0e}", f"≥ {bound}"
        case "swapped" | "misplaced":
            return f"astray {found:.2f}", f"≤ {bound}"
        case "off the path":
            return f"off {found:.1f}", f"≤ {bound}"


def _called(examined: Examined, others: Sequence[int], short: bool) -> str:
    """Other revisions by their steps, or by their names."""
    if not others:
        return ""
    names = [str(examined.read[at].row["step"]) if short else examined.name(at) for at in others]
    joined = ", ".join(names[:-1]) + (" and " if names[1:] else "") + names[-1]
    if not short:
        return joined
    return f"step {joined}" if len(names) == 1 else f"steps {joined}"


def same_files(examined: Examined) -> list[str]:
    """Sentences about revisions that share all files with another: to which the path gives them."""
    owners: dict[int, list[Finding]] = {}
    for one in examined.same_files:
        owners.setdefault(one.others[0], []).append(one)
    return [
        f"{_listed(examined, [one.at for one in found])}: the files are those of "
        f"{examined.name(owner)}, as 'trajectory suites pin' tells by hash; "
        + ("by the path they belong there" if found[0].sure else "the path does not tell whose")
        for owner, found in owners.items()
    ]


def _listed(examined: Examined, at: Sequence[int]) -> str:
    """Revisions by name; of more than three in a row the first and the last."""
    runs: list[list[int]] = []
    for i in sorted(at):
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    told = []
    for run in runs:
        names = [examined.name(i) for i in run]
        folded = len(run) > IN_A_ROW
        told += [f"{names[0]} to {names[-1]} ({len(run)} revisions)"] if folded else names
    return ", ".join(told)
