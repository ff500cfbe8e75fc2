"""Token batches with tokenizers that have their own ideas of a text's beginning and end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from trajectory.cli import app
from trajectory.config import Probe
from trajectory.corpus.tokens import TokenBatch, load_tokenizer, spread, stream
from trajectory.errors import TrajectoryError
from trajectory.jobs.batches import make_batches, read_batches

TEXT = "hello world. this is one text. " * 20
CHARACTERS = [*"abcdefghijklmnopqrstuvwxyz .,\n"]


def save_tokenizer(folder: Path, **special: str) -> None:
    """One token per character; it puts ``<s>`` before every text, as Llama's does."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<unk>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)
    fast.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')


def written(folder: Path, text: str, **probe: object) -> list[str]:
    """The sequences of one text file, each as one string."""
    (folder / "mine.txt").write_text(text)
    made = Probe.model_validate({"domains": [], "texts": {"mine": folder / "mine.txt"}, **probe})
    return ["".join(row["texts"]) for row in make_batches("s", folder, made)]


def test_the_tokenizer_s_own_first_token_is_not_added(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, bos_token="<s>", eos_token="</s>")
    size = {"sequences": 3, "length": 32}
    with_first = written(tmp_path, TEXT, first_token="bos", **size)
    assert with_first[0] == "<s>" + TEXT[:31]
    assert all(sequence.count("<s>") == 1 for sequence in with_first)
    assert written(tmp_path, TEXT, first_token="raw", **size)[0] == TEXT[:32]
    fast = load_tokenizer(tmp_path, tmp_path)
    joined = stream(fast.backend_tokenizer, ["ab", "c"], fast.eos_token_id)
    assert fast.convert_ids_to_tokens(joined.tolist()) == ["a", "b", "</s>", "c", "</s>"]


def test_a_tokenizer_without_an_end_of_text_token(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    assert written(tmp_path, TEXT, first_token="raw", sequences=1, length=32) == [TEXT[:32]]
    with pytest.raises(TrajectoryError, match="suite 's': first_token 'eos_prepended', but its"):
        written(tmp_path, TEXT, first_token="eos_prepended")


@given(st.integers(1, 40), st.integers(1, 60), st.integers(2, 20), st.booleans())
def test_sequences_never_overlap(wanted: int, size: int, length: int, prepended: bool) -> None:
    ids, body = np.arange(size), length - prepended
    first = 999 if prepended else None
    if size < body:
        with pytest.raises(TrajectoryError, match=f"{size} tokens? of text, fewer than one"):
            spread(ids, wanted, length, first)
        return
    found = spread(ids, wanted, length, first)[:, prepended:]
    assert len(found) == min(wanted, size // body)
    assert len(found.unique()) == found.numel()


def test_a_short_text_says_how_many_sequences_it_gave(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, bos_token="<s>", eos_token="</s>")
    (tmp_path / "mine.txt").write_text(TEXT[:100])
    (tmp_path / "config.yaml").write_text(
        "name: short\nresults: results\nsuites: {mine: {folder: run, first_token: bos}}\n"
        f"probe: {{domains: [], texts: {{short: {tmp_path}/mine.txt}}, sequences: 64, length: 32}}"
    )
    output = tmp_path / "batches.parquet"
    arguments = ["--tokenizer", tmp_path, "-o", output, "--config", tmp_path / "config.yaml"]
    done = CliRunner().invoke(app, ["suites", "batches", "mine", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "domain 'short': its text is enough for 3 sequences of 32 tokens" in done.output
    assert len(read_batches(output)[0].tokens) == 3


@pytest.mark.parametrize("damage", ["{", "{}", "[]", '{"model": 3}'])
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, damage: str) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(damage)
    with pytest.raises(TrajectoryError, match="^suite 's': no readable tokenizer [^\n]+$"):
        written(tmp_path, TEXT, first_token="raw")


def test_a_batch_s_digest_tells_padding_from_the_token_of_the_same_id() -> None:
    tokens = torch.tensor([[5, 6, 0], [7, 8, 9]])
    whole = TokenBatch("d", tokens, [], "raw")
    padded = TokenBatch("d", tokens, [], "raw", torch.tensor([2, 3]))
    assert whole.sha256 == TokenBatch("d", tokens, [], "raw", torch.tensor([3, 3])).sha256
    assert whole.sha256 != padded.sha256
