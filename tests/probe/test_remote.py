"""Tensors behind HTTP ranges: the same numbers, few bytes, and bad weather survived or named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from trajectory.config.fetch import Fetch
from trajectory.errors import TrajectoryError
from trajectory.hub import errors, http
from trajectory.hub.http import Client, Source
from trajectory.hub.ranges import Range, join
from trajectory.probe.compute import CPU
from trajectory.probe.families import Family, State
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.remote import RemoteWeights
from trajectory.probe.streaming import LayerReader
from trajectory.probe.weights import LocalWeights

from .ranges import Behaviour, serving
from .test_families import batches, make

QUICK = Fetch(timeout=2, patience=1)


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.05)


def at(url: str, folder: Path, fetch: Fetch = QUICK) -> RemoteWeights:
    files = {
        p.name: Source(f"{url}/{p.name}", p.name, p.stat().st_size)
        for p in folder.glob("*.safetensors")
    }
    return RemoteWeights(Client(fetch, url), files, "demo")


@contextmanager
def remote(folder: Path, behaviour: Behaviour) -> Iterator[RemoteWeights]:
    with serving(folder, behaviour) as url:
        weights = at(url, folder)
        try:
            yield weights
        finally:
            weights.close()


@pytest.mark.parametrize("case", ["olmo2", "gpt_neox"])
def test_a_checkpoint_behind_ranges_gives_the_same_rows(tmp_path: Path, case: str) -> None:
    model = make(tmp_path, case)
    local = measure_checkpoint_files(tmp_path, batches())
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    with serving(tmp_path / "shards", Behaviour()) as url:
        files = sorted((tmp_path / "shards").glob("*.safetensors"))
        assert len(files) > 3
        weights = at(url, tmp_path / "shards")
        measured = measure_checkpoint_files(tmp_path, batches(), weights=weights)
    assert (measured.heads, measured.layers, measured.losses) == (
        local.heads,
        local.layers,
        local.losses,
    )
    stored = sum(p.stat().st_size for p in files)
    assert 0.8 * stored < measured.bytes_read < 1.3 * stored


def test_only_what_is_asked_for_is_fetched(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    stored = {
        "embedding": torch.randn(5000, 64, generator=generator),  # 256 bytes a row
        "a": torch.randn(8, 16, generator=generator).to(torch.bfloat16),
        "b": torch.randn(3, 5, generator=generator).double(),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
    }
    save_file(stored, tmp_path / "model.safetensors")
    behaviour = Behaviour()
    local = LocalWeights(tmp_path)
    with remote(tmp_path, behaviour) as weights:
        assert sorted(weights.names()) == sorted(stored)
        for name, tensor in stored.items():
            assert weights.shape(name) == list(tensor.shape)
            assert torch.equal(weights.get(name, torch.float64), tensor.double())
        before, asked = weights.bytes_read, len(behaviour.asked)
        rows = torch.tensor([4000, 3, 4, 4001])
        found = weights.rows("embedding", rows, torch.float32)
        assert torch.equal(found, stored["embedding"][rows])
        assert torch.equal(found, local.rows("embedding", rows, torch.float32))
        assert len(behaviour.asked) - asked == 2, "neighbours come together"
        assert weights.bytes_read - before == 4 * 256
        block = weights.block("embedding", 10, 20, torch.float32)
        assert torch.equal(block, stored["embedding"][10:20])
        asked = len(behaviour.asked)
        several = weights.load(["a", "b", "scalar"], torch.float32)
        for name, tensor in several.items():
            assert torch.equal(tensor, stored[name].float())
        assert len(behaviour.asked) - asked == 2, "the embedding lies between two of them"
        with pytest.raises(TrajectoryError, match="demo: it has no tensor 'none'"):
            weights.get("none", torch.float32)


def test_bad_weather_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajectory.hub.ranges.PIECE", 1000)
    stored = {"a": torch.arange(5000, dtype=torch.float32)}
    save_file(stored, tmp_path / "model.safetensors")
    behaviour = Behaviour(refusals=[503, 429], break_after=[3], token="Bearer x")
    monkeypatch.setenv("HF_TOKEN", "x")
    with remote(tmp_path, behaviour) as weights:
        behaviour.refusals += [500, 429]
        behaviour.break_after += [0, 700, 17, 900, 1]
        assert torch.equal(weights.get("a", torch.float32), stored["a"])
        size = (tmp_path / "model.safetensors").stat().st_size
        assert weights.bytes_read == size, "no byte came twice"
        assert len(behaviour.asked) > 5000 * 4 / 1000 + 2, "some were asked for again"


def test_what_cannot_be_had_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1000)}, tmp_path / "model.safetensors")
    behaviour = Behaviour()
    with remote(tmp_path, behaviour) as weights:
        for refusal, kind in (
            (404, errors.UnknownFile),
            (403, errors.Refused),
            (503, errors.HubBroken),
        ):
            behaviour.refusals = [refusal] * 10_000
            with pytest.raises(kind, match=f"demo: .*{refusal}"):
                weights.get("a", torch.float32)
            behaviour.refusals = []
        behaviour.ignore_ranges = True
        with pytest.raises(errors.CheckpointError, match="the hub ignores ranges; set weights"):
            weights.get("a", torch.float32)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(errors.Unreachable, match="demo: no working connection"):
            at(url, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not a header at all")
    with pytest.raises(TrajectoryError, match="demo: model.safetensors: no safetensors header"):
        with remote(tmp_path, Behaviour()):
            pass


def test_a_busy_server_is_waited_for_by_time_not_by_attempts(tmp_path: Path) -> None:
    save_file({"a": torch.arange(1000)}, tmp_path / "model.safetensors")
    behaviour = Behaviour()
    with remote(tmp_path, behaviour) as weights:
        behaviour.refusals = [503] * 12
        assert torch.equal(weights.get("a", torch.int64), torch.arange(1000))
        assert not behaviour.refusals
        behaviour.refusals = [503] * 10_000
        begun = time.monotonic()
        with pytest.raises(errors.HubBroken, match="the hub answers 503"):
            weights.get("a", torch.int64)
        assert time.monotonic() - begun >= QUICK.patience
        assert behaviour.refusals, "and no longer than that"


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1000)}, tmp_path / "model.safetensors")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(errors.Unreachable, match="the hub does not answer in time"):
            at(url, tmp_path, Fetch(timeout=0.1, patience=0.2))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 500), st.integers(1, 60)), min_size=1),
    st.integers(0, 40),
    st.integers(2, 6),
)
def test_joined_ranges_cover_all_and_are_few(
    parts: list[tuple[str, int, int]], gap: int, most: int
) -> None:
    wanted = [Range(file, start, start + size) for file, start, size in parts]
    joined = join(wanted, gap, most)
    for part in wanted:
        assert any(
            span.file == part.file and span.start <= part.start and part.stop <= span.stop
            for span in joined
        )
    assert len(joined) <= most + 1  # a second file is a span of its own
    for before, after in pairwise(joined):
        assert before.file != after.file or after.start - before.stop > gap


def test_the_next_layer_arrives_while_one_is_converted(tmp_path: Path) -> None:
    """Otherwise the connection rests while a layer is converted, between every two layers."""
    make(tmp_path, "olmo2")
    arrived = threading.Event()

    class Watched(LocalWeights):
        def load(self, names: Iterable[str], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
            names = list(names)
            found = super().load(names, dtype)
            if any("layers.1." in name for name in names):
                arrived.set()
            return found

    def convert(state: State) -> State:
        assert arrived.wait(timeout=30), "layer 1 is not fetched before layer 0 is converted"
        return state

    reader = LayerReader(
        Watched(tmp_path), "model.layers.", Family(convert=convert), torch.float64, CPU
    )
    taken = reader.take(0)
    reader.close()
    assert taken["self_attn.q_proj.weight"].dtype == torch.float64
