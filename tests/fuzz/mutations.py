"""Damage as disks, proxies and people do it, and a bound on what reading it may cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

SECONDS, MEGABYTES = 10.0, 2048


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes changed, cut, repeated, dropped or put in."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["set", "flip", "cut", "drop", "insert", "repeat"]))
        at = draw(st.integers(0, max(0, len(found) - 1)))
        span = draw(st.integers(1, 16))
        if kind == "set":
            found[at : at + span] = draw(st.binary(min_size=span, max_size=span))
        elif kind == "flip" and found:
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del found[at:]
        elif kind == "drop":
            del found[at : at + span]
        elif kind == "insert":
            found[at:at] = draw(st.binary(max_size=span))
        else:
            found[at:at] = found[at : at + span]
    return bytes(found)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["../..", "0" * 40, "F32", "model.safetensors", "step1", "hf_secret"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON value, with the words that parsers look for among its texts."""


@st.composite
def altered(draw: st.DrawFn, value: object) -> object:
    """A JSON value with some of its parts replaced by others."""
    if draw(st.integers(0, 6)) == 0:
        return draw(JSON)
    if isinstance(value, dict):
        kept = {k: draw(altered(v)) for k, v in value.items() if draw(st.integers(0, 9))}
        return kept | draw(st.dictionaries(st.text(max_size=6), JSON, max_size=1))
    if isinstance(value, list):
        return [draw(altered(v)) for v in value]
    return value


@contextmanager
def bounded() -> Iterator[None]:
    """Fail if what is inside takes longer than ten seconds, or two gigabytes more."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
