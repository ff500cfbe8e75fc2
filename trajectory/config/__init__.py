"""The config: typed models of ``config.yaml``, one module per section.

The JSON schema in ``workflow/schemas`` is generated from these classes. Values are checked before
any job starts; a mistake is reported as one line per key.
"""

from trajectory.config.alignment import Alignment
from trajectory.config.base import LogSpaced, resolve_steps
from trajectory.config.bb import BigramBackcopy, Variant
from trajectory.config.bb_parts import SGD, AdamH, AdamW, Intervention, Muon, Task
from trajectory.config.dynamics import Dynamics
from trajectory.config.fetch import Fetch
from trajectory.config.forces import Forces
from trajectory.config.forks import Forks
from trajectory.config.layers import Hold
from trajectory.config.nano import NanoExperiment, NanoOlmo
from trajectory.config.probe import Probe
from trajectory.config.reading import RESOLVED_NAME, check_files, load, parse, resolved
from trajectory.config.run import Config
from trajectory.config.suites import Select, Suite, Suites

__all__ = [
    "RESOLVED_NAME",
    "SGD",
    "AdamH",
    "AdamW",
    "Alignment",
    "BigramBackcopy",
    "Config",
    "Dynamics",
    "Fetch",
    "Forces",
    "Forks",
    "Hold",
    "Intervention",
    "LogSpaced",
    "Muon",
    "NanoExperiment",
    "NanoOlmo",
    "Probe",
    "Select",
    "Suite",
    "Suites",
    "Task",
    "Variant",
    "check_files",
    "load",
    "parse",
    "resolve_steps",
    "resolved",
]
