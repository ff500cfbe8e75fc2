"""The probe inside a training loop: records of a model while it trains, in the tables of a run.

from trajectory.record import Recorder, TrajectoryCallback, log_spaced
"""

from trajectory.record.callback import TrajectoryCallback
from trajectory.record.recorder import Recorder, log_spaced

__all__ = ["Recorder", "TrajectoryCallback", "log_spaced"]
