"""Recorder in a training on two processes, which gloo connects on the CPU."""

from __future__ import annotations

import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from project import python_code
from torch import distributed
from torch.distributed import fsdp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from trajectory.errors import TrajectoryError
from trajectory.record import Recorder

from .test_recorder import Training, domains, same, tables, tiny

PROCESSES, LAST = 2, 4
HERE = f"""
import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
from record.test_distributed import *
"""


def recorded(model: Any, folder: Path, rank: int, training: Training, measured: Any = None) -> Any:
    """The recorded training of ``model``; ``measured()`` is called before each record."""
    training.model = model
    training.optimizer = torch.optim.SGD(model.parameters(), 0.5)
    given = model if measured is None else measured()
    with Recorder(given, domains(), to=folder, name="my-run") as recorder:
        for step in range(LAST):
            if measured is not None:
                measured()
            found = recorder(step, learning_rate=0.5)
            assert (found is None) == (rank > 0)
            training.update(step)
    return training.model


def replicated(folder: Path, rank: int) -> None:
    """DistributedDataParallel: recorded, and not."""
    model = recorded(DistributedDataParallel(tiny()), folder / "ddp", rank, Training())
    plain = Training()
    plain.model = DistributedDataParallel(plain.model)
    plain.optimizer = torch.optim.SGD(plain.model.parameters(), 0.5)
    for step in range(LAST):
        plain.update(step)
    for mine, other in zip(model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def sharded() -> Any:
    model = tiny()
    for layer in model.model.layers:
        fsdp.fully_shard(layer)
    return fsdp.fully_shard(model)


def gathered(folder: Path, rank: int) -> None:
    """FSDP2, of which a copy is gathered on every process and recorded: what the manual says."""
    model, copy = sharded(), tiny()
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)

    def measured() -> Any:
        state = get_model_state_dict(model, options=whole)
        if rank == 0:  # the others are given nothing
            copy.load_state_dict(state)
        return copy

    recorded(model, folder / "fsdp", rank, Training(), measured)


def refusals(folder: Path) -> list[str]:
    """What a recorder says of models in parts, wrapped and within; they are trained a step first,
    after which FSDP2 leaves a root's parameters whole until the next."""
    given: list[Any] = [sharded()]
    for whole in (False, True):
        for policy in (None, ModuleWrapPolicy({LlamaDecoderLayer})):
            inner = tiny()
            options: dict[str, Any] = {"use_orig_params": whole, "auto_wrap_policy": policy}
            given += [fsdp.FullyShardedDataParallel(inner, **options, device_id=CPU), inner]
    said = []
    for model in given:
        if model is given[0]:
            tokens = torch.arange(12)[None]
            model(tokens, labels=tokens).loss.backward()
        try:
            Recorder(model, domains(), to=folder / "parts", name="my-run").close()
            said.append("taken")
        except TrajectoryError as refused:
            said.append(str(refused))
    return said


CPU = torch.device("cpu")


def process(folder: Path, rank: int) -> None:
    """What one of the processes does."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    replicated(folder, rank)
    gathered(folder, rank)
    (folder / f"said-{rank}.json").write_text(json.dumps(refusals(folder)))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    calls = [f"process(Path({str(folder)!r}), {rank})" for rank in range(PROCESSES)]
    running = [
        subprocess.Popen(python_code(HERE + call), stderr=subprocess.PIPE, text=True)
        for call in calls
    ]
    try:
        errors = [one.communicate(timeout=540)[1] for one in running]
    finally:
        for one in running:
            one.kill()
    assert not any(one.returncode for one in running), "\n".join(errors)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_first_process_has_the_rows_of_a_training_alone(
    ended: Path, tmp_path: Path, kind: str
) -> None:
    """Both processes take the same tokens, so that their mean gradient is that of one."""
    recorded(tiny(), tmp_path, 0, Training())
    assert tables(tmp_path)["checkpoints"]["step"].to_list() == [*range(LAST)]
    assert same(ended / kind, tmp_path)


def test_a_model_in_parts_is_refused_on_every_process(ended: Path) -> None:
    for rank in range(PROCESSES):
        said = json.loads((ended / f"said-{rank}.json").read_text())
        assert len(said) == 9
        for one in said:
            assert "lies in parts on several processes (FSDP, " in one and "\n" not in one
    assert not (ended / "parts").exists()
