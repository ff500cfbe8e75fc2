"""Training trajectories of attention sinks, value-state drains and residual-state peaks."""

__version__ = "0.1.0"
