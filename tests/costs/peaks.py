"""Peak memory of jobs on random checkpoints, each in a process of its own.

Run as a program: reads one job per line of its standard input, forks a process for each, which
starts with the libraries imported, and writes a line with its memory before and at its peak.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import polars  # as every command has it
import torch

from trajectory.config.forces import Forces
from trajectory.config.interventions import Interventions
from trajectory.corpus.tokens import TokenBatch
from trajectory.jobs.forces import forces_of
from trajectory.jobs.intervene import intervene
from trajectory.jobs.measure import measure_checkpoint
from trajectory.probe.compute import Compute

ROW = {
    **{"suite": "s", "trajectory": "s", "step": 1, "tokens": None, "revision": "a"},
    **{"commit": "0" * 40, "verdict": "good"},
}
SMALL = {"layers": 2, "heads": 2, "width": 32, "mlp": 64, "vocabulary": 64}


def make(kind: str, folder: Path, sizes: dict[str, int], dtype: str = "float32") -> None:
    """Write a random checkpoint, once."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if folder.exists():
        return
    heads, width = sizes["heads"], sizes["width"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        **{"hidden_size": width, "num_hidden_layers": sizes["layers"]},
        **{"num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": width // heads},
        **{"intermediate_size": sizes["mlp"], "vocab_size": sizes["vocabulary"]},
        **{"pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
        max_position_embeddings=1024,
        tie_word_embeddings=kind == "gemma2",
        **({"num_local_experts": 4, "num_experts_per_tok": 2} if kind == "gpt_oss" else {}),
    )
    AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).save_pretrained(folder)


def peak() -> int:
    """Most bytes of this process that were resident; a fork begins anew, unlike ru_maxrss."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def do(job: dict[str, Any], folder: Path, sequences: int, length: int, vocabulary: int) -> None:
    """Measure, intervene in or measure the forces of a checkpoint."""
    tokens = torch.randint(0, vocabulary, (sequences, length))
    texts = [[str(token) for token in line] for line in tokens.tolist()]
    batches = [TokenBatch("x", tokens, texts, "raw")]
    compute = Compute.of("cpu", job["dtype"], job["statistics"])
    settings = job["settings"]
    if "forces" in settings:
        forces_of(ROW, folder, batches, Forces.model_validate(settings["forces"]), compute)
    elif "interventions" in settings:
        changes = Interventions.model_validate(settings["interventions"])
        intervene(ROW, folder, batches, changes, compute)
    else:
        rounded = settings.get("rounded_loss", False)
        measure_checkpoint(ROW, folder, batches, compute=compute, rounded=rounded)


def answer(job: dict[str, Any]) -> list[int]:
    """Bytes before the job and at its peak. A small one is done before, so that what is only
    imported when it is needed counts as the process."""
    small = Path(job["small"])
    make(job["kind"], small, SMALL)
    do(job, small, 2, 32, SMALL["vocabulary"])
    before = peak()
    do(job, Path(job["folder"]), job["sequences"], job["length"], job["sizes"]["vocabulary"])
    return [before, peak()]


def serve() -> None:
    """Answer until the input ends; a job that fails ends with the process."""
    assert polars
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        for work in (
            lambda job=job: make(job["kind"], Path(job["folder"]), job["sizes"], job["stored"]),
            lambda job=job: print(json.dumps(answer(job)), flush=True),
        ):
            child = os.fork()
            if not child:
                work()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(f"the job failed: {line}")


if __name__ == "__main__":
    serve()
    os._exit(0)  # freeing the libraries takes seconds
