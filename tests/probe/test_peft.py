"""Models that PEFT has wrapped: their rows are those of the merged model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from trajectory.errors import TrajectoryError
from trajectory.probe.in_memory import ModelInMemory
from trajectory.probe.language_model import measure_model

from .test_families import batches, make
from .test_in_memory import close

peft: Any = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")  # of PEFT, about transformers and itself
    for kind in ("FutureWarning", "DeprecationWarning", "UserWarning")
]

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ADAPTERS = {
    "lora": {"target_modules": ATTENTION},
    "lora-everywhere": {"target_modules": "all-linear"},
    "lora-read-out": {"target_modules": [*ATTENTION, "lm_head"]},
    "rslora-dora": {"target_modules": ATTENTION, "use_rslora": True, "use_dora": True},
    "saved-modules": {"target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens"]},
}


def adapted(model: Any, **options: Any) -> Any:
    """Adapters that do something: a new LoRA's second factor is zero."""
    torch.manual_seed(5)
    config = peft.LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **options)
    found = peft.get_peft_model(model, config)
    for name, parameter in found.named_parameters():
        if "modules_to_save" in name:
            parameter.data += torch.randn_like(parameter) / 20
    return found


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_of_peft_are_measured_as_if_merged(tmp_path: Path, kind: str) -> None:
    model, made = make(tmp_path, "llama").double(), batches()  # merging rounds
    plain = measure_model(ModelInMemory(copy.deepcopy(model)), made)
    wrapped = adapted(model, **ADAPTERS[kind])
    before = copy.deepcopy(wrapped.state_dict())
    found = measure_model(ModelInMemory(wrapped.train()), made)
    assert all(torch.equal(value, wrapped.state_dict()[name]) for name, value in before.items())
    assert all(module.training for module in wrapped.modules())
    expected = measure_model(ModelInMemory(wrapped.merge_and_unload()), made)
    close(found, expected, 1e-7)
    sinks = ([row["sink_weight"] for row in one.heads] for one in (plain, expected))
    assert next(sinks) != pytest.approx(next(sinks), abs=1e-4)


def test_adapters_that_are_off_are_not_measured(tmp_path: Path) -> None:
    model, made = make(tmp_path, "llama"), batches()
    plain = measure_model(ModelInMemory(copy.deepcopy(model)), made)
    wrapped = adapted(model, target_modules=ATTENTION)
    with wrapped.disable_adapter():
        close(measure_model(ModelInMemory(wrapped), made), plain, 1e-6)


def test_learned_prompts_are_refused_in_one_line(tmp_path: Path) -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    wrapped = peft.get_peft_model(make(tmp_path, "llama"), config)
    with pytest.raises(TrajectoryError, match="^model: an adapter of learned prompts is not meas"):
        ModelInMemory(wrapped)
