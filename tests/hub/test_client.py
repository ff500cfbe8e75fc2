"""The real huggingface_hub client against the stand-in: content, or a typed error."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from trajectory.config.fetch import Fetch
from trajectory.errors import without_secrets
from trajectory.hub import errors
from trajectory.hub.client import Hub
from trajectory.hub.content import File
from trajectory.hub.download import fetch_files

from .server import Content, Fault, StandIn
from .suites import REPOSITORY, add_suite

STEP = "stage1-step10"


def only(hub: Hub, branch: str, path: str) -> tuple[str, File]:
    commit = hub.refs(REPOSITORY)[branch]
    return commit, next(f for f in hub.files(REPOSITORY, commit, branch) if f.path == path)


def test_the_plain_client_works_with_the_stand_in(standin: StandIn, tmp_path: Path) -> None:
    branches = add_suite(standin, [STEP], sharded=True)
    api = HfApi(endpoint=standin.endpoint)
    refs = api.list_repo_refs(REPOSITORY)
    assert [b.name for b in refs.branches] == ["main", STEP]
    assert api.model_info(REPOSITORY, revision=STEP).sha == refs.branches[1].target_commit
    folder = snapshot_download(
        REPOSITORY, revision=STEP, endpoint=standin.endpoint, cache_dir=tmp_path
    )
    for path, content in branches[STEP].items():
        assert (Path(folder) / path).read_bytes() == content.data
    checked = api.verify_repo_checksums(REPOSITORY, revision=STEP, cache_dir=tmp_path)
    assert not checked.mismatches
    assert not checked.missing_paths
    metadata = api.get_safetensors_metadata(REPOSITORY, revision=STEP)
    assert metadata.sharded
    standin.faults = [Fault("GET .*/refs", 429)]
    with pytest.raises(HfHubHTTPError, match="429"):
        api.list_repo_refs(REPOSITORY)
    standin.faults = [Fault("GET /cdn/.*00001", drop_after=1000)]
    standin.repositories["org/other"] = branches
    again = hf_hub_download(
        "org/other",
        "model-00001-of-00002.safetensors",
        revision=STEP,
        endpoint=standin.endpoint,
        local_dir=tmp_path / "again",
    )
    assert Path(again).read_bytes() == branches[STEP]["model-00001-of-00002.safetensors"].data


def test_listing_is_one_request_and_files_are_remembered(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP], sharded=True)
    refs = hub.refs(REPOSITORY)
    assert refs == {b: standin.commit(REPOSITORY, b) for b in branches}
    assert len(standin.asked) == 1
    listed = hub.files(REPOSITORY, refs[STEP], STEP)
    assert {f.path: f.size for f in listed} == {p: len(c.data) for p, c in branches[STEP].items()}
    assert {f.digest.split(":")[0] for f in listed} == {"sha256", "git"}
    before = len(standin.asked)
    other = Hub(hub.fetch, standin.endpoint, tmp_path / "cache")
    assert other.files(REPOSITORY, refs[STEP], STEP) == listed
    assert len(standin.asked) == before, "a commit never changes: it is listed once"


def test_a_long_listing_comes_in_pages_and_a_silent_hub_is_given_up(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP], sharded=True)
    commit = hub.refs(REPOSITORY)[STEP]
    standin.page = 3
    listed = hub.files(REPOSITORY, commit, STEP)
    assert [f.path for f in listed] == list(branches[STEP])
    assert standin.count("GET .*/tree/") == -(-len(listed) // 3) > 1
    standin.faults = [Fault("GET .*/tree/", delay=9, times=None)]
    started = time.monotonic()
    with pytest.raises(errors.Unreachable, match="does not answer in time"):
        Hub(hub.fetch, standin.endpoint, tmp_path / "other").files(REPOSITORY, commit, STEP)
    assert time.monotonic() - started < 9


def test_a_cache_that_cannot_be_written_keeps_nobody_from_listing(
    standin: StandIn, hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    add_suite(standin, [STEP])
    (tmp_path / "file").touch()
    homeless = Hub(hub.fetch, standin.endpoint, tmp_path / "file" / "cache")
    for branch, commit in homeless.refs(REPOSITORY).items():
        assert homeless.files(REPOSITORY, commit, branch)
    assert capfd.readouterr().err.count("listings are not remembered") == 1


def test_files_are_verified_and_have_their_names_only_then(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP], sharded=True)
    commit = hub.refs(REPOSITORY)[STEP]
    files = hub.files(REPOSITORY, commit, STEP)
    fetch_files(hub, REPOSITORY, commit, files, tmp_path / "out", STEP)
    for path, content in branches[STEP].items():
        assert (tmp_path / "out" / path).read_bytes() == content.data
    assert not list((tmp_path / "out").glob("*.partial"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET /cdn/.*", drop_after=5_000, times=3),
        Fault("GET /cdn/.*", no_ranges=True, drop_after=40_000),
        Fault("GET /org/.*safetensors", 429, {"Retry-After": "1"}, times=2),
        Fault("GET /org/.*safetensors", 429, {"ratelimit": '"resolvers";r=0;t=0'}),
        Fault("GET /cdn/.*", 503, times=2),
        Fault("GET /cdn/.*", 500),
        Fault("GET /cdn/.*", delay=1.2),
    ],
    ids=["drops", "ignores-ranges", "429-after", "429-window", "503", "500", "slow"],
)
def test_ordinary_weather_is_waited_out(
    standin: StandIn, hub: Hub, tmp_path: Path, fault: Fault
) -> None:
    branches = add_suite(standin, [STEP])
    commit, file = only(hub, STEP, "model.safetensors")
    standin.faults = [fault]
    patient = Hub(Fetch(timeout=1.0, patience=20.0), standin.endpoint, tmp_path / "cache")
    fetch_files(patient, REPOSITORY, commit, [file], tmp_path, STEP)
    assert (tmp_path / file.path).read_bytes() == branches[STEP][file.path].data
    assert fault.times == 0, "the fault was met"


def test_waiting_for_a_window_takes_no_patience(standin: StandIn, tmp_path: Path) -> None:
    add_suite(standin, [STEP])
    hub = Hub(Fetch(timeout=2.0, patience=0.6), standin.endpoint, tmp_path)
    hub.pace.told(remaining=0, reset=0.7)
    standin.faults = [Fault("GET .*/refs", 503)]
    assert STEP in hub.refs(REPOSITORY)
    assert standin.faults[0].times == 0


def test_a_host_that_ignores_ranges_is_begun_anew(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP])
    commit, file = only(hub, STEP, "model.safetensors")
    standin.faults = [
        Fault("GET /cdn/", drop_after=40_000),
        Fault("GET /cdn/", no_ranges=True, drop_after=60_000),
        Fault("GET /cdn/", no_ranges=True),
    ]
    fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP)
    assert (tmp_path / file.path).read_bytes() == branches[STEP][file.path].data
    standin.faults = [Fault("GET /cdn/", drop_after=40_000), Fault("GET /cdn/", no_ranges=True)]
    assert hub.read(REPOSITORY, commit, file, STEP) == branches[STEP][file.path].data


def test_what_an_earlier_process_left_is_resumed(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    branches = add_suite(standin, [STEP])
    commit, file = only(hub, STEP, "model.safetensors")
    data = branches[STEP][file.path].data
    partial = tmp_path / f"{file.path}.partial"
    partial.write_bytes(data[:60_000])
    standin.sent = 0
    fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP)
    assert (tmp_path / file.path).read_bytes() == data
    assert standin.sent == len(data) - 60_000
    assert not partial.exists()
    (tmp_path / file.path).unlink()
    partial.write_bytes(b"\0" * 50_000)  # damaged: the disk's, not the hub's
    fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP)
    assert (tmp_path / file.path).read_bytes() == data


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"Content-Range": "bytes 7-10/89688"}),
        (206, {}),
        (200, {"Content-Encoding": "gzip"}),
    ],
)
def test_other_bytes_than_were_asked_for_are_refused(
    standin: StandIn, hub: Hub, tmp_path: Path, status: int, headers: dict[str, str]
) -> None:
    add_suite(standin, [STEP])
    commit, file = only(hub, STEP, "model.safetensors")
    standin.faults = [Fault("/cdn/", status, headers, times=None)]
    for ask in (
        lambda: fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP),
        lambda: hub.read(REPOSITORY, commit, file, STEP),
    ):
        with pytest.raises(errors.HubBroken, match="not the bytes that were asked for"):
            ask()


def altered(data: bytes) -> bytes:
    return data[:50_000] + bytes([data[50_000] ^ 1]) + data[50_001:]


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault("resolve", 401, times=None), errors.Refused, "refuses access .401."),
        (Fault("/cdn/", 403, times=None), errors.Refused, "refuses access .403."),
        (Fault("resolve", 404, {"X-Error-Code": "EntryNotFound"}, times=None), errors.UnknownFile,
         "missing on the hub"),
        (Fault("resolve", 404, {"X-Error-Code": "RevisionNotFound"}, times=None),
         errors.UnknownRevision, "no longer has it"),
        (Fault("resolve", 429, times=None), errors.RateLimited, "limits the rate"),
        (Fault("/cdn/", 502, times=None), errors.HubBroken, "answers 502"),
        (Fault("/cdn/", delay=1.2, times=None), errors.Unreachable, "does not answer in time"),
        (Fault("/cdn/", drop_after=0, times=None), errors.Unreachable, "no working connection"),
    ],
    ids=["401", "403", "no-file", "no-revision", "429", "502", "dead", "drops"],
)  # fmt: skip
def test_what_does_not_pass_is_a_typed_error(
    standin: StandIn, hub: Hub, tmp_path: Path, fault: Fault, kind: type, message: str
) -> None:
    add_suite(standin, [STEP])
    commit, file = only(hub, STEP, "model.safetensors")
    standin.faults = [fault]
    started = time.monotonic()
    with pytest.raises(errors.CheckpointError, match=message) as caught:
        fetch_files(hub, REPOSITORY, commit, [file], tmp_path, f"suite 's', revision '{STEP}'")
    assert type(caught.value) is kind
    assert f"suite 's', revision '{STEP}': " in str(caught.value)
    assert time.monotonic() - started < 10
    assert not (tmp_path / file.path).exists()


@pytest.mark.parametrize(
    ("served", "kind", "message"),
    [
        (lambda data: data[:-1000], errors.Truncated, "by its listing, but the hub serves 88,688"),
        (altered, errors.Altered, "model.safetensors differs from its published hash"),
        (lambda data: data + b"x", errors.Truncated, "serves 89,689"),
    ],
)
def test_bodies_that_are_not_what_is_listed(
    standin: StandIn, hub: Hub, tmp_path: Path, served: object, kind: type, message: str
) -> None:
    branches = add_suite(standin, [STEP])
    content = branches[STEP]["model.safetensors"]
    branches[STEP] = {**branches[STEP], "model.safetensors": Content(content.data, large=True)}
    branches[STEP]["model.safetensors"].served = served(content.data)  # type: ignore[operator]
    commit, file = only(hub, STEP, "model.safetensors")
    with pytest.raises(errors.CheckpointError, match=message) as caught:
        fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP)
    assert type(caught.value) is kind
    assert not (tmp_path / file.path).exists()


def test_unknown_gated_dead_and_offline(
    standin: StandIn, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        errors.UnknownRepository, match="repository 'org/none': the hub has no such"
    ):
        hub.refs("org/none")
    with pytest.raises(errors.UnknownRepository, match="no name that a repository can have"):
        hub.refs("a--b/c")
    add_suite(standin, [STEP])
    standin.gated[REPOSITORY] = "hf_topsecret"
    with pytest.raises(errors.Gated, match="accept its conditions"):
        hub.refs(REPOSITORY)
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    assert STEP in hub.refs(REPOSITORY)
    dead = Hub(Fetch(timeout=1.0, patience=1.0), "http://127.0.0.1:9", tmp_path / "other")
    with pytest.raises(errors.Unreachable, match="no working connection"):
        dead.refs(REPOSITORY)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(errors.Offline, match="HF_HUB_OFFLINE"):
        hub.refs(REPOSITORY)


def test_a_token_goes_to_the_hub_only_and_to_no_log(
    standin: StandIn,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    add_suite(standin, [STEP])
    standin.gated[REPOSITORY] = "hf_topsecret"
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    commit, file = only(hub, STEP, "model.safetensors")
    standin.faults = [Fault("/cdn/", 503)]
    fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP)
    assert {a.authorised for a in standin.asked if a.origin == "hub"} == {True}
    assert {a.authorised for a in standin.asked if a.origin == "cdn"} == {False}
    standin.faults = [Fault("/cdn/", 500, times=None)]
    (tmp_path / file.path).unlink()
    with pytest.raises(errors.HubBroken) as caught:
        fetch_files(hub, REPOSITORY, commit, [file], tmp_path, STEP)
    printed = "".join(capfd.readouterr()) + str(caught.value)
    assert "the hub answers 503" in printed
    for secret in ("topsecret", "secret-signature"):
        assert secret not in printed


def test_secrets_are_cut_from_any_text() -> None:
    text = "GET https://u:p@cdn.x/a?Signature=abc with Bearer hf_abcdefgh, again hf_ABCDEFGHij"
    cut = without_secrets(text)
    for secret in ("u:p", "abc", "hf_abcdefgh", "hf_ABCDEFGHij"):
        assert secret not in cut


def test_one_failing_file_stops_the_others(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    add_suite(standin, [STEP], sharded=True)
    commit = hub.refs(REPOSITORY)[STEP]
    files = [f for f in hub.files(REPOSITORY, commit, STEP) if f.path.endswith(".safetensors")]
    standin.rate = 20_000
    standin.faults = [Fault("/cdn/.*00002", 404, times=None)]
    started = time.monotonic()
    with pytest.raises(errors.UnknownFile):
        fetch_files(hub, REPOSITORY, commit, files, tmp_path, STEP)
    assert time.monotonic() - started < 30
    assert threading.active_count() < 40


def test_1500_revisions_are_listed_and_parsed_within_two_seconds(
    standin: StandIn, hub: Hub
) -> None:
    from trajectory.checkpoints.manifest import manifest_rows
    from trajectory.checkpoints.pin import list_revisions
    from trajectory.config.suites import Suite

    suite = Suite(repository=REPOSITORY, tokens_per_step=4_194_304)
    standin.repositories[REPOSITORY] = {
        "main": {}, **{f"stage1-step{1000 * k}": {} for k in range(1499)}
    }  # fmt: skip
    started = time.perf_counter()
    rows = manifest_rows("s", suite, list_revisions("s", suite, hub))
    assert time.perf_counter() - started < 2.0
    assert len(rows) == 1500
    assert len(standin.asked) == 1
    assert [row["step"] for row in rows[:-1]] == [1000 * k for k in range(1499)]
