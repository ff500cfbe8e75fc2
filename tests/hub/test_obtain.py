"""A checkpoint at hand: downloaded, kept, streamed, local; bounded on disk, and gone afterwards."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trajectory.config import Config, parse
from trajectory.config.fetch import Fetch
from trajectory.corpus.tokens import TokenBatch
from trajectory.errors import TrajectoryError, UnusableFolder
from trajectory.hub import errors
from trajectory.hub.client import Hub
from trajectory.hub.download import fetch_files
from trajectory.hub.store import Store, folder_size
from trajectory.jobs.measure import measure_checkpoint
from trajectory.jobs.obtain import obtained, store_of

from .server import Content, Fault, StandIn
from .suites import REPOSITORY, add_suite

STEP = "stage1-step10"


def config(folder: Path, fetch: dict[str, object] | None = None, **suite: object) -> Config:
    values = {"repository": REPOSITORY, **suite}
    limits = {"timeout": 1.0, "patience": 1.0, **(fetch or {})}
    return parse(
        {"name": "a", "results": str(folder / "r"), "suites": {"s": values}, "fetch": limits}
    )


def row(hub: Hub, branch: str = STEP) -> dict:
    commit = hub.refs(REPOSITORY)[branch]
    return {"suite": "s", "revision": branch, "commit": commit, "trajectory": "s", "step": 10,
            "tokens": None, "verdict": "good"}  # fmt: skip


def batch() -> list[TokenBatch]:
    tokens = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(0))
    texts = [[str(t) for t in line] for line in tokens.tolist()]
    return [TokenBatch("x", tokens, texts, "raw")]


@pytest.mark.parametrize(("dtype", "sharded"), [("float32", False), ("bfloat16", True)])
def test_downloaded_streamed_and_local_are_the_same_numbers(
    standin: StandIn, hub: Hub, tmp_path: Path, dtype: str, sharded: bool
) -> None:
    branches = add_suite(standin, [STEP], dtype=dtype, sharded=sharded)
    local = tmp_path / "local"
    local.mkdir()
    for path, content in branches[STEP].items():
        (local / path).write_bytes(content.data)
    listed = row(hub)
    wanted, _ = measure_checkpoint(listed, local, batch())
    for weights in ("download", "stream"):
        run = config(tmp_path, weights=weights)
        with obtained(run, "s", listed, hub) as found:
            rows, _ = measure_checkpoint(listed, found.folder, batch(), found.weights)
            assert (found.weights is None) == (weights == "download")
        assert rows["heads"] == wanted["heads"]
        assert rows["layers"] == wanted["layers"]
        assert rows["checkpoints"][0]["loss"] == wanted["checkpoints"][0]["loss"]
        assert not found.folder.exists(), "nothing is left"


def test_a_stream_moves_what_is_needed_and_writes_nothing(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    add_suite(standin, [STEP], hidden_size=256)
    listed = row(hub)
    run = config(tmp_path, weights="stream", loss=False)
    with obtained(run, "s", listed, hub) as found:
        assert found.weights is not None
        layers = [n for n in found.weights.names() if "embed" not in n and "lm_head" not in n]
        needed = 4 * sum(torch.Size(found.weights.shape(n)).numel() for n in layers)
        standin.sent = 0
        measure_checkpoint(listed, found.folder, batch(), found.weights, losses=False)
    ids = len(batch()[0].tokens.unique())
    assert standin.sent <= 1.05 * (needed + 4 * 256 * ids) + 4 * 256 * 64, "not the read-out"
    head = 4 * 256 * 64
    assert standin.sent < needed + 2 * head
    assert not (tmp_path / "r").exists()


def test_what_is_kept_is_asked_for_once(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    add_suite(standin, [STEP], sharded=True)
    listed = row(hub)
    run = config(tmp_path, weights="keep", fetch={"disk": 1000})
    with obtained(run, "s", listed, hub) as found:
        folder = found.folder
    standin.asked.clear()
    with obtained(run, "s", listed, hub) as found:
        assert found.folder == folder
        assert (folder / "config.json").is_file()
    assert not standin.asked
    assert store_of(run).sweep() == []
    assert folder.is_dir()


def test_a_corrupt_index_and_pickles_are_refused(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP], sharded=True)
    index = b'{"weight_map": {"a": "model-00009-of-00009.safetensors"}}'
    branches[STEP] = {**branches[STEP], "model.safetensors.index.json": Content(index)}
    with pytest.raises(errors.CorruptCheckpoint, match="and the shards disagree"):
        with obtained(config(tmp_path), "s", row(hub), hub):
            raise AssertionError
    branches[STEP] = {"config.json": branches[STEP]["config.json"],
                      "pytorch_model.bin": Content(b"\x80")}  # fmt: skip
    with pytest.raises(errors.PickleOnly, match="never loaded because loading runs code"):
        with obtained(config(tmp_path), "s", row(hub), hub):
            raise AssertionError
    assert not list((tmp_path / "r").rglob("*.safetensors*"))


def test_streams_fail_with_the_same_kinds(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    add_suite(standin, [STEP])
    listed = row(hub)
    run = config(tmp_path, weights="stream")
    standin.faults = [Fault("GET /cdn/", 404, times=None)]
    with pytest.raises(errors.UnknownFile, match=f"suite 's', revision '{STEP}'"):
        with obtained(run, "s", listed, hub):
            raise AssertionError
    zipped = {"Content-Range": "bytes 0-7/89688", "Content-Encoding": "gzip"}
    standin.faults = [Fault("GET /cdn/", 206, zipped, times=None)]
    with pytest.raises(errors.CheckpointError, match=r"not the bytes that were asked for \(gzip\)"):
        with obtained(run, "s", listed, hub):
            raise AssertionError
    standin.faults = []
    whole = standin.repositories[REPOSITORY][STEP]["model.safetensors"]
    whole.served = whole.data + b"x"
    with pytest.raises(errors.Truncated, match="89,688 bytes by its listing, but the hub serves"):
        with obtained(run, "s", listed, hub):
            raise AssertionError


@pytest.mark.parametrize("weights", ["stream", "download"])
def test_a_busy_hub_is_waited_for_as_long_as_patience_lasts(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    add_suite(standin, [STEP])
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    patient = Hub(Fetch(timeout=1.0, patience=300.0), standin.endpoint, tmp_path / "cache")
    listed = row(patient)
    standin.faults = [Fault("GET /cdn/.*safetensors", 503, times=8)]
    run = config(tmp_path, {"patience": 300.0}, weights=weights)
    with obtained(run, "s", listed, patient):
        pass
    assert sum(slept) > 60, "longer and longer, by nobody's count of attempts"


@pytest.mark.parametrize("weights", ["stream", "download"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"\xff" * 8 + data[8:], "model.safetensors"),
        (lambda data: data.replace(b'"F32"', b'"F99"', 1), "model.safetensors"),
        (lambda data: data.replace(b"[64,32]", b"[64,31]", 1), "model.safetensors"),
        (lambda data: data.replace(b"model.norm.", b"model.form.", 1), "model.norm.weight"),
    ],
    ids=["length", "type", "shape", "name"],
)  # fmt: skip
def test_a_corrupt_shard_is_that_and_nothing_else(
    standin: StandIn,
    hub: Hub,
    tmp_path: Path,
    weights: str,
    damage: Callable[[bytes], bytes],
    reason: str,
) -> None:
    """Published so: the hash is that of the damaged file."""
    branches = add_suite(standin, [STEP])
    whole = branches[STEP]["model.safetensors"].data
    damaged = damage(whole)
    assert damaged != whole
    branches[STEP] = {**branches[STEP], "model.safetensors": Content(damaged, large=True)}
    listed = row(hub)
    with pytest.raises(errors.CorruptCheckpoint) as caught:
        with obtained(config(tmp_path, weights=weights), "s", listed, hub) as found:
            measure_checkpoint(listed, found.folder, batch(), found.weights)
    message = str(caught.value)
    assert message.startswith(f"suite 's', revision '{STEP}': ")
    assert message.count(f"revision '{STEP}'") == 1
    assert reason in message
    assert str(tmp_path) not in message


def test_a_job_that_is_asked_to_end_does_so_at_once_and_is_resumed(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    add_suite(standin, [STEP], hidden_size=256)
    listed, run = row(hub), config(tmp_path)

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGALRM, end)
    standin.rate = 400_000
    begun = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(SystemExit):
            with obtained(run, "s", listed, hub):
                raise AssertionError
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < 4, "all of it takes longer"
    store = store_of(run).root
    (partial,) = store.rglob("*.partial")
    there = partial.stat().st_size
    assert there > 0
    standin.rate, standin.sent = None, 0
    with obtained(run, "s", listed, hub) as found:
        rest = (found.folder / "model.safetensors").stat().st_size - there
        # The connection that was cut may still count a block or two of its own.
        assert rest <= standin.sent < rest + there, "what was there is not sent again"
    assert not list(store.rglob("*.safetensors*"))


def test_more_than_the_bound_or_the_disk_is_refused_before_it_is_fetched(
    standin: StandIn, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_suite(standin, [STEP])
    listed = row(hub)
    with pytest.raises(errors.DiskFull, match=r"more than fetch\.disk allows \(50,000\)"):
        with obtained(config(tmp_path, fetch={"disk": 50_000}), "s", listed, hub):
            raise AssertionError
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(errors.DiskFull, match="1,000 are free"):
        with obtained(config(tmp_path), "s", listed, hub):
            raise AssertionError
    assert standin.count("GET /cdn") == 0


def test_scratch_that_is_not_there_is_named_with_its_node(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    add_suite(standin, [STEP])
    listed = row(hub)
    (tmp_path / "file").touch()
    for folder, reason in (
        ("/proc/scratch", "/proc/scratch cannot be written on .+ "),
        (str(tmp_path / "file" / "x"), r"x cannot be written on .+ \(Not a directory\)"),
        ("~no-such-user/x", r"~no-such-user/x: ~no-such-user is not set on "),
        ("/scratch/$NO_SUCH_JOB/x", r"/scratch/\$NO_SUCH_JOB/x: \$NO_SUCH_JOB is not set on "),
    ):
        with pytest.raises(UnusableFolder, match=f"fetch.folder: .*{reason}"):
            with obtained(config(tmp_path, fetch={"folder": folder}), "s", listed, hub):
                raise AssertionError
    assert standin.count("GET /cdn") == 0


def test_a_home_folder_is_meant_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Store(Path("~/weights"), None).root == Path("/home/me/weights")


def test_what_else_lies_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis" / "chapter").mkdir(parents=True)
    (tmp_path / "thesis" / "chapter" / "text").write_bytes(b"x" * 300)
    (tmp_path / "s" / "mine").mkdir(parents=True)
    store = Store(tmp_path, bound=250)
    assert store.sweep() == []
    with store.room("s/one", 200, False, "x") as folder:
        (folder / "weights").write_bytes(b"x" * 200)
    assert store.sweep() == []
    assert (tmp_path / "thesis" / "chapter" / "text").is_file()
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mine"]


def foreign(folder: Path) -> Path:
    """A folder of somebody else's, with a file in it."""
    (folder / "thesis").mkdir(parents=True)
    (folder / "thesis" / "chapter").write_text("years of work")
    return folder / "thesis" / "chapter"


@pytest.mark.parametrize("commit", [f"{'0' * 40}#/../../thesis", "../../thesis", "..", "", "/etc"])
@pytest.mark.parametrize("weights", ["download", "keep", "stream"])
def test_a_commit_that_is_a_path_deletes_and_writes_nothing(
    standin: StandIn, hub: Hub, tmp_path: Path, commit: str, weights: str
) -> None:
    add_suite(standin, [STEP])
    chapter = foreign(tmp_path / "r")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrajectoryError, match="no commit of a repository|leads out of"):
        listed = row(hub) | {"commit": commit}
        with obtained(config(tmp_path, weights=weights), "s", listed, hub):
            raise AssertionError
    assert chapter.read_text() == "years of work"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["s/../../thesis", "../thesis", "s/..", "s/linked"])
def test_a_store_deletes_nothing_outside_its_root(tmp_path: Path, name: str) -> None:
    chapter = foreign(tmp_path)
    store = Store(tmp_path / "d", None)
    (store.root / "s").mkdir(parents=True)
    (store.root / "s" / "linked").symlink_to(tmp_path / "thesis")
    with pytest.raises(TrajectoryError, match="leads out of"):
        with store.room(name, 10, False, "x"):
            raise AssertionError
    locks = store.root / ".locks"
    locks.mkdir(exist_ok=True)
    for lock in ("..--thesis", "s--linked"):
        (locks / f"{lock}.lock").touch()
    assert store.sweep() == []
    assert chapter.read_text() == "years of work"


def test_a_listed_file_is_written_below_its_folder_only(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP])
    branches[STEP]["../../stolen"] = Content(b"x" * 10)
    commit = hub.refs(REPOSITORY)[STEP]
    listed = [f for f in hub.files(REPOSITORY, commit, STEP) if f.path == "../../stolen"]
    with pytest.raises(TrajectoryError, match="leads out of"):
        fetch_files(hub, REPOSITORY, commit, listed, tmp_path / "a" / "b", STEP)
    assert not (tmp_path / "stolen").exists()


def test_room_is_counted_while_others_delete(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"x" * 100)
    ended = threading.Event()

    def make_and_delete() -> None:
        while not ended.is_set():
            for n in range(20):
                (tmp_path / str(n) / "deep").mkdir(parents=True)
                (tmp_path / str(n) / "deep" / "file").touch()
            for n in range(20):
                shutil.rmtree(tmp_path / str(n))

    other = threading.Thread(target=make_and_delete)
    other.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert folder_size(tmp_path) == 100
    finally:
        ended.set()
        other.join()


def test_jobs_wait_for_room_and_the_bound_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "d", bound=250)
    most, now, lock = 0, 0, threading.Lock()

    def job(n: int) -> None:
        nonlocal most, now
        with store.room(f"s/{n}", 100, False, f"job {n}") as folder:
            with lock:
                now += 100
                most = max(most, now)
            (folder / "x").write_bytes(b"x" * 100)
            time.sleep(0.2)
            with lock:
                now -= 100

    jobs = [threading.Thread(target=job, args=(n,)) for n in range(5)]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join(30)
    assert 100 <= most <= 200
    assert not [p for p in store.root.rglob("*") if p.is_file() and ".locks" not in p.parts]


def test_what_a_killed_job_left_is_cleared_for_others_and_swept(tmp_path: Path) -> None:
    store = Store(tmp_path / "d", bound=250)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom trajectory.hub.store import Store\n"
        "with Store(Path(sys.argv[1]), 250).room('s/dead', 200, False, 'x') as folder:\n"
        "    (folder / 'a').write_bytes(b'x' * 200)\n    os.kill(os.getpid(), 9)\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert (store.root / "s/dead/a").is_file()
    with store.room("s/other", 200, False, "x"):
        assert not (store.root / "s/dead").exists(), "cleared to keep the bound"
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    assert [p.name for p in store.sweep()] == ["dead"]
    with pytest.raises(TrajectoryError):
        with store.room("s/big", 300, False, "x"):
            raise AssertionError
