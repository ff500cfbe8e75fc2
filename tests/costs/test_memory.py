"""Memory as it is planned, against the peak of processes that do the job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trajectory.checkpoints.sizes import with_sizes
from trajectory.config import parse
from trajectory.config.known import Architecture
from trajectory.config.probe import Probe
from trajectory.config.suites import Suite
from trajectory.costs.estimates import (
    PROCESS,
    START,
    measuring_memory,
    measuring_seconds,
    memory_of,
)

SIZES = {"layers": 4, "heads": 8, "width": 512, "mlp": 2048, "vocabulary": 16000}

# Runs a small model first, so that what is only imported when it is needed counts as the process.
# VmHWM begins anew with a program; ru_maxrss does not.
JOB = """
import json, sys, torch
from pathlib import Path
from transformers import Olmo2Config, Olmo2ForCausalLM
import polars
from trajectory.corpus.tokens import TokenBatch
from trajectory.jobs.measure import measure_checkpoint
from trajectory.probe.compute import Compute

torch.set_num_threads(1)
given = json.loads(sys.argv[1])

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

def measure(folder, sequences, length, vocabulary):
    tokens = torch.randint(0, vocabulary, (sequences, length))
    texts = [[str(token) for token in line] for line in tokens.tolist()]
    row = {"suite": "s", "trajectory": "s", "step": 1, "tokens": None, "revision": "a",
           "commit": "0" * 40, "verdict": "good"}
    compute = Compute.of("cpu", given["dtype"], given["statistics"])
    batches, rounded = [TokenBatch("x", tokens, texts, "raw")], given.get("rounded_loss", False)
    measure_checkpoint(row, Path(folder), batches, compute=compute, rounded=rounded)

measure(given["small"], 1, 32, 64)
before = peak()
measure(given["large"], given["sequences"], given["length"], given["vocabulary"])
print(json.dumps([before, peak()]))
"""

MAKE = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

for kind, folder, layers, heads, width, mlp, vocabulary, dtype in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, hidden_size=width, num_hidden_layers=layers, intermediate_size=mlp,
        num_attention_heads=heads, num_key_value_heads=heads, vocab_size=vocabulary,
        max_position_embeddings=4096, tie_word_embeddings=kind == "gemma2", pad_token_id=None,
        bos_token_id=None, eos_token_id=None, head_dim=width // heads,
        **({"num_local_experts": 4, "num_experts_per_tok": 2} if kind == "gpt_oss" else {}),
    )
    AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).save_pretrained(folder)
"""


def python(code: str, argument: Any) -> str:
    command = [sys.executable, "-c", code, json.dumps(argument)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("models")
    large = [*SIZES.values()]
    made = [["olmo2", str(parent / dtype), *large, dtype] for dtype in ("float32", "bfloat16")]
    python(MAKE, [*made, ["olmo2", str(parent / "small"), 2, 2, 32, 64, 64, "float32"]])
    return parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "gpt_oss"])
@pytest.mark.parametrize(
    ("statistics", "sequences", "length"), [("float64", 1, 1024), ("float32", 16, 64)]
)
def test_capped_logits_and_experts_are_planned(
    tmp_path: Path, kind: str, statistics: str, sequences: int, length: int
) -> None:
    """The sizes are what the folder states."""
    small = [kind, str(tmp_path / "small"), 2, 2, 32, 64, 64, "float32"]
    python(MAKE, [[kind, str(tmp_path / "runs" / "step1"), *SIZES.values(), "float32"], small])
    of_probe = {"sequences": sequences, "length": length, "statistics": statistics}
    given = {"small": small[1], "large": str(tmp_path / "runs" / "step1"), "dtype": "float32"}
    given |= {**of_probe, "vocabulary": SIZES["vocabulary"]}
    before, peak = json.loads(python(JOB, given))
    run = {"name": "a", "results": "r", "suites": {"s": {"folder": str(tmp_path / "runs")}}}
    suite = with_sizes(parse(run), "s")
    planned = memory_of(suite, Probe.model_validate({"domains": ["prose"], **of_probe}))
    assert planned is not None
    assert 0.75 < (planned - PROCESS) / (peak - before) < 1.7, (planned, before, peak)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_losses_of_rounded_weights_are_planned(folders: Path) -> None:
    of_probe = {"sequences": 64, "length": 64, "statistics": "float32", "rounded_loss": True}
    given = {"small": str(folders / "small"), "large": str(folders / "float32"), **of_probe}
    given |= {"dtype": "float32", "vocabulary": SIZES["vocabulary"]}
    before, peak = json.loads(python(JOB, given))
    probe = Probe.model_validate({"domains": ["prose"], **of_probe})
    planned, plain = measuring_memory(sized(), probe), memory_of(sized(), probe)
    assert planned is not None and plain is not None and planned > plain
    assert 0.75 < (planned - PROCESS) / (peak - before) < 1.7, (planned, before, peak)
    seconds = [
        measuring_seconds(sized(), one, 1e11)
        for one in (probe, probe.model_copy(update={"rounded_loss": False}))
    ]
    assert seconds[0] - START == pytest.approx(3 * (seconds[1] - START))


def sized(stored: str = "float32") -> Suite:
    """The large model, as the registry would have it."""
    size, rows = SIZES["width"], SIZES["vocabulary"] * SIZES["width"]
    return Suite.model_validate(
        {
            "architecture": Architecture(**SIZES),
            "parameters": SIZES["layers"] * (4 * size**2 + 3 * size * SIZES["mlp"]) + 2 * rows,
            "dtype": stored,
        }
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("stored", "dtype", "statistics", "sequences", "length"),
    [
        ("float32", "float32", "float64", 1, 1024),
        ("float32", "float32", "float32", 16, 64),
        ("bfloat16", "float32", "float64", 1, 256),
    ],
)
def test_a_job_takes_what_is_planned(
    folders: Path, stored: str, dtype: str, statistics: str, sequences: int, length: int
) -> None:
    of_probe = {"sequences": sequences, "length": length, "dtype": dtype, "statistics": statistics}
    given = {"small": str(folders / "small"), "large": str(folders / stored), **of_probe}
    before, peak = json.loads(python(JOB, {**given, "vocabulary": SIZES["vocabulary"]}))
    planned = memory_of(sized(stored), Probe.model_validate({"domains": ["prose"], **of_probe}))
    assert planned is not None
    assert 0.6 * PROCESS < before < PROCESS
    assert 0.75 < (planned - PROCESS) / (peak - before) < 1.7, (planned, before, peak)
