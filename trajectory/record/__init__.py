"""The probe inside a training loop: records of a model while it trains, in the tables of a run.

from trajectory.record import LightningCallback, Recorder, TrajectoryCallback, log_spaced
"""

from typing import TYPE_CHECKING, Any

from trajectory.record.callback import TrajectoryCallback
from trajectory.record.recorder import Recorder, log_spaced

if TYPE_CHECKING:
    from trajectory.record.lightning import LightningHooks as LightningCallback

__all__ = ["LightningCallback", "Recorder", "TrajectoryCallback", "log_spaced"]


def __getattr__(name: str) -> Any:
    if name != "LightningCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trajectory.record.lightning import callback_class

    return callback_class()
