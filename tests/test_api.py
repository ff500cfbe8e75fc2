from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from project import python_code
from transformers import OlmoConfig, OlmoForCausalLM

from trajectory.api import forces, measure
from trajectory.errors import TrajectoryError
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer
from trajectory.probe.forces.keys import Keys

TEXTS = {
    "prose": ["Summer is warm. Winter is cold. " * 4, "Attention goes to the first token."],
    "code": ["def f(x):\n    return x + 1\n" * 3],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_tokenizer(train_tokenizer([t for ts in TEXTS.values() for t in ts], 300), folder, 128)
    torch.manual_seed(0)
    config = OlmoConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=0,
        pad_token_id=None,
    )
    OlmoForCausalLM(config).save_pretrained(folder)
    return folder


def test_three_lines_from_a_text_to_a_frame(checkpoint: Path) -> None:
    measured = measure(checkpoint, TEXTS)
    assert measured.heads.select("domain", "layer", "head").n_unique() == 2 * 2 * 2
    assert measured.layers.height == 2 * 3
    assert set(measured.losses) == {"prose", "code"}
    prepended = measure(checkpoint, TEXTS, first_token="eos_prepended")
    assert set(prepended.heads["sink_token"]) == {"<|endoftext|>"}


def test_a_text_is_measured_alike_alone_and_among_longer_ones(checkpoint: Path) -> None:
    """The padding that a longer neighbour brings changes nothing."""
    alone = measure(checkpoint, {"code": TEXTS["code"]})
    among = measure(checkpoint, {"prose": ["word " * 90], "code": TEXTS["code"]})
    code = among.heads.filter(domain="code")
    for name in ("sink_weight", "delta_logit", "delta_logit_lm", "value_ratio", "row_entropy"):
        assert code[name].to_list() == pytest.approx(alone.heads[name].to_list(), rel=1e-4)
    assert among.losses["code"] == pytest.approx(alone.losses["code"], rel=1e-5)


def test_what_cannot_be_measured_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match="domain 'x', text 0: fewer than two tokens"):
        measure(checkpoint, {"x": [""]})
    with pytest.raises(TrajectoryError, match="domain 'x': no texts"):
        measure(checkpoint, {"x": []})
    with pytest.raises(
        TrajectoryError,
        match="first_token 'bos', but its tokenizer has no bos token; choose eos_prepended or raw",
    ):
        measure(checkpoint, TEXTS, first_token="bos")
    with pytest.raises(TrajectoryError, match="no readable model config"):
        measure(tmp_path, TEXTS)
    shutil.copy(checkpoint / "config.json", tmp_path)
    with pytest.raises(TrajectoryError, match=r"no tokenizer in .*tokenizer=\.\.\."):
        measure(tmp_path, TEXTS)
    with pytest.raises(
        TrajectoryError, match="^OLMo-2-0425-1B: no such folder, and not a name on th"
    ):
        measure("OLMo-2-0425-1B", TEXTS)
    with pytest.raises(
        TrajectoryError, match="^OLMo-2-0425-1B: no such folder, and not a name on th"
    ):
        measure("OLMo-2-0425-1B", TEXTS, revision="main")


@pytest.mark.parametrize(
    ("texts", "arguments", "message"),
    [
        ({}, {}, "texts: give lists of texts by domain"),
        (["Summer is warm."], {}, "texts: give lists of texts by domain"),
        ({"x": [3]}, {}, "domain 'x', text 0: 3 is not a text"),
        (TEXTS, {"dtype": "fp32"}, "dtype 'fp32': choose one of float32, bfloat16, float16, floa"),
        (TEXTS, {"dtype": torch.float32}, "dtype torch.float32: choose one of float32, "),
        (TEXTS, {"statistics": "bfloat16"}, "statistics 'bfloat16': choose one of float64, float3"),
        (TEXTS, {"device": "gpu"}, "device 'gpu': choose one of cpu, cuda, mps, auto"),
        (TEXTS, {"first_token": "eos"}, "first_token 'eos': choose one of eos_prepended, bos, raw"),
        (TEXTS, {"length": -1}, "length -1: "),
        (TEXTS, {"length": 1}, "length 1: attention to the first token needs at least 2"),
    ],
)
def test_arguments_that_mean_nothing_are_named(
    checkpoint: Path, texts: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrajectoryError, match=f"^{message}"):
        measure(checkpoint, texts, **arguments)


def test_one_text_needs_no_list(checkpoint: Path) -> None:
    text = TEXTS["prose"][0]
    alone, listed = measure(checkpoint, {"x": text}), measure(checkpoint, {"x": [text]})
    assert alone.losses == listed.losses


def test_two_tokens_are_enough(checkpoint: Path) -> None:
    assert measure(checkpoint, TEXTS, length=2).heads.height == 8


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"tokenizer_config.json": ["own.Own", None]},
            r"tokenizer is custom code \(to",
        ),
        (
            {"tokenizer_config.json": {"AutoTokenizer": [None, "own.Own"]}},
            "tokenizer is custom code",
        ),
        (
            {"config.json": {"AutoTokenizer": "own.Own"}},
            r"tokenizer is custom code \(co",
        ),
        ({"config.json": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}, ""),
    ],
)
def test_code_that_lies_beside_a_checkpoint_is_never_run(
    checkpoint: Path, tmp_path: Path, config: dict, message: str
) -> None:
    """Not even where somebody, or a script, answers y to a library's question."""
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w').close()\n")
    for name, own in config.items():
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**values, "auto_map": own}))
    code = (
        "import sys\nfrom trajectory.api import measure\nfrom trajectory.errors import *\n"
        "try: print(measure(sys.argv[1], {'x': 'abcabc'}).losses)\n"
        "except TrajectoryError as error: print('refused:', error)"
    )
    done = subprocess.run(
        python_code(code, folder), input="y\n" * 9, capture_output=True, text=True, check=True
    )
    assert not (tmp_path / "RAN").exists()
    assert "[y/N]" not in done.stdout
    (line,) = done.stdout.splitlines()
    assert re.match(f"refused: .*{message}" if message else r"\{'x': ", line), line


def test_forces_are_measured_by_hand(checkpoint: Path) -> None:
    """The force is escape and brake; the final norm undoes the length of the last stream."""
    texts = {"code": [f"def f{n}(x):\n    return x + {n}\n" * 4 for n in range(3)]}
    found = forces(checkpoint, texts, length=40, keys=Keys(positions=(1, 3)))
    assert set(found.forces["key"]) == {"sink", "position 1", "position 3"}
    assert set(found.forces["sequences"]) == {3}
    whole = found.forces["escape"] + found.forces["brake"]
    assert found.forces["sink_force"].to_list() == pytest.approx(whole.to_list(), abs=1e-12)
    peak = dict(found.layers.select("layer", "peak_force").iter_rows())
    assert abs(peak[2]) < 0.1 * abs(peak[1])
    chosen = found.forces.drop_nulls("coupling")
    assert chosen.height == found.arrows.height == 2 * 3  # a lead head per layer, three keys
    assert set(chosen["readers"]) == {"late"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"texts": {"code": ["def f(x): return x + 1\n" * 6]}}, "one sequence"),
        ({"keys": Keys(positions=(90,))}, "position 90"),
        ({"keys": Keys(positions=(), tokens=("no such token",))}, "no such token"),
        ({"heads": ((1, 7),)}, "no head 7"),
        ({"length": 12}, "late readers"),
    ],
)
def test_forces_of_nothing_are_refused(
    checkpoint: Path, changed: dict[str, Any], told: str
) -> None:
    texts = {"code": [f"def f{n}(x):\n    return x + {n}\n" * 4 for n in range(2)]}
    given = {"texts": texts, "length": 40, "arrows": False, **changed}
    with pytest.raises(TrajectoryError, match=told) as raised:
        forces(checkpoint, **given)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_may_lie_beside_its_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    """In a folder for all of them, in the one above, or anywhere that is named."""
    names = [path.name for path in checkpoint.iterdir() if "token" in path.name]
    whole = measure(checkpoint, TEXTS).losses
    for place in ("tokenizer", ".", "elsewhere/deep"):
        run = tmp_path / place.replace("/", "-")
        alone = shutil.copytree(checkpoint, run / "checkpoint-500")
        (run / place).mkdir(parents=True, exist_ok=True)
        for name in names:
            (alone / name).rename(run / place / name)
        given = {"tokenizer": run / place} if "deep" in place else {}
        assert measure(alone, TEXTS, **given).losses == whole
    with pytest.raises(TrajectoryError, match="tokenizer: nowhere: no such folder"):
        measure(checkpoint, TEXTS, tokenizer="nowhere")


def test_half_a_character_is_named(checkpoint: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"domain 'x', text 1: .*place 1 \(U\+D800\)"):
        measure(checkpoint, {"x": ["ab", "a\ud800b"]})


def test_what_git_lfs_left_is_named(checkpoint: Path, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        folder = shutil.copytree(checkpoint, tmp_path / name)
        (folder / name).write_text(pointer)
        with pytest.raises(TrajectoryError, match=f"{name} is a git-lfs pointer; run git lfs pull"):
            measure(folder, TEXTS)
