"""The steps by which the catalogue of Snakemake workflows deploys this one, without its network.

``snakedeploy deploy-workflow https://github.com/OWNER/NAME DEST --tag TAG`` (0.17.1) copies the
folders ``config`` and ``profiles`` and the license, and writes a Snakefile that uses this workflow
as a module. Git is told that the address is a folder here, so that Snakemake fetches it from there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from project import Project

ADDRESS = "https://github.com/owner/attention-trajectory"
SNAKEFILE = """\
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


# declare https://github.com/owner/attention-trajectory as a module
module attention_trajectory:
    snakefile:
        github("owner/attention-trajectory", path="workflow/Snakefile", tag="v1")
    config:
        config


# use all rules from https://github.com/owner/attention-trajectory
use rule * from attention_trajectory
"""


@dataclass(frozen=True)
class Deployed(Project):
    """A folder of the user's; the package lies elsewhere, as an installed one does."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(self.root)}


@pytest.fixture(scope="module")
def origin(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the catalogue clones: the repository without the package, which is installed."""
    folder = tmp_path_factory.mktemp("origin") / "repository"
    for name in ("config", "profiles", "workflow"):
        shutil.copytree(root / name, folder / name, symlinks=True)
    for name in ("Snakefile", "config.yaml", "LICENSE"):
        shutil.copy(root / name, folder / name)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (("init", "--quiet"), ("add", "."), ("commit", "-qm", "all"), ("tag", "v1")):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def deployed(root: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{origin}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", ADDRESS)
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)  # it would be part of the address
    clone, folder = tmp_path / "clone", tmp_path / "deployed"
    subprocess.run(["git", "clone", "--quiet", ADDRESS, clone], check=True)
    for name in ("config", "profiles"):
        shutil.copytree(clone / name, folder / name)
    (folder / "workflow").mkdir()
    (folder / "workflow/Snakefile").write_text(SNAKEFILE)
    return Deployed(folder, root)


def test_a_deployed_workflow_plans_the_default_run(root: Path, deployed: Project) -> None:
    copied = deployed.folder / "config/config.yaml"
    assert not copied.is_symlink()
    assert copied.read_bytes() == (root / "config.yaml").read_bytes()
    done = deployed.snakemake("--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    planned = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" 1")}
    assert planned >= {"nano_pretrain", "gather", "dynamics", "claims", "report"}
    assert not (deployed.folder / "results").exists()


def test_a_mistake_in_the_deployed_config_names_its_file(deployed: Project) -> None:
    path = deployed.folder / "config/config.yaml"
    path.write_text(path.read_text() + "publsh: true\n")
    done = deployed.snakemake("--dry-run")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: config/config.yaml: publsh: unknown key")


@pytest.mark.slow
def test_a_deployed_workflow_runs(root: Path, deployed: Project) -> None:
    """Snakemake calls no handlers of a module by itself; one claims the results."""
    config = yaml.safe_load((root / "workflow/configs/small.yaml").read_text())
    (deployed.folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    done = deployed.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    results = deployed.folder / config["results"]
    assert json.loads((results / "config.json").read_text())["name"] == config["name"]
    assert (results / "report/index.html").is_file()
    assert f"open {config['results']}/report/index.html" in done.stdout
