"""Whatever status a host answers, a listing, a download and a stream make the same of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.config import parse
from trajectory.config.fetch import Fetch
from trajectory.hub import errors, http
from trajectory.hub.client import Hub
from trajectory.jobs.obtain import obtained

from .server import Fault, StandIn
from .suites import REPOSITORY, add_suite

STEP = "stage1-step10"
# Timeouts, early data, limits of rate, and all that a server or a proxy says of itself.
PASSING = (408, 425, 429, 500, 501, 502, 503, 504, 507, 511, 520, 521, 522, 523, 524, 529)
FINAL = (400, 401, 402, 403, 404, 405, 409, 410, 416, 418, 422, 451)
HOW = ("keep", "stream")


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.1)


def outcome(hub: Hub, folder: Path, weights: str) -> tuple[str, str]:
    """Kind and message of what a checkpoint ends in; "had" if it is there."""
    suites = {"s": {"repository": REPOSITORY, "weights": weights}}
    run = parse({"name": "a", "results": str(folder / weights), "suites": suites})
    row = {"revision": STEP, "commit": hub.refs(REPOSITORY)[STEP]}
    try:
        with obtained(run, "s", row, hub):
            return "had", ""
    except errors.CheckpointError as error:
        return error.kind, str(error)


@pytest.mark.parametrize("status", [*PASSING, *FINAL])
def test_every_status_is_waited_out_by_all_or_by_none(
    standin: StandIn, hub: Hub, tmp_path: Path, status: int
) -> None:
    add_suite(standin, [STEP])
    found = set()
    for weights in HOW:
        standin.faults = [Fault("GET /cdn/.*", status)]
        found.add(outcome(hub, tmp_path, weights))
    assert len(found) == 1, found
    ((kind, message),) = found
    assert (kind == "had") == (status in PASSING), message
    standin.faults = [Fault("GET .*/refs", status)]
    if status in PASSING:
        assert STEP in hub.refs(REPOSITORY)
    else:
        with pytest.raises(errors.CheckpointError):
            hub.refs(REPOSITORY)


@pytest.mark.parametrize("status", [408, 425, 429, 503, 522])
def test_what_does_not_pass_has_one_kind_and_one_message(
    standin: StandIn, hub: Hub, tmp_path: Path, status: int
) -> None:
    add_suite(standin, [STEP])
    found = set()
    for weights in HOW:
        standin.faults = [Fault("GET /cdn/.*", status, times=None)]
        found.add(outcome(hub, tmp_path, weights))
    assert len(found) == 1, found
    assert found.pop()[0] == ("rate_limited" if status == 429 else "hub_broken")


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_named_is_kept(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    add_suite(standin, [STEP])
    for weights in HOW:
        hub = Hub(Fetch(timeout=1.0), standin.endpoint, tmp_path / weights)
        standin.faults = [Fault("GET /cdn/.*", status, {"Retry-After": "7"})]
        slept.clear()
        assert outcome(hub, tmp_path, weights) == ("had", "")
        assert 7.0 in slept
