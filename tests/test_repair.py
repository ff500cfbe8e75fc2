"""Every file of a finished run, deleted or damaged: what the same command makes again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from rarely import rarely

from trajectory.checkpoints.pinned import read_unpinned
from trajectory.config import Config, parse
from trajectory.errors import TrajectoryError
from trajectory.repair import SEEN_NAME, Found, look, mend, remember
from trajectory.results import check_results
from trajectory.schemas import BUNDLE, EFFECTS, FORCE_TABLES, HEADS, MEASUREMENTS, TABLES
from trajectory.tables import from_rows, read, write

PARTS = {"measured": MEASUREMENTS, "intervened": EFFECTS, "forces": FORCE_TABLES}
FILES = [
    *(f"tables/{name}.parquet" for name in (*MEASUREMENTS, "claims", "onsets")),
    *("costs.parquet", "batches/s.parquet", "manifests/s.parquet", "complete.txt"),
    *(f"bb/v/seed0/{name}.parquet" for name in ("heads", "bb_maps")),
    *(f"{root}/s/.bundles/step1.parquet" for root in PARTS),
    *(f"{root}/s/step{k}/{t}.parquet" for root, ts in PARTS.items() for t in ts for k in (1, 2)),
    *("report/index.html", "report/data/heads.parquet", "figures/sinks/weight.svg"),
    *("tokenizers/s/tokenizer.json", "suites/nano-olmo/step0/model.safetensors"),
    *("figures/sinks/weight.png", "tokenizers/s/config.json", "suites/nano-olmo/step0/config.json"),
]
WHOLE = {"report": 1, "figures": 1, "tokenizers": 2, "suites": 2}
BESIDE = ("selections/s.tsv", "logs/complete.log", "benchmarks/gather.tsv", "downloads/x.parquet")
FOREIGN = ("mine.parquet", "theirs/heads.parquet", "tables/notes.parquet", "batches/a/b.parquet")


@pytest.fixture(scope="module")
def finished_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a file of every kind."""
    results = tmp_path_factory.mktemp("files") / "results"
    for name in (*FILES, *BESIDE):
        path = results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if ".bundles" in name:
            rows = [
                {"suite": "s", "revision": f"step{k}", "measured": k < 3, "error": None,
                 "reason": None, "key": "x"}
                for k in (1, 2, 3)
            ]  # fmt: skip
            write(from_rows(rows, BUNDLE), BUNDLE, path, {})
        elif path.suffix == ".parquet":
            table = TABLES.get(path.stem, HEADS)
            write(from_rows([], table), table, path, {"about": "x" * 200})
        else:
            path.write_text(name * 9)
    return results


@pytest.fixture
def run(tmp_path: Path, finished_files: Path) -> Config:
    """A run with a file of every kind, as the last run left it."""
    config = parse({"name": "a", "results": str(tmp_path / "r=1"), "bb": {"variants": {"v": {}}}})
    shutil.copytree(finished_files, config.results, dirs_exist_ok=True)
    remember(config)
    return config


def owner(config: Config, name: str) -> set[Path]:
    """What has to be made again where a file of this name cannot be used."""
    parts = Path(name).parts
    if parts[0] in WHOLE:
        return {config.results.joinpath(*parts[: WHOLE[parts[0]]])}
    if parts[0] in PARTS:
        return {config.results / name, config.results / parts[0] / "s/.bundles/step1.parquet"}
    return {config.results / name}


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else os.urandom(len(content)))


@pytest.mark.parametrize("how", rarely(["deleted", "cut", "noise"], ["deleted", "cut"]))
@pytest.mark.parametrize("name", FILES)
def test_what_is_deleted_or_damaged_is_made_again(run: Config, name: str, how: str) -> None:
    path = run.results / name
    damage(path, how)
    found = look(run)
    mend(run, found, trial=True)
    assert path.exists() == (how != "deleted"), "a trial removes nothing"
    mend(run, found)
    gone = owner(run, name)
    assert not any(path.exists() for path in gone), "Snakemake makes what is not there"
    assert set(found.unusable) | {path} == gone | {path}
    for other in (*FILES, *BESIDE):
        there = run.results / other
        assert there.exists() or there in gone or gone & set(there.parents), f"{other} was removed"


def test_what_is_as_it_was_is_not_read_again(run: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("trajectory.repair._unreadable", never)
    monkeypatch.setattr("trajectory.repair._digest", never)
    assert look(run).unusable == {}


@pytest.mark.parametrize("name", [*BESIDE, *FOREIGN])
def test_what_people_edit_and_nobody_reads_is_left_alone(run: Config, name: str) -> None:
    path = run.results / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1 of another kind")
    mend(run, look(run))
    assert path.read_bytes() == b"PAR1 of another kind"


@pytest.mark.parametrize("results", ["..", "../..", "/", "../here"])
def test_a_folder_that_holds_the_run_s_own_is_no_results_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = parse({"name": "a", "results": results, "bb": {"variants": {"v": {}}}})
    with pytest.raises(TrajectoryError, match="^results: .* holds this run's own folder"):
        check_results(config)


def test_a_report_made_by_hand_stays(run: Config) -> None:
    for path in (run.results / "report").rglob("*"):
        if path.is_file():
            path.write_bytes(b"another look")
    assert look(run).unusable == {}


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"report/index.html": 1, "complete.txt": [1, 2]}', "x"]
)
def test_a_note_of_the_last_run_that_is_damaged_is_made_anew(run: Config, text: str) -> None:
    (run.results / SEEN_NAME).write_text(text)
    assert look(run).unusable == {}


def test_nothing_outside_the_results_is_removed(run: Config, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "index.html").write_text("years of work")
    shutil.rmtree(run.results / "report")
    (run.results / "report").symlink_to(thesis)
    with pytest.raises(TrajectoryError, match="leads out of"):
        mend(run, Found({run.results / "report": "is gone"}))
    assert (thesis / "index.html").read_text() == "years of work"


@pytest.mark.parametrize(
    "content",
    [b"", b"suite\tsett", b"suite\tsettings\tkind\treason\ns\t1", b"\xff", b'"' * 200_000],
)
def test_a_torn_table_of_what_is_not_pinned_is_made_again(run: Config, content: bytes) -> None:
    path = run.results / "unpinned.tsv"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=f"^{path}: damaged; delete it and run again$"):
        read_unpinned(run)
    found = look(run)
    assert found.unusable == {path: "it cannot be read"}
    mend(run, found)
    assert not path.exists()
    assert read_unpinned(run) == {}


def test_a_folder_whose_name_has_an_equals_sign_adds_no_column(run: Config) -> None:
    assert read(run.results / "tables/heads.parquet", HEADS).num_rows == 0
