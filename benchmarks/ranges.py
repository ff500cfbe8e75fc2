"""Streaming a checkpoint over a rate-limited loopback: time and bytes, against their bounds.

python benchmarks/ranges.py            # OLMo-2-1B's shape in bfloat16, 3.0 GB, at 100 MB/s
python benchmarks/ranges.py --small    # a tenth of a second of it, to see that it runs

Three measurements of the same checkpoint: the needed tensors transferred and nothing computed; the
same computation from local files; and the stream, where the next layer arrives while one computes.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch
from safetensors.torch import save_file

from tests.hub.server import Content, StandIn, serving
from tests.hub.suites import REPOSITORY, architecture
from trajectory.config import parse
from trajectory.corpus.tokens import TokenBatch
from trajectory.hub.client import Hub
from trajectory.jobs.obtain import obtained
from trajectory.probe.language_model import measure_checkpoint_files

BRANCH = "stage1-step1000"
SHAPE = {
    "vocab_size": 100352,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 4096,
}
SMALL = {**SHAPE, "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 512,
         "num_hidden_layers": 4}  # fmt: skip


def make(folder: Path, shape: dict[str, int]) -> None:
    """A checkpoint of that shape with random weights, tensors in the order of the layers."""
    config = architecture(**shape)
    config.architectures = ["Olmo2ForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    width, mlp, vocabulary = (shape[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * 0.02).to(torch.bfloat16)

    tensors = {"model.embed_tokens.weight": matrix(vocabulary, width)}
    ones = torch.ones(width, dtype=torch.bfloat16)
    for layer in range(shape["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{prefix}self_attn.{name}.weight"] = matrix(width, width)
        tensors[f"{prefix}mlp.gate_proj.weight"] = matrix(mlp, width)
        tensors[f"{prefix}mlp.up_proj.weight"] = matrix(mlp, width)
        tensors[f"{prefix}mlp.down_proj.weight"] = matrix(width, mlp)
        for name in ("self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm",
                     "post_feedforward_layernorm"):  # fmt: skip
            tensors[f"{prefix}{name}.weight"] = ones.clone()
    tensors["model.norm.weight"] = ones.clone()
    tensors["lm_head.weight"] = matrix(vocabulary, width)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def stand_in(folder: Path, rate: float) -> StandIn:
    """A hub that holds the checkpoint, its weights mapped rather than read."""
    hub = StandIn()
    with (folder / "model.safetensors").open("rb") as handle:
        weights = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    branch = {
        "config.json": Content((folder / "config.json").read_bytes()),
        "model.safetensors": Content(weights, large=True),
    }
    hub.repositories[REPOSITORY] = {BRANCH: branch}
    hub.commit(REPOSITORY, BRANCH)  # hash now
    hub.rate = rate
    return hub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rate", type=float, default=100e6, help="bytes per second")
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    shape = SMALL if asked.small else SHAPE
    if asked.folder is not None:
        torch.set_num_threads(asked.threads)
        compare(asked.folder, shape, asked)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        folder.mkdir()
        make(folder, shape)
        with serving(stand_in(folder, asked.rate)) as hub:
            # The endpoint is read when huggingface_hub is imported: by a process of its own.
            command = [sys.executable, __file__, *sys.argv[1:], "--folder", name]
            environment = {**os.environ, "HF_ENDPOINT": hub.endpoint}
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def compare(root: Path, shape: dict[str, int], asked: argparse.Namespace) -> None:
    """Print the three measurements and their ratios."""
    folder = root / "checkpoint"
    config = parse(
        {
            "name": "streaming",
            "results": str(root / "results"),
            "suites": {"s": {"repository": REPOSITORY, "weights": "stream", "loss": False}},
        }
    )
    hub = Hub(config.fetch, os.environ["HF_ENDPOINT"], root / "cache")
    row = {"revision": BRANCH, "commit": hub.refs(REPOSITORY)[BRANCH]}
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, shape["vocab_size"], (asked.sequences, asked.length),
                           generator=generator)  # fmt: skip
    texts = [[str(t) for t in line] for line in tokens.tolist()]
    batches = [TokenBatch("random", tokens, texts, "raw")]

    def sent() -> int:
        with urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/sent") as answer:
            return int(answer.read())

    ids = tokens.unique()
    with obtained(config, "s", row) as found:
        weights = found.weights
        assert weights is not None
        names = [n for n in weights.names() if "embed" not in n and "lm_head" not in n]
        size = sum(torch.Size(weights.shape(n)).numel() for n in names)
        needed = 2 * (size + len(ids) * shape["hidden_size"])
        sent()
        begun = time.perf_counter()
        weights.rows("model.embed_tokens.weight", ids, torch.bfloat16)
        layers: dict[str, list[str]] = {}
        for name in names:
            layers.setdefault(name.split(".")[2], []).append(name)
        for members in layers.values():
            weights.load(members, torch.bfloat16)
        transfer = time.perf_counter() - begun
        weights.close()

    begun = time.perf_counter()
    local = measure_checkpoint_files(folder, batches, losses=False)
    computing = time.perf_counter() - begun

    before = {p for p in root.rglob("*") if p.is_file()}
    sent()
    begun = time.perf_counter()
    with obtained(config, "s", row) as found:
        streamed = measure_checkpoint_files(
            found.folder, batches, weights=found.weights, losses=False
        )
    wall = time.perf_counter() - begun
    moved = sent()
    written = {p for p in root.rglob("*") if p.is_file()} - before
    assert not written, written
    assert streamed == local, "the same numbers"
    print(f"tensors needed            {needed / 1e9:8.3f} GB")
    print(
        f"bytes moved               {moved / 1e9:8.3f} GB   {moved / needed:.3f} x (wanted <= 1.05)"
    )
    print(f"transfer alone            {transfer:8.1f} s")
    print(f"computation alone         {computing:8.1f} s")
    ratio = wall / max(transfer, computing)
    print(f"streamed                  {wall:8.1f} s    {ratio:.2f} x the longer (wanted <= 1.2)")
    print("files written             0; rows identical to those from local files")


if __name__ == "__main__":
    main()
