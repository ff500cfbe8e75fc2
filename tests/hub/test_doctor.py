"""``trajectory doctor`` on a stand-in of the whole registry: well, and with each step failing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from project import run_command
from typer.testing import CliRunner

from trajectory import cli
from trajectory.api import Measured, measure
from trajectory.checkpoints.names import parse_revision
from trajectory.config.fetch import Fetch
from trajectory.config.registry import registered
from trajectory.config.suites import Suite
from trajectory.doctor import contact, devices, examine, plain
from trajectory.doctor.branches import listing_of, suites_of
from trajectory.doctor.compare import greatest
from trajectory.doctor.random_model import write_random_model
from trajectory.doctor.report import WIDTH, pasteable, report
from trajectory.doctor.steps import ADVICE, Failure, Step
from trajectory.errors import TrajectoryError
from trajectory.hub import errors
from trajectory.hub.client import Hub
from trajectory.hub.content import Revision
from trajectory.jobs import published

from .server import Content, Fault, Files, StandIn
from .suites import checkpoint, files, tokenizer_files

SMALLEST = "EleutherAI/pythia-14m"
STEPS = ["step0", "step256", "step143000"]
STORED = yaml.safe_load((Path(__file__).parents[1] / "data" / "branches.yaml").read_text())
LISTED = ["amber", "olmo2-7b", "pythia-70m", "pythia-14m", "k2-65b", "smollm3-3b"]
SCREEN = 40
"""Lines of a screen, where everything that can fail has."""


def names_of(name: str, suite: Suite) -> list[str]:
    """Branches of a suite, as published; those that are only counted get names of the form."""
    entry = next(
        (e for e in STORED["suites"] if any(fnmatch(name, of) for of in e["of"])), {"others": []}
    )
    found = [*entry.get("checkpoints", {})]
    for grid in entry.get("grids", []):
        for part in grid["steps"]:
            steps = range(part[0], part[1] + 1, part[2]) if isinstance(part, list) else [part]
            found += [grid["name"].format(step) for step in steps]
    holes = {f"step{step}" for missing in suite.missing for step in missing.steps}
    found = [branch for branch in found if branch not in holes]
    parsed = [parse_revision(branch, suite.pattern) for branch in found]
    first = {one.step for one in parsed if one and (one.stage or 1) in suite.stages}
    more = max(0, (suite.published or 1) - len(first))
    form = (
        found[-1].replace(str(parsed[-1].step), "{}") if suite.facets and found else "stage1-step{}"
    )
    return ["main", *found, *(form.format(10**7 + n) for n in range(more)), *entry["others"]]


@pytest.fixture(scope="module")
def registry() -> dict[str, dict[str, Files]]:
    """Repositories of every suite, empty but for three checkpoints of the smallest."""
    found: dict[str, dict[str, Files]] = {}
    for name, suite in suites_of(()).items():
        if suite.repository is not None:
            names = dict.fromkeys(names_of(name, suite))
            found[suite.repository] = {one: {} for one in names}
            if suite.layout == "folders":
                inside = {f"all/{one}/config.json": Content(b"{}") for one in names}
                found[suite.repository] = {"main": inside}
            if suite.branch is not None:
                found[suite.repository][suite.branch] = {}
    for seed, name in enumerate(["main", *STEPS]):
        found[SMALLEST][name] = files(checkpoint(seed, "float16") | tokenizer_files())
    return found


@pytest.fixture
def world(
    standin: StandIn,
    hub: Hub,
    registry: dict[str, dict[str, Files]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> StandIn:
    """The stand-in with the whole registry, which whoever asks for the hub gets."""
    standin.repositories = {name: dict(branches) for name, branches in registry.items()}
    (pico,) = (name for name in registry if name.endswith("/pico-decoder-tiny"))
    titles = [name for name in registry[pico] if name.startswith("Saving-")]
    standin.histories = {pico: {"pico-decoder-tiny-1": titles}}
    monkeypatch.setattr(published, "Hub", lambda fetch: hub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contact, "write_random_model", small_random_model)
    few = {domain: own[:2] for domain, own in contact.texts().items()}
    monkeypatch.setattr(contact, "texts", lambda: few)
    monkeypatch.setattr(devices, "texts", lambda: few)
    return standin


def small_random_model(suite: Suite, folder: Path) -> None:
    """Its sizes are a registry's, of which a test needs none."""
    folder.mkdir()
    for path, content in {**checkpoint(9), **tokenizer_files()}.items():
        (folder / path).write_bytes(content)


def statuses(steps: list[Step]) -> dict[str, str]:
    return {step.name: step.status for step in steps}


def fits(text: str, lines: int = SCREEN) -> bool:
    told = text.splitlines()
    return len(told) <= lines and max(map(len, told)) <= WIDTH


WELL = {
    **{"branches": "ok", "choose": "ok", "download": "ok", "stream": "ok"},
    **{"rows": "ok", "plain": "ok", "device": "skipped"},
}


def test_a_hub_as_the_registry_says_and_three_checkpoints(
    world: StandIn, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "accelerators", lambda: [])
    steps, text = examine.examine(hub=hub)
    assert statuses(steps) == WELL, text
    assert fits(text, 24)
    assert "nothing failed" in text.splitlines()[0]
    count = len(world.repositories)
    assert count > 140
    assert f"{count} of {count} suites as the registry says" in text
    assert "step0, step256, step143000 of EleutherAI/pythia-14m" in text
    assert "66 rows by stream and by download: equal to the last bit" in " ".join(text.split())
    assert re.search(r"^ok      plain +\d+ s  step0, step256, step143000: ", text, re.M)
    assert text.endswith("\nskipped device          torch finds neither CUDA nor MPS")
    listed = [a.path for a in world.asked if "/refs" in a.path]
    assert len({*listed}) == count
    others = [a.path for a in world.asked if SMALLEST not in a.path]
    assert not [path for path in others if not path.startswith("/api/")], "but for names nothing"
    weights = world.count("GET /cdn/.*safetensors")
    assert weights > 3, "three downloads, and ranges"
    assert not list(hub.cache.parent.rglob("*.safetensors")), "nothing stays"


def elsewhere(repository: str, change: Callable[[dict[str, Files]], None]) -> Callable:
    return lambda world, hub, patch: change(world.repositories[repository])


def fault(**values: Any) -> Callable:
    return lambda world, hub, patch: world.faults.append(Fault(**{"times": None, **values}))


def three_suites(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
    """One refuses, one names its branches otherwise, one has fewer."""
    world.faults.append(Fault("allenai/OLMo-2-1124-7B/refs", 401, times=None))
    amber = world.repositories["LLM360/Amber"]
    for name in [name for name in amber if name != "main"]:
        amber["rev." + name] = amber.pop(name)
    for step in range(1000, 11000, 1000):
        del world.repositories["EleutherAI/pythia-70m"][f"step{step}"]


def damage(branches: dict[str, Files]) -> None:
    good = branches["step256"]["model.safetensors"]
    served = bytearray(good.data)
    served[-8] ^= 1  # the least bit of a mantissa
    broken = Content(good.data, bytes(served), large=True)
    branches["step256"] = {**branches["step256"], "model.safetensors": broken}


def copy_main(branches: dict[str, Files]) -> None:
    """Every step holds main's files, as 76 of pythia-2.8b do."""
    for name in branches:
        branches[name] = branches["main"]


def dead(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
    hub.http.fetch = Fetch(timeout=1.0, patience=0.0)
    hub.api.endpoint = "http://127.0.0.1:9"


def offline(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def no_room(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    patch.setattr("trajectory.hub.store.shutil.disk_usage", lambda path: usage)


def altering(when: str, column: str, by: float) -> Callable:
    """Alter one number of one head in what is measured in one way."""

    def prepare(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
        def altered(*given: Any, **options: Any) -> Measured:
            found = measure(*given, **options)
            if options.get("weights") not in (when, None) or options.get("revision") != "step256":
                return found
            first = (pl.col("layer") == 1) & (pl.col("head") == 2) & (pl.col("domain") == "code")
            shifted = pl.when(first).then(pl.col(column) + by).otherwise(pl.col(column))
            return replace(found, heads=found.heads.with_columns(shifted.alias(column)))

        patch.setattr(contact, "measure", altered)

    return prepare


def other_rows(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
    """Download and stream agree, on a wrong loss."""

    def altered(*given: Any, **options: Any) -> Measured:
        found = measure(*given, **options)
        return replace(found, losses={**found.losses, "code": found.losses["code"] + 1e-3})

    patch.setattr(contact, "measure", altered)


def no_library(world: StandIn, hub: Hub, patch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> None:
        raise AttributeError("'Config' object has no attribute 'x'")

    patch.setattr(plain, "AutoModelForCausalLM", type("Library", (), {"from_pretrained": refuse}))


SKIPPED = {"download": "skipped", "stream": "skipped", "rows": "skipped"}

FAILING: dict[str, tuple[Callable, dict[str, str], list[str]]] = {
    "no network": (
        dead,
        {"branches": "FAILED", "choose": "FAILED", **SKIPPED},
        [
            "3 more suites were not asked for",
            "no working connection to the hub",
            "→ check the network, HTTPS_PROXY and HF_ENDPOINT",
            "random weights: sink weights at most",
        ],
    ),
    "offline": (
        offline,
        {"branches": "FAILED", "choose": "FAILED", **SKIPPED},
        ["HF_HUB_OFFLINE forbids to ask the hub", "→ unset HF_HUB_OFFLINE and run again"],
    ),
    "busy": (
        fault(path="/refs", status=429, headers={"Retry-After": "300"}),
        {"branches": "FAILED", "choose": "FAILED", **SKIPPED},
        ["limits the rate of requests (429)", "→ set HF_TOKEN, or run again in five minutes"],
    ),
    "three suites": (
        three_suites,
        {"branches": "FAILED"},
        [
            "3 of 6 suites as the registry says",
            "olmo2-7b: repository 'allenai/OLMo-2-1124-7B': ",
            "HF_TOKEN",
            "amber: none of its 359 names is read, e.g. 'rev.ckpt_000'",
            "pythia-70m: 144 checkpoints, 154 stored",
            "→ paste this report into an issue: the registry is to be mended",
        ],
    ),
    "smallest gone": (
        lambda world, hub, patch: world.repositories.pop(SMALLEST),
        {"branches": "FAILED", "choose": "FAILED", **SKIPPED},
        ["pythia-14m: repository", "the hub has no such repository", "random weights"],
    ),
    "wrong files": (
        elsewhere(SMALLEST, copy_main),
        {"choose": "FAILED"},
        ["1 sound checkpoints, not 3; e.g. 'step0': its weights are those of main", "1 of 1, "],
    ),
    "broken file": (
        elsewhere(SMALLEST, damage),
        {"download": "FAILED"},
        ["'step256': model.safetensors differs from its published hash", "2 of 3, ",
         "→ run again; if it stays, the file is damaged on the hub"],
    ),
    "no such bytes": (
        fault(path="/cdn/", status=403),
        {"download": "FAILED", "stream": "FAILED", "rows": "skipped"},
        ["the hub refuses access (403)", "no checkpoint was measured both ways", "random weights"],
    ),
    "no ranges": (
        fault(path="/cdn/.*safetensors", no_ranges=True),
        {"stream": "FAILED", "rows": "skipped"},
        ["the hub ignores ranges"],
    ),
    "no room": (
        no_room,
        {"download": "FAILED", "rows": "skipped"},
        ["bytes are needed on the disk of", "→ make room, or set TMPDIR"],
    ),
    "a row that differs": (
        altering("stream", "sink_weight", 1e-3),
        {"rows": "FAILED"},
        ["step256: stream and download differ by", "at heads.sink_weight (domain code, layer 1,"],
    ),
    "a wrong sink weight": (
        altering("download", "sink_weight", 1e-3),
        {"rows": "FAILED", "plain": "FAILED"},
        ["step256: a sink weight is 1.0e-03 from that of plain transformers (layer 1, head 2,"],
    ),
    "a wrong loss": (
        other_rows,
        {"plain": "FAILED"},
        ["a loss is 1.0e-03 nats from that of plain transformers"],
    ),
    "unforeseen": (
        no_library,
        {"plain": "FAILED"},
        ["AttributeError: 'Config' object has no attribute 'x'", "→ paste this report into an"],
    ),
}  # fmt: skip


RARELY = {
    *("offline", "three suites", "smallest gone", "broken file"),
    *("no such bytes", "no ranges", "a wrong sink weight", "a wrong loss", "wrong files"),
}
"""What is tried in a thorough test alone: each has a sibling that is tried always."""


@pytest.mark.parametrize(
    ("prepare", "changed", "told"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.thorough] if name in RARELY else [])
        for name, case in FAILING.items()
    ],
)
def test_a_step_that_fails_stops_no_other(
    world: StandIn,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable,
    changed: dict[str, str],
    told: list[str],
) -> None:
    monkeypatch.setattr(devices, "accelerators", lambda: [])
    prepare(world, hub, monkeypatch)
    steps, text = examine.examine(LISTED, hub)
    assert statuses(steps) == WELL | changed, text
    one_line = " ".join(text.split())
    for part in told:
        assert part in one_line, text
    assert fits(text), text
    failed = [name for name, status in statuses(steps).items() if status == "FAILED"]
    assert f"FAILED: {', '.join(failed)}" in text.splitlines()[0]
    assert all(failure.advice for step in steps for failure in step.failures)


def on_the_cpu(
    patch: pytest.MonkeyPatch, column: str = "sink_weight", by: float = 0.0, name: str = "cuda"
) -> None:
    """A device of this name, which computes as the CPU does, or a little otherwise."""

    def other(*given: Any, device: str, **options: Any) -> Measured:
        found = measure(*given, device="cpu", **options)
        if device == "cpu":
            return found
        if math.isnan(by):
            raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
        return replace(found, heads=found.heads.with_columns(pl.col(column) + by))

    for kind, there in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        patch.setattr(there, "is_available", lambda kind=kind: kind == name)
    patch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Made Up")
    patch.setattr(devices, "measure", other)


@pytest.mark.parametrize(
    ("name", "by", "status", "told"),
    [
        ("cuda", 0.0, "ok", "cuda (NVIDIA Made Up): at most 0e+00 from the CPU; "),
        ("mps", 1e-2, "FAILED", "mps differs from the CPU by "),
        ("cuda", math.nan, "FAILED", "RuntimeError: CUDA error: out of memory → paste"),
    ],
)
def test_a_device_is_held_to_the_cpu_and_both_are_timed(
    world: StandIn,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    by: float,
    status: str,
    told: str,
) -> None:
    on_the_cpu(monkeypatch, by=by, name=name)
    steps, text = examine.examine(["pythia-14m"], hub)
    assert statuses(steps) == WELL | {"device": status}, text
    assert told in " ".join(text.split()), text
    if status == "ok":
        assert re.search(r"CPU; [0-9.]+ s, the CPU [0-9.]+ s$", " ".join(text.split()))


def test_a_gpu_without_a_network_is_examined_on_random_weights(
    world: StandIn, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(world, hub, monkeypatch)
    on_the_cpu(monkeypatch)
    steps, text = examine.examine(LISTED, hub)
    unreached = {"branches": "FAILED", "choose": "FAILED", **SKIPPED, "device": "ok"}
    assert statuses(steps) == WELL | unreached, text


def test_a_random_model_has_the_suite_s_sizes_and_uneven_heads(tmp_path: Path) -> None:
    suite = Suite.model_validate(registered()["pythia-14m"])
    assert suite.architecture is not None
    smaller = suite.architecture.model_copy(update={"vocabulary": 300})
    write_random_model(suite.model_copy(update={"architecture": smaller}), tmp_path)
    found = measure(tmp_path, ["prose"], sequences=2, length=16)
    sizes = (found.heads["layer"].n_unique(), found.heads["head"].n_unique())
    assert sizes == (suite.architecture.layers, suite.architecture.heads) == (6, 4)
    weights = found.heads["sink_weight"]
    assert weights.max() > 3 * weights.min()


def test_what_the_registry_does_not_know_yet_is_news_and_no_fault() -> None:
    of = Suite.model_validate(
        {"repository": "o/n", "published": 2, "missing": [{"steps": [30]}, {"first": 1, "last": 2}]}
    )
    refs = dict.fromkeys(("main", "step10", "step20", "step30", "notes"), "0" * 40)
    found = listing_of("mine", of, [Revision(*ref) for ref in refs.items()])
    assert (found.checkpoints, found.others, found.wrong) == (3, 1, [])
    assert found.news == ["3 checkpoints, 2 stored", "step 30 is there, stored as missing"]
    only_main = listing_of("mine", of, [Revision("main", "0" * 40)])
    assert only_main.wrong == ["it has no revisions besides main"]
    half = listing_of("mine", of, [Revision("step10", "0" * 40), Revision("rev20", "1" * 40)])
    assert half.wrong == ["1 checkpoints, 2 stored; not read: e.g. 'rev20'"]


def measured(**columns: list[Any]) -> Measured:
    heads = pl.DataFrame({"domain": ["a", "a"], "layer": [0, 1], "head": [0, 0], **columns})
    return Measured("m", heads, pl.DataFrame({"domain": ["a"], "layer": [0]}), {"a": 2.0})


def test_differences_are_found_wherever_they_are() -> None:
    one = measured(x=[1.0, -4.0], n=[1, 2], t=["a", None])
    assert greatest(one, measured(x=[1.0, -4.0], n=[1, 2], t=["a", None])).size == 0
    nans = measured(x=[math.nan, 1.0])
    assert greatest(nans, nans).size == 0
    found = greatest(measured(x=[1.0, -4.2], n=[1, 2], t=["a", None]), one)
    assert found.size == pytest.approx(0.2 / 4)
    assert found.place == "heads.x (domain a, layer 1, head 0)"
    for other in (
        measured(x=[1.0, math.nan], n=[1, 2], t=["a", None]),
        measured(x=[1.0, -4.0], n=[1, 3], t=["a", None]),
        measured(x=[1.0, -4.0], n=[1, 2], t=["a", "b"]),
        replace(one, layers=one.layers.clear()),
        replace(one, losses={}),
    ):
        assert greatest(other, one).size == math.inf
        assert greatest(one, other).size == math.inf
    assert greatest(replace(one, losses={"a": 2.5}), one).size == 0.5
    assert greatest(measured(x=[1.0, -4.2]), measured(x=[1.0, -4.0]), ["y"]).size == 0


def test_a_report_holds_no_secret_and_fits_the_screen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home" / "alice"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "alicea")
    monkeypatch.setenv("HF_TOKEN", "own.Token-of+a+mirror")
    secrets = ("alice", "own.Token", "pass", "Signature", "hf_abcdef")
    told = (
        f"{home}/x, /scratch/alicea/y and /data/alice: token own.Token-of+a+mirror or hf_abcdefgh, "
        "socks5://me:pass@w/o@proxy:1080, https://me:pass@hub/a?Signature=abc"
    )
    for part in secrets:
        assert part in told
    cut = pasteable(told)
    assert not [part for part in secrets[:-1] if part in cut.replace("w/o", "")], cut
    assert cut.startswith("~/x, /scratch/…/y and /data/…: token … or hf_…, ")
    failures = [Failure(f"{told} {n}" * 5, f"do {n // 9}") for n in range(40)]
    steps = [Step(name, "FAILED", [told], failures) for name in WELL]
    whole = report(steps, "https://me:pass@mirror:8080")
    assert max(map(len, whole.splitlines())) <= WIDTH
    assert "hub https://…@mirror:8080 with a token" in whole
    assert "and 36 more, printed above this report" in " ".join(whole.split())
    for secret in ("alice", "own.Token", "Signature", "hf_abc"):
        assert secret not in whole


def test_every_kind_of_error_has_its_advice() -> None:
    kinds = {errors.CheckpointError.kind}
    for one in errors.CheckpointError.__subclasses__():
        kinds.add(one.kind)
        assert not one.__subclasses__()
    assert kinds == set(ADVICE)
    assert all(ADVICE.values())


def test_the_command_ends_with_one_if_anything_failed(
    world: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"HF_ENDPOINT": world.endpoint, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment |= {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = run_command("trajectory", "doctor", "pythia-14m", "amber", env=environment)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 suites as the registry says" in done.stdout
    assert fits(done.stdout, 24)
    failed = Step("rows", "FAILED", failures=[Failure("apart", "look")])
    monkeypatch.setattr(examine, "examine", lambda names: ([Step("branches"), failed], "told"))
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert (done.exit_code, done.stdout) == (1, "told\n")
    monkeypatch.undo()
    wrong = CliRunner().invoke(cli.app, ["doctor", "pythia-14n"])
    assert isinstance(wrong.exception, TrajectoryError)
    assert str(wrong.exception) == "unknown suite 'pythia-14n'; did you mean 'pythia-14m'?"
