"""A run as one folder for others, read back from disk and from a hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from hub.server import Content, StandIn, serving
from typer.testing import CliRunner

from trajectory import cli
from trajectory.config import RESOLVED_NAME, Config, load, resolved
from trajectory.errors import TrajectoryError
from trajectory.schemas import TABLES
from trajectory.sharing import share
from trajectory.tables import scan


@pytest.fixture(scope="module")
def ran(
    results: Path, config: Config, site: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The synthetic run as the workflow leaves it: with its config and the report."""
    folder = tmp_path_factory.mktemp("ran") / "results"
    shutil.copytree(results, folder)
    (folder / RESOLVED_NAME).write_text(resolved(config))
    (folder / "report").mkdir()
    shutil.copyfile(site / "index.html", folder / "report" / "index.html")
    return folder


@pytest.fixture(scope="module")
def given(ran: Path) -> Path:
    """The same as others get it."""
    to = ran.parent / "run"
    share(ran, to, licence="CC-BY-4.0")
    return to


def test_the_card_says_what_lies_beside_it(given: Path, ran: Path) -> None:
    _, front, text = (given / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "cc-by-4.0"
    told = {one["config_name"]: one["data_files"] for one in facts["configs"]}
    lying = {path.stem: path.relative_to(given).as_posix() for path in given.glob("tables/*")}
    assert told == lying and len(told) > 10
    assert [one["config_name"] for one in facts["configs"] if one.get("default")] == ["heads"]
    for name, path in told.items():
        original = pl.read_parquet(ran / "tables" / f"{name}.parquet")
        assert pl.read_parquet(given / path).equals(original)
        assert f"| [`{name}`](#{name}) | {original.height:,} |" in text
        for field in TABLES[name].fields:
            assert f"| `{field.name}` | {field.type}{', may be empty' * field.nullable} |" in text
    assert "`nano-olmo` | trained by this run" in text and "under CC-BY-4.0" in text
    assert "guo2024activedormant" in text


def test_the_card_s_python_runs(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(given.parent)
    name = json.loads((given / RESOLVED_NAME).read_text())["name"]
    given.parent.joinpath(name).symlink_to(given)
    whole, polars = re.findall(r"```python\n(.*?)```", (given / "README.md").read_text(), re.S)
    exec(whole, {})
    monkeypatch.chdir(given)
    exec(polars, {})


def test_the_card_s_sql_gives_what_polars_does(
    given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    monkeypatch.chdir(given)
    (query,) = re.findall(r"```sql\n(.*?)```", (given / "README.md").read_text(), re.S)
    own = scan(given, "heads").group_by("trajectory", "step").agg(pl.col("sink_excess").max())
    assert duckdb.sql(query).fetchall() == own.sort("trajectory", "step").collect().rows()


def read_from_hub(hub: StandIn, cache: Path, *addresses: str, offline: bool = False) -> list[str]:
    """What a fresh process reads of the heads behind each address."""
    code = (
        "import sys\nfrom trajectory.tables import scan\nfrom trajectory.errors import *\n"
        "for address in sys.argv[1:]:\n"
        "    try: print(scan(address, 'heads').collect().height)\n"
        "    except TrajectoryError as error: print(error)"
    )
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1" if offline else "", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *addresses],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_shared_run_is_read_from_the_hub(given: Path, tmp_path: Path) -> None:
    files = {
        path.relative_to(given).as_posix(): Content(path.read_bytes())
        for path in given.rglob("*.parquet")
    }
    with serving(StandIn()) as hub:
        hub.repositories["me/run"] = {
            "main": files, "v2": {f"deep/{path}": content for path, content in files.items()},
            "bare": {"README.md": Content(b"nothing")},
        }  # fmt: skip
        address = "hf://datasets/me/run"
        found = read_from_hub(
            hub, tmp_path, address, f"{address}@v2/deep", f"{address}@bare", "hf://datasets/me/nix",
            "hf://models/me/run",
        )  # fmt: skip
        again = read_from_hub(hub, tmp_path, address, offline=True)
    height = str(scan(given, "heads").collect().height)
    assert found[:2] == [height, height] and again == [height]
    assert found[2] == f"{address}@bare: has no tables/heads.parquet"
    assert found[3].startswith("hf://datasets/me/nix: cannot be read (")
    assert found[4].startswith(
        "hf://models/me/run: not a data set's address; write hf://datasets/<owner>/"
    )
    assert len(found) == 5, "a line each"


def test_the_command_says_what_to_do_next(ran: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        cli.app, ["export", str(tmp_path / "x"), "--results", str(ran), "--no-report"]
    )
    assert told.exit_code == 0, told.output
    assert not (tmp_path / "x" / "report").exists()
    assert "no licence is stated; name one with --licence" in told.output
    path = load(ran / RESOLVED_NAME).results
    assert f"config.json contains the path {path}" in told.output.replace("\n", "")


def test_every_file_that_names_a_folder_of_this_machine_is_told(ran: Path, tmp_path: Path) -> None:
    """The report holds the config too, and a path may have spaces."""
    own = tmp_path / "results"
    shutil.copytree(ran, own)
    config = json.loads((own / RESOLVED_NAME).read_text())
    config["probe"]["texts"] = {"mine": "/home/some body/texts.txt"}
    (own / RESOLVED_NAME).write_text(json.dumps(config))
    (own / "report" / "data").mkdir(exist_ok=True)
    (own / "report" / "data" / RESOLVED_NAME).write_text(json.dumps(config))
    private = share(own, tmp_path / "to").private
    files = {file for file, path in private if path == "/home/some body/texts.txt"}
    assert files == {RESOLVED_NAME, f"report/data/{RESOLVED_NAME}"}


def test_mistakes_are_refused_before_anything_is_written(ran: Path, tmp_path: Path) -> None:
    share(ran, tmp_path / "x", report=False)
    with pytest.raises(TrajectoryError, match="x: already exists; name a new or empty folder"):
        share(ran, tmp_path / "x")
    with pytest.raises(TrajectoryError, match="is inside .*; name a folder outside the results"):
        share(ran, ran / "x")
    with pytest.raises(TrajectoryError, match="--licence: 'a b' is not a licence identifier"):
        share(ran, tmp_path / "y", licence="a b")
    with pytest.raises(TrajectoryError, match="no run's results"):
        share(tmp_path, tmp_path / "y" / "z")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]
