"""Staying below a host's limit of requests, so that a long audit is never refused."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

LIMIT, WINDOW = 500, 300.0
"""Requests per window of seconds that the Hugging Face hub grants without an access token."""

LONGEST = 3600.0
"""Seconds that a window is believed to last: whatever a host says, it is asked again then."""

SHARE = 0.9
"""Share of the limit that one process uses up: others on the machine ask too."""


class Pace:
    """Counts the requests of the last window and says how long to wait before the next one.

    Until the host says otherwise, the limit is that of anonymous visitors.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit, self._window = LIMIT, WINDOW
        self._asked: deque[float] = deque()
        self._free_at = 0.0

    def told(
        self, remaining: int, reset: float, limit: int | None = None, window: float | None = None
    ) -> None:
        """Take in what the host says about the present window."""
        if limit is not None and window is not None:
            self._limit, self._window = limit, min(float(window), LONGEST)
        self._free_at = self._clock() + min(reset, LONGEST) if remaining <= 0 else 0.0

    def asked(self) -> None:
        """Count a request."""
        self._asked.append(self._clock())

    def wait(self) -> float:
        """Seconds until the next request may be made; 0 for now."""
        now = self._clock()
        while self._asked and self._asked[0] <= now - self._window:
            self._asked.popleft()
        allowed = max(1, int(self._limit * SHARE))
        wait = 0.0
        if len(self._asked) >= allowed:
            wait = self._asked[len(self._asked) - allowed] + self._window - now
        return max(0.0, wait, self._free_at - now)
