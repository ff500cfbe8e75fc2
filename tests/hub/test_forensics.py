"""``trajectory suites doctor`` on forged branches of the stand-in, and in folders."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from typer.testing import CliRunner

from trajectory import cli
from trajectory.config.fetch import Fetch
from trajectory.config.suites import Suite
from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.forensics.examine import Examined, counts, examine
from trajectory.forensics.fingerprint import GAP, MOST, NUMBERS, places_of, plan
from trajectory.hub.client import Hub
from trajectory.hub.errors import HubBroken
from trajectory.hub.ranges import FolderReader, join
from trajectory.probe.remote import Entry, read_headers

from .server import Content, Fault, Files, StandIn
from .suites import REPOSITORY, checkpoint, files, pickled

State = dict[str, torch.Tensor]

STEPS = [0, 1, *range(10, 150, 10)]
SINGLE = "model.safetensors"


def name(step: int) -> str:
    return f"stage1-step{step}-tokens{step}B"


@cache
def states(seed: int = 0) -> dict[int, State]:
    """Weights of a training that walks at random from a model's own; none in its first update."""
    generator = torch.Generator().manual_seed(seed)
    now = load(checkpoint(seed)[SINGLE])
    found = {}
    for step in STEPS:
        if step > 1:
            now = {
                key: w + 0.005 * torch.randn(w.shape, generator=generator) for key, w in now.items()
            }
        found[step] = now
    return found


def stored(state: State, shards: int = 1) -> dict[str, bytes]:
    """A revision's files, in one file or in shards with their index."""
    small = {k: v for k, v in checkpoint(0).items() if not k.endswith("safetensors")}
    if shards == 1:
        return {**small, SINGLE: save(state)}
    names = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
    parts: list[State] = [{} for _ in names]
    for n, (key, tensor) in enumerate(sorted(state.items())):
        parts[n % shards][key] = tensor
    where = {key: file for file, part in zip(names, parts, strict=True) for key in part}
    index = json.dumps({"metadata": {}, "weight_map": where}).encode()
    shard_files = {file: save(part) for file, part in zip(names, parts, strict=True)}
    return {**small, **shard_files, "model.safetensors.index.json": index}


def honest() -> dict[str, dict[str, bytes]]:
    return {"main": checkpoint(99), **{name(s): stored(w) for s, w in states().items()}}


def forged() -> dict[str, dict[str, bytes]]:
    """Every forgery in one suite."""
    found, right = honest(), states()
    found[name(20)], found[name(30)] = found[name(30)], found[name(20)]
    narrow = {key: w.bfloat16() for key, w in right[110].items()}
    found[name(60)] = stored(narrow, shards=2)
    parts = [right[step] for step in (40, 90, 130)]
    found[name(80)] = stored({key: sum(p[key] for p in parts) / 3 for key in parts[0]})
    found[name(120)] = stored(states(seed=5)[120])
    found[name(50)] = {"config.json": b"{}", "pytorch_model.bin": pickled()}
    found[name(100)] = found[name(70)]
    return found


TOLD = {
    20: ("swapped", (30,)),
    30: ("swapped", (20,)),
    60: ("copy", (110,)),
    80: ("average", (40, 90, 130)),
    120: ("unrelated", ()),
}


def serve(hub: StandIn, revisions: dict[str, dict[str, bytes]]) -> dict[str, Files]:
    hub.repositories[REPOSITORY] = {one: files(content) for one, content in revisions.items()}
    return hub.repositories[REPOSITORY]


def lay(folder: Path, revisions: dict[str, dict[str, bytes]]) -> Path:
    for one, content in revisions.items():
        (folder / one).mkdir(parents=True)
        for path, data in content.items():
            (folder / one / path).write_bytes(data)
    return folder


def found_in(examined: Examined) -> dict[int, tuple[str, tuple[int, ...]]]:
    steps = [one.row["step"] for one in examined.read]
    return {
        steps[one.at]: (one.kind, tuple(steps[other] for other in one.others))
        for one in examined.judged.findings
    }


def test_an_honest_suite_is_silent(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    serve(standin, honest())
    (remote,) = examine("s", Suite(repository=REPOSITORY), hub)
    (local,) = examine("s", Suite(folder=lay(tmp_path / "at home", honest())), hub)
    for examined in (remote, local):
        assert found_in(examined) == {}
        assert (examined.notes, examined.unread, examined.same_files) == ([], {}, [])
        assert len(examined.read) == len(STEPS)


def test_forged_branches_are_found_and_named(standin: StandIn, hub: Hub, tmp_path: Path) -> None:
    serve(standin, forged())
    (remote,) = examine("s", Suite(repository=REPOSITORY), hub)
    (local,) = examine("s", Suite(folder=lay(tmp_path / "f", forged())), hub)
    for examined in (remote, local):
        assert found_in(examined) == TOLD
        (same,) = examined.same_files
        assert (examined.name(same.at), examined.name(same.others[0])) == (name(100), name(70))
        assert list(examined.unread) == [name(50)]
        assert "pickled weights only" in examined.unread[name(50)]
    asked = [a for a in standin.asked if ".safetensors" in a.path and a.origin == "cdn"]
    spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", a.range or "") for a in asked]
    assert spans and all(spans), "ranges alone"
    sent = sum(int(span[2]) - int(span[1]) + 1 for span in spans)
    assert counts([remote])["bytes"] == sent
    # Files that two revisions share, as those of steps 0 and 1 and 70 and 100, are fetched once.
    assert counts([local])["bytes"] == sent + 2 * local.read[-1].size


def test_few_bytes_of_a_large_file_are_read_and_they_are_the_tensor_s(
    standin: StandIn, hub: Hub, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = {
        f"model.layers.{n}.{part}.weight": torch.randn(300, 256, generator=generator)
        for n in range(12)
        for part in ("self_attn.q_proj", "mlp.up_proj")
    }
    norms = {f"model.layers.{n}.norm.weight": torch.rand(256) for n in range(12)}
    buffers = {"model.layers.0.rotary_emb.inv_freq": torch.rand(32)}
    embedding = {"model.embed_tokens.weight": torch.randn(2048, 256, generator=generator)}
    state = {**layers, **norms, **buffers, **embedding}
    content = stored(state, shards=3)
    serve(standin, {"main": content, name(10): content})
    (examined,) = examine("s", Suite(repository=REPOSITORY), hub)
    (one,) = examined.read
    whole = sum(len(data) for path, data in content.items() if path.endswith("safetensors"))
    assert whole > 9e6
    assert one.size < 100_000
    assert {piece.tensor for piece in examined.pieces} == {
        "model.embed_tokens.weight",
        *(f"model.layers.{n}.{part}.weight" for n in (3, 8)
          for part in ("self_attn.q_proj", "mlp.up_proj", "norm")),
    }  # fmt: skip
    for piece, values, place in zip(examined.pieces, one.values, one.places, strict=True):
        expected = state[piece.tensor].flatten()[piece.start : piece.stop]
        assert torch.equal(torch.from_numpy(values), expected)
        own = content[place.file][place.start : place.stop]
        assert own == expected.numpy().tobytes()
        assert len(values) == min(NUMBERS, state[piece.tensor].numel())


MODELS = {
    "pythia-12b": ("float16", 2, {
        "gpt_neox.embed_in.weight": (50688, 5120), "embed_out.weight": (50688, 5120),
        "gpt_neox.layers.{36}.attention.query_key_value.weight": (15360, 5120),
        "gpt_neox.layers.{36}.attention.query_key_value.bias": (15360,),
        "gpt_neox.layers.{36}.attention.dense.weight": (5120, 5120),
        "gpt_neox.layers.{36}.attention.dense.bias": (5120,),
        "gpt_neox.layers.{36}.mlp.dense_h_to_4h.weight": (20480, 5120),
        "gpt_neox.layers.{36}.mlp.dense_h_to_4h.bias": (20480,),
        "gpt_neox.layers.{36}.mlp.dense_4h_to_h.weight": (5120, 20480),
        "gpt_neox.layers.{36}.mlp.dense_4h_to_h.bias": (5120,),
        "gpt_neox.layers.{36}.input_layernorm.weight": (5120,),
        "gpt_neox.layers.{36}.input_layernorm.bias": (5120,),
        "gpt_neox.layers.{36}.post_attention_layernorm.weight": (5120,),
        "gpt_neox.layers.{36}.post_attention_layernorm.bias": (5120,),
        "gpt_neox.final_layer_norm.weight": (5120,), "gpt_neox.final_layer_norm.bias": (5120,),
    }),
    "olmo2-32b": ("float32", 29, {
        "model.embed_tokens.weight": (100352, 5120), "lm_head.weight": (100352, 5120),
        "model.layers.{64}.self_attn.q_proj.weight": (5120, 5120),
        "model.layers.{64}.self_attn.k_proj.weight": (1024, 5120),
        "model.layers.{64}.self_attn.v_proj.weight": (1024, 5120),
        "model.layers.{64}.self_attn.o_proj.weight": (5120, 5120),
        "model.layers.{64}.self_attn.q_norm.weight": (5120,),
        "model.layers.{64}.self_attn.k_norm.weight": (1024,),
        "model.layers.{64}.mlp.gate_proj.weight": (27648, 5120),
        "model.layers.{64}.mlp.up_proj.weight": (27648, 5120),
        "model.layers.{64}.mlp.down_proj.weight": (5120, 27648),
        "model.layers.{64}.post_attention_layernorm.weight": (5120,),
        "model.layers.{64}.post_feedforward_layernorm.weight": (5120,),
        "model.norm.weight": (5120,),
    }),
    "olmoe-1b-7b": ("bfloat16", 3, {
        "model.embed_tokens.weight": (50304, 2048), "lm_head.weight": (50304, 2048),
        "model.layers.{16}.self_attn.q_proj.weight": (2048, 2048),
        "model.layers.{16}.self_attn.o_proj.weight": (2048, 2048),
        "model.layers.{16}.mlp.gate.weight": (64, 2048),
        "model.layers.{16}.mlp.experts.{64}.gate_proj.weight": (1024, 2048),
        "model.layers.{16}.mlp.experts.{64}.up_proj.weight": (1024, 2048),
        "model.layers.{16}.mlp.experts.{64}.down_proj.weight": (2048, 1024),
        "model.layers.{16}.input_layernorm.weight": (2048,), "model.norm.weight": (2048,),
    }),
}  # fmt: skip
"""Of the registry's large suites the type, the number of files, and the tensors of each layer."""


def numbered(names: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Every tensor, with a number in place of each count in braces."""
    found: dict[str, tuple[int, ...]] = {}
    for pattern, shape in names.items():
        parts = re.split(r"\{(\d+)\}", pattern)
        counts = [range(int(count)) for count in parts[1::2]]
        for numbers in product(*counts):
            told = "".join(f"{text}{n}" for text, n in zip(parts[::2], numbers, strict=False))
            found[told + parts[-1]] = shape
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_megabyte_of_a_large_revision_is_more_than_is_read(model: str) -> None:
    """Headers and ranges of files of the published sizes, which nobody has to hold."""
    kind, files_, names = MODELS[model]
    dtype = getattr(torch, kind)
    tensors = sorted(numbered(names).items())
    entries, headers = {}, 0
    for n in range(files_):
        file, at, told = f"model-{n + 1:05d}.safetensors", 0, {}
        for key, shape in tensors[n * len(tensors) // files_ : (n + 1) * len(tensors) // files_]:
            size = math.prod(shape) * dtype.itemsize
            told[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
            entries[key] = Entry(file, dtype, list(shape), at, at + size)
            at += size
        headers += 8 + len(json.dumps(told))
    whole = sum(entry.stop - entry.start for entry in entries.values())
    assert whole > 12e9
    ranges = [place for place, _ in places_of(plan(entries), entries, "here")]
    spans = join(ranges, GAP)
    read = headers + sum(span.stop - span.start for span in spans)
    assert len(ranges) > 15
    assert all(any(s.file == r.file and s.start <= r.start and r.stop <= s.stop for s in spans)
               for r in ranges)  # fmt: skip
    assert read < 1e6


def test_a_model_of_many_parts_is_read_in_no_more_pieces(tmp_path: Path) -> None:
    state = {
        f"layers.{n}.{part}.weight": torch.zeros(4, 4)
        for n in range(3)
        for part in map(chr, range(97, 123))
    }
    (tmp_path / SINGLE).write_bytes(save(state))
    pieces = plan(read_headers(FolderReader(tmp_path, [SINGLE], "here"), "here"))
    assert len(pieces) == len(set(pieces)) == MOST


def test_trajectories_are_judged_apart(hub: Hub, tmp_path: Path) -> None:
    later = {
        f"stage2-ingredient1-step{s}-tokens1B": stored(w)
        for s, w in states(seed=3).items()
        if s > 1
    }
    folder = lay(tmp_path / "f", {**honest(), **later})
    swapped = folder / "stage2-ingredient1-step40-tokens1B", folder / "x"
    other = folder / "stage2-ingredient1-step90-tokens1B"
    swapped[0].rename(swapped[1])
    other.rename(swapped[0])
    swapped[1].rename(other)
    first, second = examine("s", Suite(folder=folder, stages=[1, 2]), hub)
    assert (first.trajectory, second.trajectory) == ("s", "s/stage2-ingredient1")
    assert found_in(first) == {}
    assert found_in(second) == {40: ("swapped", (90,)), 90: ("swapped", (40,))}
    (alone,) = examine("s", Suite(folder=folder), hub)
    assert alone.trajectory == "s"


def test_every_second_revision_and_the_last(hub: Hub, tmp_path: Path) -> None:
    (examined,) = examine("s", Suite(folder=lay(tmp_path / "f", honest())), hub, every=3)
    assert [one.row["step"] for one in examined.read] == [*STEPS[::3]]
    (examined,) = examine("s", Suite(folder=tmp_path / "f"), hub, every=4)
    assert [one.row["step"] for one in examined.read] == [*STEPS[::4], STEPS[-1]]


def test_a_revision_of_other_sizes_is_told_whichever_comes_first(hub: Hub, tmp_path: Path) -> None:
    other = load(checkpoint(1, hidden_size=16)[SINGLE])
    for step in (0, 70):
        folder = lay(tmp_path / str(step), {**honest(), name(step): stored(other)})
        (examined,) = examine("s", Suite(folder=folder), hub)
        assert found_in(examined) == {}
        assert list(examined.unread) == [name(step)]
        assert "has shape" in examined.unread[name(step)]
        assert len(examined.read) == len(STEPS) - 1


def test_a_hub_that_breaks_down_ends_it_and_a_damaged_file_does_not(
    standin: StandIn, hub: Hub
) -> None:
    branches = serve(standin, honest())
    cut = Content(branches[name(40)][SINGLE].data[:1000], large=True)
    branches[name(40)] = {**branches[name(40)], SINGLE: cut}
    (examined,) = examine("s", Suite(repository=REPOSITORY), hub)
    assert list(examined.unread) == [name(40)]
    assert found_in(examined) == {}
    standin.faults.append(Fault("GET /cdn", 503, times=None))
    hub.http.fetch = Fetch(timeout=1.0, patience=0.0)
    with pytest.raises(HubBroken, match=re.escape(f"revision '{name(0)}'")):
        examine("s", Suite(repository=REPOSITORY), hub)


def test_the_command_tells_it_in_80_columns_and_writes_a_report(
    standin: StandIn, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches = serve(standin, forged())
    monkeypatch.setattr("trajectory.cli.forensics.Hub", lambda fetch: hub)
    config = tmp_path / "run.yaml"
    config.write_text(f"name: r\nresults: r\nsuites: {{mine: {{repository: {REPOSITORY}}}}}\n")
    code, output = invoke("mine", "--config", config, "-o", tmp_path / "out")
    assert code == 1, output
    assert max(len(s) for s in output.splitlines() if str(tmp_path) not in s) <= 80
    told = "mine: 5 of 15 revisions are suspicious, 1 more has another's files, 1 could not be read"
    assert " ".join(output.split()).startswith(f"{told}; read ")
    for part in (
        *("swapped with step 30", "re-saved copy of step", "of another run or seed"),
        *("average of steps 40, 90", "not read: suite 'mine', revision 'stage1-step50"),
    ):
        assert part in output
    report = (tmp_path / "out" / "report.md").read_text()
    for step, (kind, _) in TOLD.items():
        (row,) = re.findall(rf"^\| {name(step)} \|.*$", report, re.M)
        assert standin.commit(REPOSITORY, name(step)) in row
        assert kind in row or kind == "unrelated"
    ask = re.search(r"curl -sL -r (\d+)-(\d+) (\S+) \| sha256sum", report)
    assert ask is not None and standin.commit(REPOSITORY, name(20)) in ask[3]
    assert ask[3].startswith(f"{standin.endpoint}/{REPOSITORY}/resolve/")
    assert weight_files_of(branches[name(20)]) == [ask[3].rsplit("/", 1)[1]]
    assert f"trajectory suites doctor mine --config {config}" in report
    svg = (tmp_path / "out" / "path-mine.svg").read_text()
    assert f">{name(20)}<" in svg and f">{name(110)}<" not in svg
    assert "https://cdn" not in (tmp_path / "out" / "path-mine.html").read_text()


PYTHIA = [0, *(2**n for n in range(10)), *range(1000, 144_000, 1000)]
"""The 154 steps that each of the suite's models was published at."""


def whole_suite() -> dict[str, bytes]:
    """Weight files of a Pythia's 154 branches: the warm-up's twins, and an even walk."""
    generator = torch.Generator().manual_seed(0)
    now = {
        f"layers.{n}.{part}.weight": torch.randn(40, 40, generator=generator)
        for n in range(4)
        for part in ("up", "down")
    }
    found = {}
    for before, step in zip([0, *PYTHIA], PYTHIA, strict=False):
        if step > 2:  # the first updates are lost in float16
            size = 0.01 * ((step - before) / 1000) ** 0.5
            now = {
                key: w + size * torch.randn(w.shape, generator=generator) for key, w in now.items()
            }
        found[f"step{step}"] = save({key: w.half() for key, w in now.items()})
    return found


@pytest.mark.thorough
def test_a_whole_suite_of_154_branches_is_told_on_one_screen(
    standin: StandIn, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajectory.cli.forensics.Hub", lambda fetch: hub)
    right = whole_suite()
    assert right["step0"] == right["step2"] != right["step4"]
    branches = dict(right)
    branches["step20000"], branches["step31000"] = right["step31000"], right["step20000"]
    wide = {key: w.float() for key, w in load(right["step90000"]).items()}
    branches["step55000"] = save(wide)
    # As on a Pythia of which the early branches were written over: with the warm-up's twins.
    for step in PYTHIA[:20]:
        branches[f"step{step}"] = right["step143000"]
    contents = {one: {"config.json": b"{}", SINGLE: data} for one, data in branches.items()}
    serve(standin, contents)
    config = tmp_path / "run.yaml"
    config.write_text(
        f"name: r\nresults: r\nsuites: {{pythia-410m: {{repository: {REPOSITORY}}}}}\n"
    )
    code, output = invoke("pythia-410m", "--config", config)
    lines = output.splitlines()
    assert (code, [line for line in lines if len(line) > 80]) == (1, []), output
    assert len(lines) < 30
    words = " ".join(output.split())
    told = re.match(
        r"pythia-410m: 3 of 154 revisions are suspicious, 20 more have another's files; "
        r"read ([\d.]+) MB in \d+ s, (\d+) kB of a revision at most",
        words,
    )
    assert told, output
    for part in (
        *("step20000 swapped with step 31000", "step55000 re-saved copy of step 90000"),
        "- step0 to step9000 (20 revisions): the files are those of step143000",
        "9 the last; letters are the table's.",
    ):
        assert part in words
    sent: Counter[str] = Counter()
    for one in standin.asked:
        if one.origin == "cdn":
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", one.range or "")
            assert span, "ranges alone"
            sent[one.path] += int(span[2]) - int(span[1]) + 1
    assert told[1] == f"{sent.total() / 1e6:.1f}"
    assert told[2] == f"{max(sent.values()) / 1e3:.0f}"
    assert len(sent) == len(set(branches.values()))


def weight_files_of(branch: Files) -> list[str]:
    return sorted(path for path in branch if path.endswith(".safetensors"))


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["suites", "doctor", *map(str, arguments)])
    if isinstance(done.exception, TrajectoryError):
        return 2, str(done.exception)
    return done.exit_code, done.stdout or done.stderr


def test_folders_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "good", honest())
    nano = {f"stage1-step{s}": stored(w) for s, w in states().items()}
    lay(tmp_path / "r" / "suites" / "nano-olmo", nano)
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    lay(tmp_path / "nameless", {"a": stored(states()[0]), "b": stored(states()[1])})
    (tmp_path / "c.yaml").write_text(
        "name: r\nresults: r\nsuites:\n  nano-olmo: {}\n  good: {folder: good}\n"
        "  empty: {folder: empty}\n  nameless: {folder: nameless}\n"
    )
    for suite in ("good", "nano-olmo"):
        code, told = invoke(suite, "--config", "c.yaml")
        assert code == 0, told
        assert f"{suite}: nothing suspicious among {len(STEPS)} revisions" in told
    for arguments, message in {
        ("empty", "--config", "c.yaml"): "suite 'empty': neither",
        ("nameless", "--config", "c.yaml"): "none of its 2 revisions has a name that states a step",
        ("other", "--config", "c.yaml"): "unknown suite 'other'; this config has: good, empty",
        ("pythia-14n",): "unknown suite 'pythia-14n'; did you mean 'pythia-14m'?",
        ("nano-olmo",): "name that run's config with --config",
        ("datadecide",): "suite 'datadecide' is a family of runs",
    }.items():
        code, told = invoke(*arguments)
        assert (code, told.count("\n")) == (2, 0)
        assert message in told
    assert "--every" in invoke("good", "--every", "0")[1]
    code, told = invoke("good", "--config", "c.yaml", "-o", "/proc/none")
    assert code == 2 and "cannot be written" in told


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DamagedFiles, match="no safetensors file"):
        read_headers(FolderReader(tmp_path, [SINGLE], "here"), "here")
    with pytest.raises(TrajectoryError, match="cannot be read"):
        FolderReader(tmp_path, ["gone"], "here")
