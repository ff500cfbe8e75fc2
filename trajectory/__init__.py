"""Training trajectories of attention sinks, value-state drains and residual-state peaks."""

__version__ = "0.2.0"
