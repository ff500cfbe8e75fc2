"""The probe inside a training loop: records of a model while it trains, in the tables of a run.

from trajectory.record import LightningCallback, Recorder, TrajectoryCallback, log_spaced
"""

from typing import TYPE_CHECKING, Any

from trajectory.record.steps import log_spaced

if TYPE_CHECKING:
    from trajectory.record.callback import TrajectoryCallback
    from trajectory.record.lightning import LightningHooks as LightningCallback
    from trajectory.record.recorder import Recorder

__all__ = ["LightningCallback", "Recorder", "TrajectoryCallback", "log_spaced"]


def __getattr__(name: str) -> Any:
    """What needs torch, transformers or Lightning comes when it is asked for."""
    if name == "Recorder":
        from trajectory.record.recorder import Recorder

        return Recorder
    if name == "TrajectoryCallback":
        from trajectory.record.callback import TrajectoryCallback

        return TrajectoryCallback
    if name == "LightningCallback":
        from trajectory.record.lightning import callback_class

        return callback_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
