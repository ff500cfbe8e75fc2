"""Damage as disks, proxies and people do it, and a bound on what reading it may cost."""

from __future__ import annotations

import inspect
import json
import os
import random
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trajectory.errors import TrajectoryError

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
    """Fail if what is inside takes longer than ten seconds, or two gigabytes more than the process
    had when the first input was tried."""
    started = time.monotonic()
    yield
    seconds, now = time.monotonic() - started, peak()
    assert seconds < SECONDS
    assert now - BEFORE < MEGABYTES * 1024
    TRIED["milliseconds"] = max(TRIED["milliseconds"], round(1000 * seconds))


def peak() -> int:
    """Most kilobytes that this process had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def quietly(read: Callable[[], Any]) -> Any:
    """What is read, or None where a typed error of one line says why not."""
    with bounded():
        try:
            return read()
        except TrajectoryError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            str(error).encode()
            return None


def say_what_was_tried() -> None:
    """Append to the file of ``TRAJECTORY_FUZZ_LOG`` what was tried since the last time, as JSON."""
    if path := os.environ.get("TRAJECTORY_FUZZ_LOG"):
        told = {**TRIED, "megabytes": (peak() - BEFORE) // 1024}
        with Path(path).open("a") as handle:
            handle.write(json.dumps(told) + "\n")
    TRIED.update(inputs=0, milliseconds=0)


MANY = int(os.environ.get("TRAJECTORY_FUZZ", "25"))
"""Inputs of each test."""

THOUSANDS = 1000
"""Inputs from which on hypothesis draws them from random bytes: two to three times as fast as its
own search, which finds the first failures sooner and shrinks them."""

TRIED = {"inputs": 0, "milliseconds": 0}
"""Inputs that a test tried, and the longest time that one took."""

BEFORE = peak()

many = settings(
    max_examples=MANY,
    deadline=None,  # a bound of time is among what is asserted
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def tried(*strategies: st.SearchStrategy) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of what the strategies draw, given to its last parameters, ``MANY`` times."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        if MANY < THOUSANDS:
            return many(given(*strategies)(test))
        return _of_random_bytes(test, strategies)

    return decorate


def _of_random_bytes(
    test: Callable[..., None], strategies: tuple[st.SearchStrategy, ...]
) -> Callable[..., None]:
    parameters = [*inspect.signature(test).parameters.values()]
    fixtures, drawn = parameters[: -len(strategies)], parameters[-len(strategies) :]

    def run(**given_: object) -> None:
        def one(*values: object) -> None:
            test(**given_, **dict(zip(names, values, strict=True)))

        names = [parameter.name for parameter in drawn]
        one.__signature__ = inspect.Signature(drawn)  # type: ignore[attr-defined]
        read = many(given(*strategies)(one)).hypothesis
        source = random.Random(zlib.crc32(test.__name__.encode()))
        inputs = 0
        while inputs < MANY:
            size = source.choice([256, 1024, 4096])
            inputs += read.fuzz_one_input(source.randbytes(size)) is not None  # else too short
        TRIED["inputs"] += inputs

    run.__signature__ = inspect.Signature(fixtures)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
