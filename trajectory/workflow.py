"""What the Snakefile needs besides the config."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from trajectory.errors import TrajectoryError
from trajectory.provenance import values_digest

# Of the schemas, which take half a second to import: every job reads the rules anew.
MEASURED = ("heads", "layers", "checkpoints")
BB_MEASUREMENTS = ("bb_types", "bb_residuals", "bb_maps", "bb_interventions", "bb_intervened")
EFFECT_TABLES = ("interventions", "intervention_layers", "head_effects")
FORCE_TABLES = ("forces", "force_means", "force_layers", "arrows")


def refuse(error: TrajectoryError) -> NoReturn:
    """End Snakemake with the mistake's own lines: a traceback through a rules file helps nobody."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def check_configfiles(arguments: Sequence[str]) -> None:
    """End Snakemake if a file behind its ``--configfile`` cannot be read, or is no YAML.

    Snakemake reads these before the rules, and ends in a traceback. The default profile comes
    before both.

    Args:
        arguments: Snakemake's, without its name.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", type=Path, dest="files")
    try:
        files = parser.parse_known_args(arguments)[0].files
    except argparse.ArgumentError:
        return  # Snakemake says what is wrong with them
    if not files:
        return
    from trajectory.config import check_files  # half a second that only these need

    try:
        check_files(files)
    except TrajectoryError as error:
        refuse(error)


def check_scheduler(executor: str | None, patience: float = 20.0) -> None:
    """Raise TrajectoryError if jobs are to go to a Slurm that is not there.

    The executor would wait for an answer without a word.

    Args:
        executor: name of Snakemake's executor; None where there is none.
        patience: seconds to wait for an answer.
    """
    if executor != "slurm":
        return
    otherwise = "run on a login node of the cluster, or here without profiles/slurm"
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        raise TrajectoryError(f"executor slurm: this machine has no sbatch and sinfo; {otherwise}")
    try:
        subprocess.run(["sinfo", "--noheader"], timeout=patience, check=True, capture_output=True)
    except subprocess.TimeoutExpired:
        problem = f"does not answer in {patience:.0f} s"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().split("\n")[0]
        problem = f"answers: {said or f'status {error.returncode}'}"
    else:
        return
    raise TrajectoryError(f"executor slurm: Slurm {problem}; {otherwise}")


def check_storage(provider: str | None) -> None:
    """Raise TrajectoryError if all files of a run are to lie in a storage.

    Jobs read files of others that are not declared: they would fail after hours.

    Args:
        provider: of ``--default-storage-provider``; None where there is none.
    """
    if provider:
        raise TrajectoryError(
            f"--default-storage-provider {provider}: the jobs of a run share its results folder; "
            "leave the option out, and copy finished results to the storage"
        )


def pass_on_handlers(
    workflow: Any, start: Callable[[], None], success: Callable[[], None], error: Callable[[], None]
) -> None:
    """Let a workflow call the handlers of one of its modules.

    Snakemake keeps those of the main Snakefile alone. The catalogue's has none; one that is written
    into it replaces these.

    Args:
        workflow: Snakemake's, while it reads the module.
        start, success, error: called before the first job, and after the last.
    """
    workflow._onstart = lambda log: start()
    workflow._onsuccess = lambda log: success()
    workflow._onerror = lambda log: error()


def last_told(results: Path, rule: str) -> tuple[str, int] | None:
    """What the last job of a rule printed, and when; None if there was none.

    Args:
        results: the run's folder.
        rule: one without wildcards.
    """
    path = results / "logs" / f"{rule}.log"
    if not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="replace"), path.stat().st_mtime_ns


def growing(base: int) -> Callable[[object, int], int]:
    """A resource that doubles with every attempt: a killed job gets more of it."""

    # Snakemake gives arguments by these names.
    def granted(wildcards: object, attempt: int) -> int:
        return base * 2 ** (attempt - 1)

    return granted


def values(section: BaseModel | None, without: set[str] | None = None) -> str:
    """A config section as a parameter: a change of any value left in reruns the rule."""
    kept = section.model_dump(mode="json", exclude=without) if section is not None else None
    return values_digest(kept)


def use_own_commands() -> None:
    """Let the rules' ``trajectory`` be the one installed beside this Python.

    Snakemake may be called by its path, without its virtual environment being activated.
    """
    scripts = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])


def claimed_threads(busy: int, cores: int | None, available: int | None = None) -> int:
    """Threads a job claims of Snakemake's ``--cores`` when it keeps ``busy`` CPUs busy.

    Where ``--cores`` promises more than the machine has, each job claims proportionally more of
    them, so that jobs at once do not outnumber the CPUs.

    Args:
        busy: CPUs the job keeps busy.
        cores: ``--cores``; None where a cluster decides.
        available: CPUs this process may use; found if None.
    """
    if cores is None:
        return busy
    if available is None:
        available = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        )
    return max(busy, -(-busy * cores // max(1, available or 1)))
