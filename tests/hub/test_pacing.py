from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trajectory.hub.pacing import SHARE, Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(2, 50),
    st.floats(1, 1000),
    st.lists(st.floats(0, 20), min_size=1, max_size=200),
)
def test_no_window_ever_holds_more_requests_than_allowed(
    limit: int, window: float, pauses: list[float]
) -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.told(limit, window, limit, window)
    made = []
    for pause in pauses:
        clock.now += pause
        clock.now += pace.wait()
        assert pace.wait() < 1e-6
        pace.asked()
        made.append(clock.now)
    for n, at in enumerate(made):
        inside = sum(1 for other in made[: n + 1] if other > at - window + 1e-6)
        assert inside <= max(1, int(limit * SHARE))


def test_a_used_up_window_is_waited_for() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.wait() == 0
    pace.told(remaining=0, reset=55)
    assert pace.wait() == 55
    clock.now += 56
    assert pace.wait() == 0
