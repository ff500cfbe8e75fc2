from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import Project

HERE = Path(__file__).parent


class Slurm:
    """A Slurm of one node with its queue's commands."""

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def jobs(self, state: str = "all") -> list[str]:
        """Ids of the jobs in a state."""
        return self.ask("squeue", "--noheader", f"--states={state}", "--format=%i").split()

    def comments(self, state: str = "all") -> dict[str, str]:
        """What the executor says of each job in a state: its rule."""
        lines = self.ask("squeue", "--noheader", f"--states={state}", "--format=%i %k")
        return dict(line.split(maxsplit=1) for line in lines.splitlines())

    def lose_node(self) -> None:
        """Take the node down under its jobs, then bring it back."""
        node = f"nodename={self.ask('sinfo', '--noheader', '--format=%n').strip()}"
        self.ask("scontrol", "update", node, "state=down", "reason=test")
        time.sleep(1)
        # It may have come back by itself already, which makes this an error.
        subprocess.run(["scontrol", "update", node, "state=resume"], check=False)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        pytest.skip("no Slurm here; make slurm installs Debian's")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one node needs root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged runs as a user of its own
    done = subprocess.run(
        [HERE / "slurm/start.sh", folder, "8", "32000"], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    try:
        yield Slurm()
    finally:
        subprocess.run(["scancel", "--user=root", "--full"], check=False)
        subprocess.run([HERE / "slurm/stop.sh", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


SUBMITTING = (
    *("--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "4"),
    *("--latency-wait", "5"),
)
"""Ask often, and ask squeue: this Slurm keeps no accounts."""


@pytest.fixture
def submit() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a workflow that submits its jobs to Slurm; what a test leaves running is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(project: Project, *arguments: str, profile: str = "slurm") -> subprocess.Popen[str]:
        options = SUBMITTING if profile == "slurm" else ("--latency-wait", "5")
        process = subprocess.Popen(
            project.submitting("--profile", f"profiles/{profile}", *options, *arguments),
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
