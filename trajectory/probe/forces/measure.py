"""From a model and a batch to rows of the tables of forces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from trajectory.errors import TrajectoryError
from trajectory.probe.forces.arrows import Arrows, Mobility, flow_arrows
from trajectory.probe.forces.coupling import Coupling, Target, couple
from trajectory.probe.forces.first import Forces, HeadForces, LayerForces, first_order
from trajectory.probe.forces.keys import Key, Keys, Readers, Setting
from trajectory.probe.forces.shams import held_constant
from trajectory.probe.forces.stack import Stack
from trajectory.rows import Row

Heads = Literal["lead", "all"] | tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Wanted:
    """What is measured besides the first-order forces of all heads.

    Attributes:
        keys: the sink and its shams.
        heads: whose coupling and arrows: of each layer the head with the greatest sink weight, all
            heads, or these (layer, head).
        readers: of which readers, where they are among the setting's.
        domain: of which domain; of all if None.
        coupling: measure the coupling.
        arrows: measure the arrows of the gradient flow as well, which need the coupling.
        mobility: P of the arrows; 1 if None.

    Raises:
        TrajectoryError: for heads that are none of these.
    """

    keys: Keys = field(default_factory=Keys)
    heads: Heads = "lead"
    readers: tuple[str, ...] = ("late",)
    domain: str | None = None
    coupling: bool = True
    arrows: bool = True
    mobility: Mobility | None = None

    def __post_init__(self) -> None:
        given = self.heads
        pairs = not isinstance(given, str) and all(
            isinstance(pair, list | tuple) and len(pair) == 2 for pair in given
        )
        if given not in ("lead", "all") and not (pairs and len(given)):
            raise TrajectoryError(
                f"forces: heads are 'lead', 'all' or one or more pairs (layer, head); not {given!r}"
            )
        for pair in given if pairs else ():
            if list(given).count(pair) > 1:
                raise TrajectoryError(f"forces: heads: {pair} is given twice")


def measure_forces(stack: Stack, setting: Setting, wanted: Wanted) -> dict[str, list[Row]]:
    """Rows of the four tables, without the columns that name a trajectory and its step.

    Args:
        stack: the model.
        setting: batch, law, keys and readers.
        wanted: what is measured at which heads.

    Raises:
        TrajectoryError: if a head does not exist, no reader sees a key, or a number is not finite.
    """
    streams = stack.streams()
    _refuse_not_finite(streams, setting)
    plain = [key for key in setting.keys if key.kind != "constant"]
    constant = [key for key in setting.keys if key.kind == "constant"]
    unchanged = Setting(
        setting.law, plain, setting.readers, setting.sink, setting.present, setting.at_once
    )
    forces = first_order(stack, streams, unchanged)
    heads = _chosen(forces, unchanged, wanted)
    rows = list(_force_rows(forces.heads, unchanged))
    _refuse_unseen(rows, unchanged)
    means = list(_mean_rows(forces.heads, unchanged))
    bends, arrows = _second_order(stack, streams, unchanged, wanted, heads, forces.heads)
    for layer in sorted({layer for layer, _ in heads}):
        mine = [head for head in heads if head[0] == layer]
        for key in constant:
            with held_constant(stack, streams, unchanged, layer, key) as (changed, alone):
                found = first_order(stack, changed, alone, down_to=layer)
                own = [h for h in found.heads if h.layer == layer]
                rows += _force_rows(own, alone)
                means += _mean_rows(own, alone)
                more = _second_order(stack, changed, alone, wanted, mine, found.heads)
            bends += more[0]
            arrows += more[1]
    _add_coupling(rows, bends)
    _add_mean_coupling(means, bends)
    layers = [
        _layer_row(readers, one)
        for readers in _one_per_domain(setting.readers)
        for one in forces.layers
    ]
    tables = {
        "forces": rows,
        "force_means": means,
        "force_layers": layers,
        "arrows": [_arrow_row(a) for a in arrows],
    }
    for found_rows in tables.values():
        for row in found_rows:
            _check_finite(row)
    return tables


def _chosen(forces: Forces, setting: Setting, wanted: Wanted) -> list[tuple[int, int]]:
    """The heads whose second derivatives are wanted."""
    there = {h.layer: h.values["weight"] for h in forces.heads}
    every = [(layer, head) for layer, w in there.items() for head in range(w.shape[1])]
    if not wanted.coupling:
        return []
    if wanted.heads == "all":
        return every
    if wanted.heads == "lead":
        late = [m for m, r in enumerate(setting.readers) if r.name in wanted.readers] or [0]
        return [
            (layer, int(w[:, :, 0, late].nanmean((0, 2)).nan_to_num(-1).argmax()))
            for layer, w in there.items()
        ]
    for layer, head in wanted.heads:
        if (layer, head) not in every:
            raise TrajectoryError(
                f"forces: no head {head} with attention in layer {layer}; layers with heads are "
                f"{', '.join(map(str, there))}, of {next(iter(there.values())).shape[1]} heads"
            )
    return list(wanted.heads)


def _second_order(
    stack: Stack,
    streams: Sequence[Tensor],
    setting: Setting,
    wanted: Wanted,
    heads: Sequence[tuple[int, int]],
    first: Sequence[HeadForces],
) -> tuple[list[Coupling], list[Arrows]]:
    layers = {one.layer: one for one in first}
    bends: list[Coupling] = []
    arrows: list[Arrows] = []
    for layer, head in heads:
        targets = [
            Target(layer, head, key, seeing)
            for m, readers in enumerate(setting.readers)
            if readers.name in wanted.readers and wanted.domain in (None, readers.domain)
            for n, key in enumerate(setting.keys)
            if (seeing := _seeing(readers, layers[layer].values["weight"][:, 0, n, m]))
        ]
        if not targets:
            continue
        found = couple(stack, streams, setting, targets)
        if wanted.arrows:
            arrows += [flow_arrows(stack, streams, one, wanted.mobility) for one in found]
        bends += [one.numbers() for one in found]
    return bends, arrows


def _seeing(readers: Readers, weights: Tensor) -> Readers | None:
    """Readers in the sequences where one of them sees a key; None if these are fewer than two.

    Args:
        readers: all of them.
        weights: on the key, NaN in sequences where none sees it, [B].
    """
    known = ~weights.isnan()
    if int(known.sum()) < 2:
        return None
    return replace(readers, places=readers.places & known.to(readers.places.device)[:, None])


def _cells(
    heads: Sequence[HeadForces], setting: Setting
) -> Iterator[tuple[HeadForces, Key, Readers, dict[str, Tensor]]]:
    """Layers, keys and readers with at least two sequences, and those sequences' values."""
    for one in heads:
        for n, key in enumerate(setting.keys):
            for m, readers in enumerate(setting.readers):
                known = ~one.values["weight"][:, 0, n, m].isnan()
                if int(known.sum()) >= 2:
                    yield (
                        one,
                        key,
                        readers,
                        {k: v[known][:, :, n, m] for k, v in one.values.items()},
                    )


def _force_rows(heads: Sequence[HeadForces], setting: Setting) -> Iterator[Row]:
    for one, key, readers, values in _cells(heads, setting):
        sequences, number = values["weight"].shape
        for head in range(number):
            numbers: Row = {}
            for name, of_heads in values.items():
                numbers |= _spread(name, of_heads[:, head])
            yield {
                **_names(readers, one.layer, head, key),
                "kv_head": head // one.groups,
                "sequences": sequences,
                **numbers,
                **dict.fromkeys(_BENT),
            }


def _mean_rows(heads: Sequence[HeadForces], setting: Setting) -> Iterator[Row]:
    """Means over the heads of a layer, taken sequence by sequence."""
    for one, key, readers, values in _cells(heads, setting):
        sequences, number = values["weight"].shape
        numbers: Row = {}
        for name, of_heads in values.items():
            numbers |= _spread(name, of_heads.mean(1))
        yield {
            **_place(readers, one.layer, key),
            "heads": number,
            "coupled_heads": 0,
            "sequences": sequences,
            **numbers,
            **dict.fromkeys(_BENT),
        }


def _place(readers: Readers, layer: int, key: Key) -> Row:
    return {
        "domain": readers.domain,
        "readers": readers.name,
        "layer": layer,
        "key": key.name,
        "key_kind": key.kind,
    }


def _names(readers: Readers, layer: int, head: int, key: Key) -> Row:
    return _place(readers, layer, key) | {"head": head}


_SECOND = ("coupling", "fisher", "rest", "logit_curvature", "value_curvature")
_BENT = tuple(f"{name}{suffix}" for name in _SECOND for suffix in ("", "_se"))
_PLACE = ("domain", "readers", "layer", "head", "key")


def _add_coupling(rows: list[Row], bends: Sequence[Coupling]) -> None:
    """Fill the rows of the heads whose second derivatives were measured."""
    places = {tuple(row[name] for name in _PLACE): row for row in rows}
    for bend in bends:
        target = bend.target
        names = _names(target.readers, target.layer, target.head, target.key)
        row = places.get(tuple(names[name] for name in _PLACE))
        if row is None:
            continue
        for name, values in _bent(bend).items():
            row |= _spread(name, values)


def _add_mean_coupling(rows: list[Row], bends: Sequence[Coupling]) -> None:
    """Fill the means over heads of what was measured at some or all of a layer's heads."""
    place = [name for name in _PLACE if name != "head"]
    found: dict[tuple[object, ...], list[dict[str, Tensor]]] = {}
    for bend in bends:
        names = _place(bend.target.readers, bend.target.layer, bend.target.key)
        found.setdefault(tuple(names[name] for name in place), []).append(_bent(bend))
    for row in rows:
        heads = found.get(tuple(row[name] for name in place), [])
        row["coupled_heads"] = len(heads)
        for name in _SECOND if heads else ():
            row.update(_spread(name, torch.stack([head[name] for head in heads]).mean(0)))


def _bent(bend: Coupling) -> dict[str, Tensor]:
    """Second derivatives of the sequences with readers."""
    of = bend.target.readers.places.any(1).cpu()
    values = {
        "coupling": bend.coupling,
        "fisher": bend.fisher,
        "rest": bend.coupling - bend.fisher,
        "logit_curvature": bend.logit_curvature,
        "value_curvature": bend.value_curvature,
    }
    return {name: value[of] for name, value in values.items()}


def _arrow_row(arrows: Arrows) -> Row:
    target = arrows.target
    numbers: Row = {}
    for name, value in arrows.values.items():
        numbers[name] = value if math.isfinite(value) else None
        error = arrows.errors[name]
        numbers[f"{name}_se"] = error if math.isfinite(error) else None
    return {**_names(target.readers, target.layer, target.head, target.key), **numbers}


def _spread(name: str, values: Tensor) -> Row:
    """A mean over sequences and its standard error."""
    return {name: float(values.mean()), f"{name}_se": float(values.std() / len(values) ** 0.5)}


def _layer_row(readers: Readers, one: LayerForces) -> Row:
    of = readers.places.any(1).cpu()
    row = {
        "domain": readers.domain,
        "layer": one.depth,
        **_spread("peak_force", one.peak_force[of]),
    }
    if one.gradient_sink[of].isfinite().all():
        return row | _spread("gradient_sink", one.gradient_sink[of])
    return row | {"gradient_sink": None, "gradient_sink_se": None}  # none but the sink's gradient


def _one_per_domain(readers: Sequence[Readers]) -> list[Readers]:
    return list({r.domain: r for r in readers}.values())


def _refuse_unseen(rows: Sequence[Row], setting: Setting) -> None:
    """Raise TrajectoryError if no layer's readers see a key."""
    seen = {(row["key"], row["domain"], row["readers"]) for row in rows}
    for key in setting.keys:
        for readers in setting.readers:
            if (key.name, readers.domain, readers.name) not in seen and readers.name == "late":
                raise TrajectoryError(
                    f"forces: no {readers.name} reader of '{readers.domain}' sees key "
                    f"'{key.name}' in two sequences; it comes after them or is outside the window"
                )


def _refuse_not_finite(streams: Sequence[Tensor], setting: Setting) -> None:
    """Raise TrajectoryError for a stream with NaN or infinity.

    Attention makes NaN of it, which would pass for a key that no query sees.
    """
    if bool(streams[-1][setting.present].isfinite().all()):
        return  # what is not finite stays so on the residual path
    for depth, stream in enumerate(streams):
        if not bool(stream[setting.present].isfinite().all()):
            where = f"behind layer {depth - 1}" if depth else "of the embedding"
            raise TrajectoryError(f"forces: the residual stream {where} is not finite")


def _check_finite(row: Row) -> None:
    for name, number in row.items():
        if isinstance(number, float) and not math.isfinite(number):
            raise TrajectoryError(
                f"forces: layer {row['layer']}, domain '{row['domain']}': {name} is {number}"
            )


def share_of(predicted: Tensor, dtype: torch.dtype) -> Tensor:
    """Each predicted position's share of its sequence's loss, [B, T], from bool [B, T]."""
    wide = predicted.to(dtype)
    return wide / wide.sum(1, keepdim=True).clamp_min(1)
