"""Learning rates of a training, as a trainer's callbacks see them."""

from __future__ import annotations

from typing import Any


class Rates:
    """The learning rate of the next update, and the sum over those that were taken.

    Attributes:
        next: that of the next update; None if no optimiser is known.
        taken: sum over the updates taken; None if some of them were not seen.
    """

    def __init__(self) -> None:
        self.next: float | None = None
        self.taken: float | None = None

    def begin(self, step: int) -> None:
        """A training starts, or goes on from a step whose updates were not seen."""
        self.taken = 0.0 if step == 0 else None

    def updated(self) -> None:
        """An update was taken, at the rate that was next."""
        if self.taken is not None and self.next is not None:
            self.taken += self.next

    def read(self, optimizer: Any) -> dict[str, float | None]:
        """The rates by the names of ``Recorder``'s arguments, read from a torch optimiser."""
        self.next = None if optimizer is None else float(optimizer.param_groups[0]["lr"])
        taken = None if self.next is None else self.taken
        return {"learning_rate": self.next, "integrated_learning_rate": taken}
