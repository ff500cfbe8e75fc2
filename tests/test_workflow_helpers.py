from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import run_command

from trajectory import schemas, workflow
from trajectory.config import parse
from trajectory.errors import TrajectoryError
from trajectory.results import check_results, claim
from trajectory.workflow import (
    check_configfiles,
    check_scheduler,
    check_storage,
    claimed_threads,
    last_told,
)


def test_the_rules_name_the_tables_that_the_schemas_define() -> None:
    assert workflow.MEASURED == schemas.MEASUREMENTS
    assert workflow.BB_MEASUREMENTS == schemas.BB_MEASUREMENTS
    assert workflow.EFFECT_TABLES == schemas.EFFECTS
    assert workflow.FORCE_TABLES == schemas.FORCE_TABLES


@given(st.integers(1, 4), st.integers(1, 64), st.integers(1, 64))
def test_jobs_at_once_never_outnumber_the_cpus(busy: int, cores: int, available: int) -> None:
    claimed = claimed_threads(busy, cores, available)
    assert claimed >= busy
    at_once = cores // claimed
    assert at_once <= 1 or at_once * busy <= available


def test_arguments_without_a_config_file_are_snakemakes() -> None:
    for arguments in ([], ["all", "-n"], ["--configfile"], ["--config", "a=1", "--cores", "2"]):
        check_configfiles(arguments)


def test_what_is_claimed_where() -> None:
    assert claimed_threads(1, 8, 2) == 4, "--cores 8 on 2 CPUs: two jobs at once"
    assert claimed_threads(1, 8, 8) == 1
    assert claimed_threads(1, 2, 8) == 1
    assert claimed_threads(2, None) == 2, "a cluster decides"


def test_a_cluster_s_jobs_claim_what_they_keep_busy(root: Path, tmp_path: Path) -> None:
    """There --cores bounds all jobs together; this machine's CPUs have no part in it."""
    submit = tmp_path / "submit.sh"
    submit.write_text("#!/bin/sh\necho $1 > asked\nexit 1\n")
    submit.chmod(0o755)
    run = run_command(
        "snakemake", "results/small/bb/relu/seed0/heads.parquet",
        "--snakefile", root / "Snakefile", "--profile", root / "profiles/generic",
        "--cores", "999",
        "--configfile", root / "workflow/configs/small.yaml", "--retries", "0",
        "--cluster-generic-submit-cmd", f"{submit} {{threads}}",
        cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "asked").is_file(), run.stderr
    assert (tmp_path / "asked").read_text() == "1\n"


def test_a_results_folder_belongs_to_one_run(tmp_path: Path) -> None:
    def config(name: str) -> object:
        variants = {"variants": {"x": {}}}
        return parse({"name": name, "results": str(tmp_path / "r"), "bb": variants})

    claim(config("a"))  # type: ignore[arg-type]
    claim(config("a"))  # type: ignore[arg-type]
    with pytest.raises(TrajectoryError, match="holds the run 'a'; give 'b' a folder of its own"):
        claim(config("b"))  # type: ignore[arg-type]
    for text in (b'{"na', b"\xff", b"[1]", b"[" * 100_000, b"{}"):
        (tmp_path / "r" / "config.json").write_bytes(text)
        with pytest.raises(TrajectoryError, match="damaged; delete it"):
            check_results(config("a"))  # type: ignore[arg-type]
    (tmp_path / "r" / "config.json").unlink()
    claim(config("a"))  # type: ignore[arg-type]


def test_what_a_job_printed_is_shown_whatever_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/report.log").write_bytes(b"caf\xe9\n")
    told = last_told(tmp_path, "report")
    assert told is not None and told[0] == "caf\ufffd\n"


def test_a_run_is_not_kept_in_a_storage(root: Path, tmp_path: Path) -> None:
    check_storage(None)
    done = run_command(
        "snakemake", "-n", "--snakefile", root / "Snakefile",
        "--configfile", root / "workflow/configs/small.yaml",
        "--default-storage-provider", "s3", "--default-storage-prefix", "s3://runs",
        cwd=tmp_path,
    )  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: --default-storage-provider s3: the jobs of a run share its res")
    assert done.returncode == 2


HOLD = """
import sys
from pathlib import Path
from trajectory.config import parse
from trajectory.errors import TrajectoryError
from trajectory.results import claim

try:
    claim(parse({"name": "a", "results": sys.argv[1], "bb": {"variants": {"x": {}}}}))
except TrajectoryError as error:
    print(error, flush=True)
else:
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_results_folder_is_run_in_by_one_process(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "r")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(process: subprocess.Popen[str]) -> str:
        assert process.stdout
        return process.stdout.readline().strip()

    with start() as first:
        assert says(first) == "held"
        (tmp_path / "r" / ".lock").write_bytes(b"\xff")
        with start() as second:
            assert "another run is at work" in says(second)
        (tmp_path / "r" / ".lock").write_text(f"process {first.pid} on this")
        with start() as second:
            answer = says(second)
            assert f"another run is at work in {tmp_path / 'r'} (process {first.pid} on " in answer
        first.kill()
    with start() as third:
        assert says(third) == "held", "the lock ends with its holder, however it ends"
        third.kill()


def test_a_slurm_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_scheduler("local")
    check_scheduler(None)
    with pytest.raises(TrajectoryError, match="executor slurm: this machine has no sbatch and sin"):
        check_scheduler("slurm")
    (tmp_path / "sbatch").touch(0o755)
    sinfo = tmp_path / "sinfo"
    for script, message in (
        ("/bin/sleep 60", "Slurm does not answer in 0 s; run on a login node"),
        ("echo no controller >&2; exit 1", "Slurm answers: no controller; run on a login node"),
        ("exit 3", "Slurm answers: status 3"),
    ):
        sinfo.write_text(f"#!/bin/sh\n{script}\n")
        sinfo.chmod(0o755)
        with pytest.raises(TrajectoryError, match=message):
            check_scheduler("slurm", patience=0.3)
    sinfo.write_text("#!/bin/sh\necho up\n")
    check_scheduler("slurm")


@pytest.mark.parametrize(
    ("squeue", "sacct", "state"),
    [
        ("echo RUNNING", "exit 1", "running"),
        ("echo COMPLETED", "exit 1", "success"),
        ("echo OUT_OF_MEMORY", "exit 1", "failed"),
        ("", "echo COMPLETED", "success"),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", "", "failed"),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
         "echo Slurm accounting storage is disabled >&2; exit 1", "failed"),
        ("echo slurm_load_jobs error: Socket timed out on send/recv operation >&2; exit 1",
         "echo FAILED", "running"),
        ("", "echo sacct: error: slurmdbd: Connection refused >&2; exit 1", "running"),
        ("", None, "failed"),
    ],
)  # fmt: skip
def test_a_scheduler_that_does_not_answer_has_no_failed_job(
    root: Path, tmp_path: Path, squeue: str, sacct: str | None, state: str
) -> None:
    for name in ("bash", "sh", "mktemp", "rm", "grep"):  # and no Slurm that may be installed
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    for name, script in (("squeue", squeue), ("sacct", sacct)):
        if script is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [root / "profiles/generic/status.sh", "7"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{state}\n"


def test_both_entries_are_one_workflow(root: Path, tmp_path: Path) -> None:
    """The catalogue of workflows looks for workflow/Snakefile."""

    def planned(entry: str) -> dict[str, str]:
        config = root / "workflow/configs/small.yaml"
        given = ("-n", "--snakefile", root / entry, "--configfile", config)
        done = run_command("snakemake", *given, cwd=tmp_path, check=True)
        lines = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M)
        return {name: count for name, count in lines if name not in ("all", "default")}

    plan = planned("Snakefile")
    assert int(plan["total"]) > 20
    assert planned("workflow/Snakefile") == plan
