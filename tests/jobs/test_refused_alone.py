"""A checkpoint that is not what it should be fails alone, in one line; the others are measured."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from probe.test_families import batches, make
from safetensors.torch import load_file, save_file

from trajectory.checkpoints.manifest import manifest_rows
from trajectory.config import parse
from trajectory.config.suites import Suite
from trajectory.errors import DamagedFiles
from trajectory.hub.content import local_revision
from trajectory.jobs.bundle import measure_bundle
from trajectory.jobs.measure import measure_checkpoint
from trajectory.jobs.obtain import obtained
from trajectory.probe.remote import parse_header

STEPS = ("step1", "step2", "step3")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"

Change = Callable[[Path], None]


def config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def content(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content) and None


def sharded(weight_map: Any) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def rewrite(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors")

    return rewrite


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


REFUSED: dict[str, tuple[Change, str]] = {
    "no vocabulary": (config(vocab_size=0), "vocab_size is 0, which is not a size"),
    "a vocabulary of text": (config(vocab_size="x"), "no readable model config"),
    "no width": (config(hidden_size=0), "no readable model config"),
    "a million layers": (config(num_hidden_layers=10**6), "config says 1000000 layers"),
    "a million million layers": (config(num_hidden_layers=10**12), "which is not a size"),
    "no layers": (config(num_hidden_layers=0), "which is not a size"),
    "many heads": (config(num_attention_heads=10**9), "no readable model config|no model|wants"),
    "a type of half characters": (
        config(model_type="\ud800"),
        r"model type '\\ud800' is not supported",
    ),
    "a type of two lines": (config(model_type="a\nb\x1b[31m"), r"model type 'a\\nb\\x1b\[31m'"),
    "another family": (config(model_type="mamba"), "is not supported"),
    "a list of types": (config(model_type=["llama"]), "is not supported"),
    "a short context": (config(max_position_embeddings=4), "but its context is 4"),
    "unknown positions": (config(rope_scaling={"rope_type": "zzz"}), "zzz"),
    "an unknown activation": (config(hidden_act="zzz"), "its config describes no model"),
    "a list as config": (content("config.json", b"[1]"), "it holds a JSON list, not an object"),
    "a deep config": (content("config.json", b'{"a":' * 9999), "nested too deeply|JSON|Expecting"),
    "a config of bytes": (content("config.json", b"\xff\xfe"), "no readable model config"),
    "an lfs config": (content("config.json", POINTER), "is a git-lfs pointer; run git lfs pull"),
    "lfs weights": (content("model.safetensors", POINTER), "is a git-lfs pointer; run git lfs"),
    "a page": (content("model.safetensors", b"<!doctype html><p>no</p>"), "cannot be read"),
    "no bytes": (content("model.safetensors", b""), "cannot be read"),
    "cut weights": (cut, "cannot be read"),
    "a map of numbers": (sharded({"a": 1}), "weight_map does not name a file beside it"),
    "a map of lists": (sharded({"a": ["x"]}), "weight_map does not name a file beside it"),
    "a list as map": (sharded(["x"]), "weight_map does not name a file beside it"),
    "no map": (sharded(None), "weight_map does not name a file beside it"),
    "a map that leads out": (sharded({"a": "../step1/model.safetensors"}), "a file beside it"),
    "a map to nothing": (sharded({"a": "none.safetensors"}), "none.safetensors: cannot be read"),
    "a missing layer": (
        tensors(lambda t: [t.pop(n) for n in [*t] if "layers.1." in n]), "config says 4 layers"
    ),
    "a layer too many": (
        tensors(lambda t: t.update({"model.layers.9.x": torch.ones(1)})), "config says 4 layers"
    ),
    "a layer that is none": (
        tensors(lambda t: t.update({"model.layers.x.y": torch.ones(1)})),
        "a tensor of no layer: 'x' is no number",
    ),
    "odd names": (
        tensors(lambda t: t.update({"model.layers.0.a\nb\x1b[2J": torch.ones(1)})),
        r"model.layers.0.a\\nb\\x1b\[2J is \(1,\), the config wants none",
    ),
    "numbers that are none": (
        tensors(lambda t: t["model.layers.2.mlp.up_proj.weight"].fill_(torch.nan)), "not finite|NaN"
    ),
    "whole numbers": (
        tensors(lambda t: t.update({k: v.to(torch.int8) for k, v in t.items() if "mlp" in k})),
        "quantised weights are not measured",
    ),
}  # fmt: skip


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for seed, name in enumerate(STEPS):
        make(tmp_path / "suite" / name, "llama", seed)
    return tmp_path / "suite"


def measured(folder: Path, tables: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of ``bundle`` of a local suite, and the rows of each checkpoint that was measured."""
    values = {"name": "a", "results": str(tables), "suites": {"s": {"folder": str(folder)}}}
    run = parse(values)
    listed = manifest_rows("s", Suite(folder=folder), [local_revision(folder / n) for n in STEPS])
    rows = {row["revision"]: row for row in listed}
    found: dict[str, Any] = {}

    def measure(revision: str) -> tuple[dict[str, Any], dict[str, Any]]:
        with obtained(run, "s", rows[revision]) as checkpoint:
            return measure_checkpoint(rows[revision], checkpoint.folder, batches())

    def write(tables_: dict[str, Any], target: Path, facts: dict[str, Any]) -> None:
        found[target.name] = tables_

    return measure_bundle("s", dict.fromkeys(STEPS, "key"), tables, measure, write), found


@pytest.mark.parametrize("case", REFUSED)
def test_it_fails_alone_and_in_one_line(suite: Path, tmp_path: Path, case: str) -> None:
    change, message = REFUSED[case]
    change(suite / "step2")
    rows, found = measured(suite, tmp_path / "r")
    assert found.keys() == {"step1", "step3"}
    (failed,) = [row for row in rows if not row["measured"]]
    assert failed["revision"] == "step2"
    assert failed["reason"].isprintable()
    assert str(tmp_path) not in failed["reason"]
    with pytest.raises(AssertionError, match=f"^suite 's', revision 'step2': .*({message})"):
        raise AssertionError(failed["reason"])


@pytest.mark.parametrize(
    "values",
    [
        {"return_dict": False},
        {"torchscript": True},
        {"output_attentions": True, "output_hidden_states": True},
        {"_attn_implementation": "flash_attention_2", "use_cache": True},
        {"architectures": None, "transformers_version": "99.0"},
        {"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}},
        {"problem_type": "regression", "id2label": {"0": "x"}, "chunk_size_feed_forward": 7},
    ],
)
def test_what_changes_no_number_is_no_fault(
    suite: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    _, right = measured(suite, tmp_path / "right")
    config(**values)(suite / "step2")
    rows, found = measured(suite, tmp_path / "r")
    assert all(row["measured"] for row in rows), rows
    for name in ("heads", "layers"):
        assert found["step2"][name] == right["step2"][name]


def tensor(offsets: str = "[0,8]", shape: str = "[2]", name: str = "a", kind: str = '"F32"') -> str:
    return f'"{name}":{{"dtype":{kind},"shape":{shape},"data_offsets":{offsets}}}'


A = tensor()
HEADERS: dict[str, str | bytes] = {
    "sound": f"{{{A}}}",
    "metadata": f'{{"__metadata__":{{"format":"pt"}},{A}}}',
    "metadata of numbers": f'{{"__metadata__":{{"a":1}},{A}}}',
    "a list as metadata": f'{{"__metadata__":[],{A}}}',
    "no metadata": f'{{"__metadata__":null,{A}}}',
    "a space in front": f" {{{A}}}",
    "a space behind": f"{{{A}}} ",
    "text behind": f"{{{A}}}x",
    "a tensor twice": f"{{{A},{A}}}",
    "a key twice": f'{{{A[:-1]},"dtype":"F32"}}}}',
    "another key": f'{{{A[:-1]},"x":1}}}}',
    "negative offsets": f"{{{tensor('[-8,0]')}}}",
    "offsets the wrong way": f"{{{tensor('[8,0]')}}}",
    "three offsets": f"{{{tensor('[0,8,9]')}}}",
    "one offset": f"{{{tensor('[8]')}}}",
    "offsets of text": f"""{{{tensor('["0","8"]')}}}""",
    "offsets of fractions": f"{{{tensor('[0.0,8.0]')}}}",
    "offsets of exponents": f"{{{tensor('[0,8e0]')}}}",
    "overlapping": f"{{{A},{tensor('[4,12]', name='b')}}}",
    "the same bytes": f"{{{A},{tensor(name='b')}}}",
    "a gap": f"{{{A},{tensor('[9,17]', name='b')}}}",
    "a gap in front": f"{{{tensor('[1,9]')}}}",
    "a negative size": f"{{{tensor(shape='[-2]')}}}",
    "two negative sizes": f"{{{tensor(shape='[-2,-1]')}}}",
    "a true size": f"{{{tensor(shape='[true,2]')}}}",
    "a fraction of a size": f"{{{tensor(shape='[2.0]')}}}",
    "sizes beyond all numbers": f"{{{tensor('[0,16]', shape='[4611686018427387905,4]')}}}",
    "sizes of nothing": f"{{{tensor('[0,0]', shape='[0,9999999]')}}}",
    "no sizes": f"{{{tensor('[0,4]', shape='[]')}}}",
    "a shape that is none": f"{{{tensor(shape='2')}}}",
    "another size": f"{{{tensor(shape='[3]')}}}",
    "another type": f"""{{{tensor(kind='"F99"')}}}""",
    "a type in small letters": f"""{{{tensor(kind='"f32"')}}}""",
    "a list of types": f"""{{{tensor(kind='["F32"]')}}}""",
    "no type": '{"a":{"shape":[2],"data_offsets":[0,8]}}',
    "nothing": "{}",
    "a list": "[]",
    "a text": '"a"',
    "a tensor that is none": '{"a":1}',
    "not text": b'{"a\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    "half a character": f"{{{tensor(name='a' + chr(92) + 'ud800')}}}",
    "deep": '{"a":' * 5000,
}
SIZES = {
    "overlapping": 12, "a gap": 17, "a gap in front": 9, "sizes beyond all numbers": 16,
    "sizes of nothing": 0, "no sizes": 4, "nothing": 0,
}  # fmt: skip
"""Bytes of the tensors, where they are not eight."""


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_is_refused_where_safetensors_refuses_it(case: str) -> None:
    header = HEADERS[case]
    text = header.encode() if isinstance(header, str) else header
    whole = struct.pack("<Q", len(text)) + text + bytes(SIZES.get(case, 8))
    try:
        if case == "a tensor twice":  # of which safetensors takes the last
            raise safetensors.SafetensorError
        theirs = {n: t["shape"] for n, t in safetensors.deserialize(whole)}
    except safetensors.SafetensorError:
        with pytest.raises(DamagedFiles, match="^here: model.safetensors: .+$"):
            parse_header(text, "model.safetensors", "here")
        return
    assert {n: e.shape for n, e in parse_header(text, "x", "here").items()} == theirs
