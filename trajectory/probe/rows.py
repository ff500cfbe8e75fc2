"""Which sequences of a batch the running code is about, and which positions hold tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

_rows: ContextVar[slice] = ContextVar("rows", default=slice(None))
_present: ContextVar[Tensor | None] = ContextVar("present", default=None)


@contextmanager
def batch_rows(rows: slice) -> Iterator[None]:
    """Say that calls made inside the block are about these sequences of the batch."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def current_rows() -> slice:
    """Which sequences of the batch the running layer is about."""
    return _rows.get()


@contextmanager
def tokens_at(present: Tensor | None) -> Iterator[None]:
    """Say which positions of the batch hold a token rather than padding, bool [B, T]."""
    token = _present.set(present)
    try:
        yield
    finally:
        _present.reset(token)


def current_tokens() -> Tensor | None:
    """Which positions of the current rows hold a token, bool [b, T]; None if all do."""
    present = _present.get()
    return None if present is None else present[_rows.get()]


def rows_of(value: Any, rows: slice, size: int) -> Any:
    """A keyword argument for some sequences; what has no batch axis is for all of them."""
    batched = isinstance(value, Tensor) and value.ndim > 1 and len(value) == size > 1
    return value[rows] if batched else value
