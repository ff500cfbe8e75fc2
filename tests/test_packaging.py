"""What is published: a source distribution, the wheel made of it, an environment and an image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from trajectory import __version__

DISTRIBUTION = f"attention_trajectory-{__version__}"
MIN_PYTHON = "3.11"
OWN = ("__pycache__", ".*", "results", "site", "build", "*.egg-info")
"""What a checkout has beside the repository's files."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command that knows nothing of the checkout, and give what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "VIRTUAL"))}
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    work = tmp_path_factory.mktemp("source")
    shutil.copytree(root, work / "checkout", ignore=shutil.ignore_patterns(*OWN))
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, work, cwd=work / "checkout")
    with tarfile.open(work / f"{DISTRIBUTION}.tar.gz") as archive:
        archive.extractall(work, filter="data")
    return work / DISTRIBUTION


def test_the_source_distribution_is_the_repository(root: Path, unpacked: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    tracked = {Path(name) for name in listed.stdout.split("\0") if name and (root / name).exists()}
    own = {path for path in tracked if path.parts[0].startswith(".")}
    packed = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert tracked - own - packed == set()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_in_an_empty_environment_makes_a_run(unpacked: Path, tmp_path: Path) -> None:
    """Its dependencies are those that it names, its data files are in it, no checkout is near."""
    environment, wheels, work = (tmp_path / name for name in ("environment", "wheels", "work"))
    venv.create(environment, with_pip=True)
    scripts = environment / "bin"
    pip = (scripts / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, unpacked, cwd=tmp_path)
    (wheel,) = wheels.iterdir()
    run(
        *(*pip, "install", "--quiet", "--constraint", unpacked / "constraints.txt", wheel),
        cwd=tmp_path,
    )
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {
            *("trajectory", f"{DISTRIBUTION}.dist-info"),
        }
    run(*pip, "check", cwd=tmp_path)

    shutil.rmtree(unpacked / "trajectory")  # what runs is the wheel's
    work.mkdir()
    assert run(scripts / "trajectory", "--version", cwd=work) == f"{__version__}\n"
    assert "olmo2-1b" in run(scripts / "trajectory", "suites", "list", cwd=work)
    made = run(
        *(scripts / "snakemake", "--cores", "2", "all", "--snakefile", unpacked / "Snakefile"),
        *("--configfile", unpacked / "workflow/configs/small.yaml"),
        cwd=work,
        OMP_NUM_THREADS="1",
    )
    assert "open results/small/report/index.html" in made
    assert (work / "results/small/report/index.html").is_file()


def test_the_image_holds_what_a_run_needs(root: Path) -> None:
    """The recipe copies the checkout; nothing that a run reads may be kept out of it."""
    recipe = (root / "Dockerfile").read_text()
    assert f"python:{MIN_PYTHON}-slim" in recipe
    kept_out = [line.strip("*/") for line in (root / ".dockerignore").read_text().split()]
    for needed in ("Snakefile", "config.yaml", "workflow", "profiles", "trajectory", "README.md"):
        assert (root / needed).exists()
        assert needed not in kept_out
    removed = recipe.partition("rm -r ")[2].split("\n")[0].split()
    assert removed == ["trajectory", "build"], "what is imported is what was installed"


def test_the_conda_environment_is_the_pinned_one(root: Path) -> None:
    environment = yaml.safe_load((root / "environment.yaml").read_text())
    python, _, requirements = environment["dependencies"]
    assert python == f"python={MIN_PYTHON}"
    assert requirements["pip"] == ["--constraint constraints.txt", "--editable .[cluster]"]
