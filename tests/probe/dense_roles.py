"""An independent reading of the weights that tell roles: loops over dense float64 attention."""

from __future__ import annotations

from torch import Tensor

LOCAL = 4


def expected_roles(
    weights: Tensor,
    allowed: Tensor,
    member: Tensor,
    sink: int,
    texts: list[list[str]],
    marks: tuple[str, ...] = (),
) -> dict[str, float]:
    """Columns of ``heads`` about roles, of one head.

    Args:
        weights: A_ij, [B, T, T].
        allowed: which keys each query sees, bool [B, T, T].
        member: the domain's queries, bool [B, T].
        sink: position s.
        texts: the tokens.
        marks: tokens that are full stops, commas or line breaks.
    """
    pools: dict[str, list[float]] = {}

    def note(name: str, row: Tensor, keys: list[int], seen: int) -> None:
        pools.setdefault(f"{name}_weight", []).append(sum(float(row[j]) for j in keys))
        pools.setdefault(f"{name}_floor", []).append(len(keys) / seen)

    for b, text in enumerate(texts):
        for i in range(len(text)):
            if not member[b, i]:
                continue
            row = weights[b, i]
            visible = [j for j in range(i + 1) if allowed[b, i, j]]
            before = [j for j in visible if j < i and j != sink]
            seen = len(visible)
            if i >= sink + 2:
                note("previous", row, [i - 1], seen)
            if i >= sink + LOCAL:
                note("local", row, visible[-LOCAL:], seen)
            for name, keys in (
                ("duplicate", [j for j in before if text[j] == text[i]]),
                ("induction", [j for j in before if 0 < j < i - 1 and text[j - 1] == text[i]]),
                ("punctuation", [j for j in before if j > 0 and text[j] in marks]),
            ):
                if keys:
                    note(name, row, keys, seen)
    return {name: sum(values) / len(values) for name, values in pools.items()}
