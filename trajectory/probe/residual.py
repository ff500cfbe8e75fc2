"""Statistics of the residual stream."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trajectory.corpus.kinds import DELIMITER, ENDOFTEXT
from trajectory.probe import statistics
from trajectory.probe.accumulate import Sums
from trajectory.probe.medians import lower_medians
from trajectory.schemas.base import (
    MASSIVE,
    MASSIVE_CHANNEL,
    SPECTRUM,
    TOKEN_KINDS,
    TOP_CHANNELS,
)

SEQUENCES_AT_ONCE = 8
"""Sequences reduced at once at least: few bound the memory of a reduction."""

NUMBERS_AT_ONCE = 1 << 19
"""Numbers reduced at once: more sequences of a small model, whose reductions are mostly calls."""

_RANKS = ("top", "second", "third")


@dataclass
class _Depth:
    """Sums of one domain at one depth."""

    sums: Sums = field(default_factory=Sums)
    massive: list[tuple[float, int, int, str]] = field(default_factory=list)
    channels: Tensor | None = None
    places: Counter[int] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    kinds: Counter[int] = field(default_factory=Counter)
    spectra: int = 0


class _Positions:
    """One part of the stream, reduced over channels once for all domains."""

    def __init__(self, hidden: Tensor) -> None:
        squares = hidden.square()
        power = squares.sum(-1)
        self.squares, self.magnitudes = squares, hidden.abs()
        self.norms = power.sqrt()  # (b, T)
        fourth = hidden.shape[-1] * squares.square().sum(-1)
        # A stream of zeros has no kurtosis. What is no number counts, so that damage is seen.
        self.shaped = power.square() != 0
        self.kurtosis = statistics.ratio(fourth, power.square())
        self.greatest = self.magnitudes.amax(-1)

    def of(self, rows: slice) -> _Positions:
        """Those of some sequences."""
        found = copy(self)
        for name, values in vars(self).items():
            setattr(found, name, values[rows])
        return found


class StreamReader:
    """Reads the residual stream at one depth.

    Args:
        domains: which positions belong to each, bool [B, T].
        texts: the tokens, B lists of T.
        kinds: what they are, int [B, T].
        sink: the sink position.
        dtype: floating-point type of the statistics.
        full: with medians of magnitudes and singular values.
    """

    def __init__(
        self,
        domains: Mapping[str, Tensor],
        texts: Sequence[Sequence[str]],
        kinds: Tensor,
        sink: int,
        dtype: torch.dtype,
        full: bool,
    ) -> None:
        self.domains, self.texts, self.kinds = domains, texts, kinds
        self.sink, self.dtype, self.full = sink, dtype, full

    def read(self, hidden: Tensor) -> tuple[dict[str, dict[str, Any]], Tensor]:
        """Columns of ``layers`` by domain, and ‖h_j‖ [B, T], from ``hidden`` [B, T, D]."""
        found = {name: _Depth() for name in self.domains}
        norms = torch.empty(hidden.shape[:2], dtype=self.dtype, device=hidden.device)
        for part in _parts(hidden, SEQUENCES_AT_ONCE):
            h = hidden[part].to(self.dtype)
            positions = _Positions(h)
            norms[part] = positions.norms
            for name, everywhere in self.domains.items():
                member = everywhere[part].to(h.device)
                there = member.any(1).nonzero()
                if len(there):  # a domain's sequences stand together
                    own = slice(int(there[0]), int(there[-1]) + 1)
                    place = slice(part.start + own.start, part.start + own.stop)
                    self._add(found[name], positions.of(own), h[own], member[own], place)
        rows = {name: self._row(depth) for name, depth in found.items()}
        for name, everywhere in self.domains.items():
            states = statistics.representations(hidden, everywhere.to(hidden.device))
            spread = statistics.geometry(states) if self.full else (None, None)
            rows[name]["rankme"], rows[name]["alpha_req"] = spread
        return rows, norms

    def _add(
        self, depth: _Depth, positions: _Positions, h: Tensor, member: Tensor, part: slice
    ) -> None:
        place = torch.arange(member.shape[1], device=member.device)
        others = member & (place != self.sink)
        active = member.any(1)
        counted = others | (active[:, None] & (place == self.sink))
        sums, norms = depth.sums, positions.norms
        at_sink, middle = statistics.sink_and_rest(norms[:, None], others, self.sink)
        sums.sequences("residual_norm_sink", at_sink)
        sums.sequences("residual_norm_rest", middle)
        sums.spread("residual_ratio", statistics.ratio(at_sink, middle))
        highest = norms.masked_fill(~others, -torch.inf).amax(1)
        sums.sequences("residual_norm_rest_max", statistics.or_nan(highest, others.any(1))[:, None])
        sums.queries("rest", norms[:, None], others)
        sums.queries("kurtosis", positions.kurtosis[:, None], counted & positions.shaped)
        spread = statistics.or_nan(positions.kurtosis[:, self.sink], active)
        sums.sequences("kurtosis_sink", spread[:, None])
        self._special(depth, norms, counted, part)
        squares = torch.einsum("btd,bt->d", positions.squares, counted.to(h.dtype)).double().cpu()
        depth.channels = squares if depth.channels is None else depth.channels + squares
        self._massive(depth, positions, counted, part.start)
        if self.full:
            self._medians(sums, positions, counted)
            self._spectra(depth, h, counted)

    def _special(self, depth: _Depth, norms: Tensor, counted: Tensor, part: slice) -> None:
        """The named special tokens, and where each sequence's greatest norm is."""
        kinds = self.kinds[part].to(norms.device)
        for name, kind in (("delimiter", DELIMITER), ("endoftext", ENDOFTEXT)):
            here = (kinds == kind) & counted
            place = here.int().argmax(1)
            norm = statistics.or_nan(norms.gather(1, place[:, None])[:, 0], here.any(1))
            depth.sums.sequences(f"residual_norm_{name}", norm[:, None])
        highest = norms.masked_fill(~counted, -torch.inf).argmax(1)
        active = counted.any(1).tolist()
        for row, place in enumerate(highest.tolist()):
            if active[row]:
                depth.places[place] += 1
                depth.tokens[self.texts[part.start + row][place]] += 1
                depth.kinds[int(kinds[row, place])] += 1

    def _massive(
        self, depth: _Depth, positions: _Positions, counted: Tensor, first_row: int
    ) -> None:
        """The sequence of the greatest magnitude, and its three greatest channels.

        One channel is large in every sequence, mostly at the same position: over all sequences at
        once it would take every rank. The first of equal ones, so that a repeated token's do not
        depend on the kernel.
        """
        # Not a number is greater than everything, so that a damaged stream is seen.
        tops = positions.greatest.masked_fill(~counted, -1.0).amax(1)
        row = int(_first_greatest(tops)[0])
        top = float(tops[row])
        if depth.massive and not _beyond(top, depth.massive[0][0]):
            return
        places = counted[row].nonzero()[:, 0]
        values, at = positions.magnitudes[row][places].max(0)
        texts = self.texts[first_row + row]
        depth.massive = []
        for channel in _first_greatest(values).tolist():
            place = int(places[at[channel]])
            depth.massive.append((float(values[channel]), place, channel, texts[place]))

    def _medians(self, sums: Sums, positions: _Positions, counted: Tensor) -> None:
        width = positions.magnitudes.shape[2]
        for part in _parts(positions.magnitudes, 1):
            here, greatest = counted[part], positions.greatest[part]
            magnitudes = positions.magnitudes[part]
            whole = bool(here.all())
            known = magnitudes if whole else magnitudes.masked_fill(~here[..., None], torch.nan)
            damaged = (greatest.isnan() & here).any(1)
            median = lower_medians(known.flatten(1), here.sum(1) * width)
            median = median.masked_fill(damaged, torch.nan)
            sums.sequences("massive_median", median[:, None])
            least = (MASSIVE[1] * median).clamp_min(MASSIVE[0])
            # At few positions if at any, and torch is slow to count what is true.
            rows, places = ((greatest > least[:, None]) & here).nonzero(as_tuple=True)
            massive = (magnitudes[rows, places] > least[rows, None]).sum()
            sums.add("massive_count", massive, here.any(1).sum())

    def _spectra(self, depth: _Depth, h: Tensor, counted: Tensor) -> None:
        alike: dict[torch.Size, list[Tensor]] = {}
        for values, here in zip(h, counted, strict=True):
            if depth.spectra == SPECTRUM[0]:
                break
            rows = values[here][: SPECTRUM[1]]
            if len(rows) < 2 or not bool(rows.isfinite().all()) or not bool(rows.any()):
                continue
            depth.spectra += 1
            rows = rows if len(rows) <= rows.shape[1] else rows.mT
            alike.setdefault(rows.shape, []).append(rows)
        for matrices in alike.values():
            # Eigenvalues of the smaller side, on the CPU in float64: a few hundred at most.
            entropy, participation = statistics.spectrum(torch.stack(matrices).cpu().double())
            depth.sums.add("matrix_entropy", entropy.sum(), len(matrices))
            depth.sums.add("participation_ratio", participation.sum(), len(matrices))

    def _row(self, depth: _Depth) -> dict[str, Any]:
        sums = depth.sums
        assert depth.channels is not None
        row: dict[str, Any] = {name: sums.number(name) for name in _MEANS}
        (row["residual_ratio_se"],) = sums.errors("residual_ratio", 1)
        rest = sums.number("rest")
        at_sink = row["residual_norm_sink"]
        row["residual_excess"] = None if at_sink is None or rest is None else at_sink - rest
        row |= _most("residual_maximum", depth)
        for rank, name in enumerate(_RANKS):
            # A stream of one or two numbers has no third.
            value, place, channel, token = depth.massive[min(rank, len(depth.massive) - 1)]
            suffix = "" if name == "top" else f"_{name}"
            row[f"massive_{name}"] = value
            row[f"massive{suffix}_position"] = place
            row[f"massive{suffix}_channel"] = channel
            row[f"massive{suffix}_token"] = token
        median = row["massive_median"]
        row["massive_ratio"] = row["massive_top"] / median if median else None
        return row | _channels(depth.channels)


def _parts(values: Tensor, least: int) -> Iterator[slice]:
    """Slices of the first axis: at least so many rows, and ``NUMBERS_AT_ONCE`` if those are few."""
    size = max(least, NUMBERS_AT_ONCE // values[0].numel())
    return (slice(start, start + size) for start in range(0, len(values), size))


def _first_greatest(values: Tensor) -> Tensor:
    """Indices of the greatest values [N], the first of equal ones first."""
    return values.argsort(descending=True, stable=True)[: len(_RANKS)]


def _beyond(value: float, before: float) -> bool:
    """Whether a magnitude is greater than one found before; the first that is no number stays."""
    return not math.isnan(before) and (math.isnan(value) or value > before)


def _most(name: str, depth: _Depth) -> dict[str, Any]:
    """The most common place, token and kind; the first of several."""
    place = min(depth.places, key=lambda p: (-depth.places[p], p))
    token = min(depth.tokens, key=lambda t: (-depth.tokens[t], t))
    kind = min(depth.kinds, key=lambda k: (-depth.kinds[k], k))
    return {
        f"{name}_position": place,
        f"{name}_share": depth.places[place] / depth.places.total(),
        f"{name}_token": token,
        f"{name}_kind": TOKEN_KINDS[kind],
    }


def _channels(squares: Tensor) -> dict[str, Any]:
    """Statistics of the channels' norms, from their summed squares [D]."""
    norms = squares.sqrt()
    median = norms.median()
    top = squares.topk(min(TOP_CHANNELS, len(squares))).values.sum()
    whole = squares.sum()
    return {
        "channel_ratio": float(norms.max() / median) if median else None,
        "top_channel": int(norms.argmax()),
        "massive_channels": int((norms > MASSIVE_CHANNEL * median).sum()),
        "top_channels_share": float(top / whole) if whole else None,
    }


_MEANS = (
    *("residual_norm_sink", "residual_norm_rest", "residual_norm_rest_max", "residual_ratio"),
    *("residual_norm_delimiter", "residual_norm_endoftext", "kurtosis", "kurtosis_sink"),
    *("massive_median", "massive_count", "matrix_entropy", "participation_ratio"),
)
