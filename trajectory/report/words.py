"""Sentences about numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import polars as pl

from trajectory.dynamics.series import group_of
from trajectory.report.run import domain_rank, is_bb, world_rank
from trajectory.schemas.base import UNSTEPPED

LISTED_GROUPS = 6
"""Groups that a sentence names one by one; of more it tells the range."""


def count(number: int, noun: str, several: str = "") -> str:
    """'1 head', '2 heads'."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def agree(number: int, of: int, one: str, several: str) -> str:
    """The verb of '1 of 5 heads' or of '0 of 1 head': one form where either is one."""
    return one if 1 in (number, of) else several


def at_step(step: int) -> str:
    """'step 1,000', or what a single checkpoint has that states none."""
    return "its one checkpoint" if step == UNSTEPPED else f"step {step:,}"


def listed(parts: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def few(parts: Sequence[str]) -> str:
    """The same of the first ones, with how many more there are."""
    shown = list(parts[:LISTED_GROUPS])
    rest = len(parts) - len(shown)
    return listed([*shown, f"{rest} more"] if rest else shown)


def number(value: float | None, digits: int = 2) -> str:
    """A number for people, a dash for none: three significant digits from 1 on, two below 0.1.

    Args:
        value: the number.
        digits: decimals at most; fewer than two where no reader needs them.
    """
    if value is None:
        return "—"
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        return minus(f"{value:.{digits}g}")
    if digits == 2 and 0 < size < 0.1:
        return minus(f"{value:#.2g}")
    most = 0 if size >= 99.95 else 1 if size >= 9.995 else digits
    text = f"{value:,.{min(digits, most)}f}"
    return text.removeprefix("-") if not text.strip("-0.") else minus(text)


def signed(value: float) -> str:
    """A change for people: '+0.30', '−0.30', '+0.042'."""
    text = number(value)
    return text if text.startswith("−") else f"+{text}"


def minus(text: str) -> str:
    """A written number with the sign that the axes write; the hyphen of an exponent stays."""
    return "−" + text[1:] if text.startswith("-") else text


def percent(share: float) -> str:
    """'60 %' of 0.6, kept on one line."""
    text = f"{100 * share:.0f}"
    return ("0" if text == "-0" else minus(text)) + "\N{NO-BREAK SPACE}%"


def median(values: pl.Series) -> float | None:
    """The median of numbers, None of none."""
    found = values.median()
    return float(found) if isinstance(found, (int, float)) else None


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """'[0.1, 0.3]', nothing without bounds."""
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def over(rows: pl.DataFrame, reading: str, whole: str) -> str:
    """The reading of a chart whose marks the page's boxes hide, with the rows it is computed from:
    it tells of all of them, whatever the boxes leave.

    Args:
        rows: with their domain.
        reading: what they say.
        whole: of which runs they are.
    """
    domains = sorted(rows["domain"].unique(), key=domain_rank)
    # A sentence of its own begins in the midst of this one.
    starts = reading[:1].isascii() and reading[1:2].islower()
    told = reading[:1].lower() + reading[1:] if starts else reading
    return f"{whole}, on {listed(domains)}: {told}" if domains else reading


def per_group(rows: pl.DataFrame, column: str, digits: int = 2) -> str:
    """'0.78 (bb/softmax-1l), …, means of 3 seeds': the mean over a group's trajectories."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows.sort("trajectory", "domain").to_dicts():
        if row[column] is not None:
            found.setdefault((group_of(row["trajectory"]), row["domain"]), []).append(row[column])
    order = sorted(found, key=lambda key: (world_rank(key[0]), key))

    def told(key: tuple[str, str]) -> str:
        group, domain = key
        numbers = found[key]
        seeds = f", mean of {len(numbers)} seeds" if len(numbers) > 1 and not once else ""
        where = "" if is_bb(group) else f" on {domain}"
        return f"{number(mean(numbers), digits)} ({group}{where}{seeds})"

    once = _seeds_once({key: len(numbers) for key, numbers in found.items()})
    if len(order) <= LISTED_GROUPS:
        return ", ".join([*map(told, order), *once])
    ends = sorted(order, key=lambda key: (mean(found[key]), key[0]))
    groups = len({group for group, _ in order})
    over = count(groups, "group") + (" and their domains" if len(order) > groups else "")
    return ", ".join([f"{told(ends[0])} to {told(ends[-1])} over {over}", *once])


def _seeds_once(seeds: Mapping[tuple[str, str], int]) -> list[str]:
    """Over how many seeds means are, in one phrase for all; nothing where that differs or is 1."""
    several = {count for count in seeds.values() if count > 1}
    alone = {group for (group, _), count in seeds.items() if count == 1}
    if len(several) != 1 or any(map(is_bb, alone)):
        return []
    return [f"{'toys as ' if alone else ''}means of {several.pop()} seeds"]
