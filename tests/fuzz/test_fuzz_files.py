"""The same for files that libraries read: tokenizers, weights, texts and whole checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx2
import numpy as np
import polars as pl
import pytest
import torch
from corpus.test_tokenizer import saved, trained
from hypothesis import example, given, settings
from hypothesis import strategies as st
from probe.test_families import batches, make
from safetensors.numpy import save

from trajectory.config.strict import read_yaml
from trajectory.corpus.documents import TextFile
from trajectory.corpus.parquet import read_texts
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.hub import answers, refusals
from trajectory.hub.errors import CheckpointError
from trajectory.hub.http import _extent
from trajectory.probe.holds import FILE as HOLDS
from trajectory.probe.holds import read_holds
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.weights import LocalWeights

from .mutations import JSON, MANY, altered, bounded, damaged, many, quietly, tried

YAML = (
    "name: a\nresults: r\nsuites:\n  olmo2-1b: {select: {every: 4}}\nprobe: &p {length: 32}\n"
    "bb: {variants: {x: {steps: 1e3, seeds: [0, 1]}}}\nalso: *p\n"
)


@tried(damaged(YAML.encode()) | st.text(alphabet=":-{}[],&*!|>'\"%@`#? \nab01.\t<").map(str.encode))
@example(b"a: &a [*a]")
@example(b"a: !!python/object/apply:os.system [id]")
@example(b"? [a]\n: 1")
@example(b"? {a: b}\n: 1")
@example(b"a: !!float x")
@example(b"a: !!int ''")
@example(b"a: !!binary ;;;")
@example(b"a: 0b")
@example(b"a: 2024-99-99")
@example(b"--- a\n--- b")
def test_yaml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    quietly(lambda: read_yaml(path))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    folder = saved(tmp_path_factory.mktemp("tokenizer"), trained("split"), "llama", **config)
    values = json.loads((folder / "tokenizer.json").read_text())
    model = values["model"]  # as short as it can be: what is damaged is seldom the vocabulary
    kept = sorted(model["vocab"], key=model["vocab"].get)[:270]
    model["vocab"] = {token: n for n, token in enumerate(kept)}
    model["merges"] = [m for m in model["merges"] if {*m, "".join(m)} <= {*kept}]
    (folder / "tokenizer.json").write_text(json.dumps(values))
    return folder


def _encoded(folder: Path) -> list[list[int]]:
    return load_tokenizer(folder, "here").encode(["a text of 12 words\n\n'll <|endoftext|>", ""])


@tried(st.data())
def test_tokenizers(tmp_path: Path, tokenizer: Path, data: st.DataObject) -> None:
    folder = tmp_path / "t"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tokenizer, folder)
    name = data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json", "config.json"]))
    content = (folder / name).read_bytes()
    values = json.loads(content)
    if name == "tokenizer.json" and data.draw(st.booleans()):
        part = data.draw(st.sampled_from([k for k in values if k != "model"]))
        values[part] = data.draw(altered(values[part]))
        content = json.dumps(values).encode()
    elif data.draw(st.booleans()):
        content = data.draw(damaged(content))
    else:
        content = json.dumps(data.draw(altered(values))).encode()
    (folder / name).write_bytes(content)
    quietly(lambda: _encoded(folder))


VOCABULARY = {"a": 0, "b": 1, " ": 2, "aa": 3, "[UNK]": 4}
MODELS = [
    {"type": "BPE", "vocab": VOCABULARY, "merges": ["a a"], "unk_token": "[UNK]", "dropout": 0.1},
    {"type": "WordPiece", "vocab": VOCABULARY, "unk_token": "[UNK]", "max_input_chars_per_word": 9,
     "continuing_subword_prefix": "##"},
    {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "[UNK]"},
    {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]], "unk_id": 0, "byte_fallback": False},
]  # fmt: skip
PARTS = {
    "version": "1.0",
    "added_tokens": [{"id": 9, "content": "<s>", "single_word": False, "lstrip": False,
                      "rstrip": False, "normalized": False, "special": True}],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "a"},
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "FixedLength", "length": 5},
        {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False}]},
}  # fmt: skip


@tried(st.sampled_from(MODELS), st.data())
@example({"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": None}, None)
def test_tokenizers_of_every_model(tmp_path: Path, model: dict, data: st.DataObject | None) -> None:
    values: object = {"model": model}
    if data is not None:
        parts = data.draw(st.sets(st.sampled_from(sorted(PARTS))))
        values = data.draw(altered({"model": model, **{part: PARTS[part] for part in parts}}))
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    found = quietly(lambda: _encoded(tmp_path))
    assert found is None or found == quietly(lambda: _encoded(tmp_path)), "the same each time"


@tried(st.data())
def test_weights(tmp_path: Path, data: st.DataObject) -> None:
    made = save({name: np.ones((2, 3), np.float32) for name in ("a", "b")})
    (tmp_path / "model.safetensors").write_bytes(data.draw(damaged(made)))

    def read() -> dict[str, torch.Tensor]:
        weights = LocalWeights(tmp_path)
        return weights.load(weights.names(), torch.float32)

    quietly(read)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("parquet")
    frame = pl.DataFrame({"text": ["one", None, "two" * 50, "zwölf"], "n": range(4)})
    frame.write_parquet(folder / "plain", compression="uncompressed")
    frame.with_columns(pl.col("text").cast(pl.Categorical)).write_parquet(folder / "zstd")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@tried(st.data())
def test_texts_of_parquet_files(
    tmp_path: Path, parquet: dict[str, bytes], data: st.DataObject
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data.draw(damaged(parquet[data.draw(st.sampled_from(sorted(parquet)))])))
    found = quietly(lambda: read_texts(str(path), "text", 3))
    assert found is None or all(isinstance(text, str) and text for text in found)


@tried(
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
)
def test_texts(tmp_path: Path, tokenizer: Path, content: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    found = quietly(lambda: TextFile(path))
    if found is not None:
        assert found.piece(0, len(found)) == path.read_text(encoding="utf-8-sig")
    else:
        with pytest.raises(UnicodeDecodeError):
            content.decode()


LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(words) | LATIN
        for name, words in {
            "Link": ['<?cursor=1>; rel="next"', '<http://[::>; rel="next"', "<>; rel=next"],
            "Content-Range": ["bytes 0-1/2", "bytes 5-/*", f"bytes {'9' * 40}-1/2"],
            "Content-Length": ["1", "-1", "9" * 40],
            "ratelimit": ['"api";r=0;t=1', f'"api";r=0;t={"9" * 40}'],
            "ratelimit-policy": ['"fixed window";"api";q=500;w=300'],
            "Retry-After": ["1", "-1", "²", "9" * 400],
        }.items()
    },
)  # fmt: skip


@tried(HEADERS, st.sampled_from([200, 206, 302, 429, 503]))
def test_headers_of_answers(headers: dict[str, str], status: int) -> None:
    request = httpx2.Request("GET", "http://hub/api")
    pairs = [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
    response = httpx2.Response(status, headers=pairs, request=request)
    error = httpx2.HTTPStatusError("x", request=request, response=response)
    for read in (
        lambda: answers.next_page(response),
        lambda: refusals.window(response),
        lambda: refusals.asked_wait(error),
        lambda: _extent(response),
    ):
        with bounded():
            try:
                read()
            except (ValueError, httpx2.InvalidURL) as problem:
                assert isinstance(refusals.explain(problem, "here"), CheckpointError)


@tried(JSON | altered([{"kind": "hold_value", "layer": 0, "position": 0, "value": [[1.0]]}]))
@example([{"kind": "force_attention", "layer": "x", "position": None, "share": "y"}])
def test_holds(tmp_path: Path, value: object) -> None:
    (tmp_path / HOLDS).write_text(json.dumps(value))
    quietly(lambda: read_holds(tmp_path))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make(folder, "llama")
    return folder


MORE = (
    *("return_dict", "rope_scaling", "rope_theta", "sliding_window", "layer_types", "head_dim"),
    *("attn_implementation", "quantization_config", "torchscript", "output_attentions", "dtype"),
    *("num_labels", "id2label", "use_cache", "no_rope_layers", "auto_map", "transformers_version"),
)
"""Keys that the config does not have, and libraries read."""

ODD = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 7, 1e400, -0.0, "x", None, True, [], {}, [1], 2**40, 1e-30]),
    JSON,
)


@settings(many, max_examples=max(10, MANY // 20))
@given(st.data())
@example(None)
def test_configs_of_whole_checkpoints(
    tmp_path: Path, checkpoint: Path, data: st.DataObject | None
) -> None:
    """Each key of a config.json in turn given a value that nobody means."""
    values = json.loads((checkpoint / "config.json").read_text())
    if data is not None:
        for _ in range(data.draw(st.integers(1, 2))):
            values[data.draw(st.sampled_from([*values, *MORE]))] = data.draw(ODD)
    folder = tmp_path / "c"
    folder.mkdir(exist_ok=True)
    shutil.copy(checkpoint / "model.safetensors", folder)
    (folder / "config.json").write_text(json.dumps(values))
    found = quietly(lambda: measure_checkpoint_files(folder, batches()))
    assert found is not None or data is not None
