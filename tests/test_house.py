"""The house: who may import whom, and what the command line's start-up may cost."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from project import python_code

from trajectory import provenance
from trajectory.config import LogSpaced, Variant

FREE = {
    "errors",
    "hf_olmo",
    "outside",
    "progress",
    "provenance",
    "sources",
    "rows",
    "__init__",
    "__main__",
    "__version__",
}
MAY_IMPORT = {
    "schemas": set(),
    "tables": {"schemas"},
    "config": set(),
    "workflow": {"config"},
    "terminal": set(),
    "inputs": {"config", "workflow"},
    "reference": {"config", "schemas"},
    "results": {"config", "tables"},
    "corpus": {"tables", "schemas", "config"},
    "hub": {"tables", "config"},
    "checkpoints": {"tables", "schemas", "config", "hub"},
    "probe": {"tables", "schemas", "config", "corpus", "hub"},
    "bb": {"tables", "schemas", "config", "corpus", "probe"},
    "nano": {"tables", "config", "corpus", "checkpoints", "probe"},
    "jobs": {"tables", "schemas", "config", "corpus", "hub", "checkpoints", "probe"},
    "costs": {"config", "checkpoints", "jobs"},
    "arrays": set(),
    "card": {"config", "reference", "schemas"},
    "sharing": {"card", "config", "results", "schemas", "tables"},
    "repair": {"tables", "schemas", "config", "checkpoints"},
    "summary": set(),
    "plot": {"schemas", "dynamics", "report"},
    "api": {"schemas", "corpus", "jobs", "probe", "plot", "summary"},
    "record": {
        *("tables", "schemas", "config", "corpus", "probe", "results", "dynamics"),
    },
    "study": {
        *("tables", "schemas", "config", "corpus", "hub", "checkpoints", "jobs", "probe"),
        *("results", "dynamics", "report"),
    },
    "forensics": {"tables", "config", "hub", "checkpoints", "probe", "report"},
    "doctor": {"config", "corpus", "hub", "checkpoints", "jobs", "api"},
    "dynamics": {"tables", "schemas", "config"},
    "report": {"tables", "schemas", "config", "dynamics"},
}
HEAVY = (
    "torch",
    "transformers",
    "polars",
    "pyarrow",
    "scipy",
    "altair",
    "numpy",
    "huggingface_hub",
)


def rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "trajectory":
                names = [f"trajectory.{alias.name}" for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("trajectory.")}
    return found


def test_rooms_import_only_what_they_may(root: Path) -> None:
    seen = set()
    for path in (root / "trajectory").rglob("*.py"):
        room = path.relative_to(root / "trajectory").parts[0].removesuffix(".py")
        if room in FREE | {"cli"}:
            continue
        seen.add(room)
        allowed = MAY_IMPORT[room] | FREE | {room}
        assert rooms(path) <= allowed, f"{path}: {rooms(path) - allowed}"
    assert seen == set(MAY_IMPORT)


def test_no_rooms_import_each_other() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_what_is_imported_is_named_among_the_dependencies(root: Path) -> None:
    """Not only installed because something else wants it."""
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    packages = {
        *("trajectory", *sys.stdlib_module_names),
        *(re.split(r"[<>=\[]", name)[0].replace("-", "_") for name in declared["dependencies"]),
    }
    modules_of = {"pyyaml": "yaml", "vl_convert_python": "vl_convert"}
    known = {modules_of.get(package, package) for package in packages}
    imported = set()
    for path in (root / "trajectory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    assert {"torch", "polars", "filelock"} <= imported
    optional = {"xarray"}
    assert optional <= {
        re.split(r"[<>=]", n)[0] for n in declared["optional-dependencies"]["arrays"]
    }
    assert imported - known - optional == {"pydantic_core"}, "pydantic fixes its version"


def loaded_after(code: str) -> set[str]:
    probe = f"{code}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split("\n")[-2].split()}


def test_the_command_line_starts_light() -> None:
    loaded = loaded_after(
        "from trajectory import cli\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(cli.app, ['--help']).exit_code == 0"
    )
    assert not loaded & set(HEAVY)


def test_reading_the_workflow_starts_light(root: Path) -> None:
    """Each job reads the rules anew."""
    read = {
        name
        for path in (root / "workflow" / "rules").glob("*.smk")
        for name in re.findall(r"^from (trajectory\S+) import", path.read_text(), flags=re.M)
    }
    assert {"trajectory.config", "trajectory.workflow"} <= read
    assert not loaded_after("\n".join(f"import {name}" for name in read)) & set(HEAVY)


def test_dynamics_and_report_run_without_torch() -> None:
    loaded = loaded_after("import trajectory.dynamics.analyse, trajectory.report.site")
    assert not loaded & {"torch", "transformers"}


def test_every_module_imports(root: Path) -> None:
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "trajectory").rglob("*.py")
    ]
    imports = [f"import {module}" for module in modules]
    code = "\n".join(["import warnings; warnings.simplefilter('error')", *imports])
    subprocess.run(python_code(code), check=True)


def test_code_digests_change_with_code_and_not_with_prose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "trajectory"
    (package / "a" / "data").mkdir(parents=True)
    for name in ("__init__.py", "a/__init__.py"):
        (package / name).touch()
    (package / "a" / "deep.py").write_text("X = 1\n")
    (package / "a" / "data" / "table.json").write_text("1")
    (package / "other.py").write_text("Y = 1\n")
    top = package / "top.py"
    top.write_text('"""Doc."""\ndef f():\n    """Doc."""\n    from trajectory.a import deep\n')
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def digest() -> str:
        provenance.code_digest.cache_clear()
        return provenance.code_digest("trajectory.top")

    before = digest()
    top.write_text(
        '"""Other."""\n# why\ndef f():\n    """X."""\n    from trajectory.a import deep\n'
    )
    (package / "other.py").write_text("Y = 2\n")
    assert digest() == before
    (package / "a" / "deep.py").write_text("X = 2\n")
    after_code = digest()
    assert after_code != before
    (package / "a" / "data" / "table.json").write_text("2")
    assert digest() not in (before, after_code)
    provenance.code_digest.cache_clear()


def test_a_git_that_does_not_answer_costs_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 10)

    monkeypatch.setattr(subprocess, "run", slow)
    provenance.code_commit.cache_clear()
    assert provenance.code_commit() is None
    provenance.code_commit.cache_clear()


def test_what_decides_numbers_is_in_a_digest_or_in_the_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config's own code is in no digest: it may give values to rules, and decide no more."""
    of_values = {
        *("training", "recorded_steps", "checkpoint_steps", "resolve_steps"),
        *("trainings", "embedded"),  # of bb and nano-olmo
        *("of_batches", "of_compute", "of_rows"),  # of the probe and of suites
        *(
            "choose",
            "names",
            "public",
            "suite",
            "variant",
            "bb_trajectories",
            "members",
            "listed",
        ),  # which jobs there are
        "tokens_per_step_of",  # decides a listed row, which is digested
        "label",  # a name
        "held",  # which trajectories are aligned, a parameter of that rule
        "context",  # a limit that nano-olmo states, from its length; no number follows from it
        *("places", "placed", "refuse_holds"),  # of layers that the values name
        *(
            "load",
            "parse",
            "check_files",
            "read_yaml",
            "registered",
            "suggestion",
            "refuse_repeats",
            "refuse_beyond",
            "refuse_missing",
            "follow",
        ),  # reading
        "resolved",  # writing
        "is_recording",  # whether there is anything to run
        *("shipped", "claims_path", "load_claims"),  # files that are inputs of the rule
    }
    found = set()
    for path in (provenance.PACKAGE / "config").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found.add(node.name)
    assert found - of_values == set()

    package = shutil.copytree(provenance.PACKAGE, tmp_path / "trajectory")
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def digest(module: str) -> str:
        provenance.code_digest.cache_clear()
        return provenance.code_digest(module)

    for module, path, old, new in (
        ("trajectory.bb.train", "bb/schedule.py", "rate * left", "rate * left * left"),
        ("trajectory.bb.train", "bb/schedule.py", "round(last", "int(last"),
        ("trajectory.report.site", "report/findings.py", '"softmax", "relu")', '"softmax",)'),
    ):
        before, text = digest(module), (package / path).read_text()
        assert old in text
        (package / path).write_text(text.replace(old, new))
        assert digest(module) != before
    provenance.code_digest.cache_clear()


def test_the_steps_that_a_config_means_are_among_a_training_s_values() -> None:
    spaced = Variant(record=LogSpaced(first=10, count=5), checkpoints=[1000, 0])
    values = spaced.training()
    assert values["record"] == [0, 10, 32, 100, 316, 1000]
    assert values["checkpoints"] == [0, 1000]
    assert Variant(record=[0, 10, 32, 100, 316, 1000], checkpoints=[0, 1000]).training() == values


def test_every_rule_that_computes_is_timed(root: Path) -> None:
    """The report's page of costs knows a job by its benchmark."""
    untimed = set()
    for path in (root / "workflow" / "rules").glob("*.smk"):
        for block in re.split(r"^(?=[ ]*(?:rule|checkpoint) \w+:)", path.read_text(), flags=re.M)[
            1:
        ]:
            if "benchmark:" not in block:
                untimed.add(re.search(r"(?:rule|checkpoint) (\w+):", block)[1])
    after_the_costs = {"costs", "complete"}
    assert untimed == after_the_costs


@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_a_profile_groups_rules_that_there_are(root: Path, profile: str) -> None:
    """Snakemake passes over a name that no rule has, and submits the job alone."""
    rules = "".join(path.read_text() for path in (root / "workflow/rules").glob("*.smk"))
    names = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):", rules, re.M))
    grouped = yaml.safe_load((root / f"profiles/{profile}/profile.yaml").read_text())["groups"]
    assert {"gather", "report"} <= set(grouped) <= names


def test_no_function_is_longer_than_a_screen(root: Path) -> None:
    """Docstrings do not count."""
    long = {
        f"{path.relative_to(root)}: {node.name}": lines
        for path in (root / "trajectory").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := lines_of_code(node)) > 60
    }
    assert not long


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_lines_of_code_are_counted_without_the_docstring() -> None:
    lines = ("def f(", "    x: int,", ") -> int:", '    """One.', "", '    Two."""', "    return x")
    function = ast.parse("\n".join(lines))
    assert lines_of_code(function.body[0]) == 4


def test_no_module_is_longer_than_a_reader_keeps_in_mind(root: Path) -> None:
    long = {
        str(path.relative_to(root)): lines
        for path in (root / "trajectory").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
