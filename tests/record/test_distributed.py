"""Recorder in a training on several processes, which gloo connects on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

PROGRAM = """
import sys
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM
from trajectory.record import Recorder

torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank, folder, recorded = distributed.get_rank(), sys.argv[1], sys.argv[2] == "recorded"
torch.manual_seed(0)
sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(vocab_size=40, **sizes))
wrapped = DistributedDataParallel(model)
optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-2)
texts = {"mine": [[1, 5, 9, 3], [2, 5, 5, 8]]}
recorder = Recorder(wrapped, texts, to=f"{folder}/run", name="run") if recorded else None
mine = torch.Generator().manual_seed(rank)
for step in range(4):
    if recorder is not None:
        assert (recorder(step) is None) == (rank > 0)
    tokens = torch.randint(0, 40, (2, 12), generator=mine)
    wrapped(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
if recorder is not None:
    recorder.close()
torch.save(model.state_dict(), f"{folder}/{sys.argv[2]}-{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_the_first_process_records_and_all_train_as_they_would(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for kind in ("recorded", "plain"):
        done = subprocess.run(
            [*launch, tmp_path / "train.py", tmp_path, kind],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    states = [torch.load(path) for path in sorted(tmp_path.glob("*.pt"))]
    assert len(states) == 4
    for state in states:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())
    found = pl.read_parquet(tmp_path / "run/tables/checkpoints.parquet")
    assert found["step"].to_list() == [0, 1, 2, 3]
