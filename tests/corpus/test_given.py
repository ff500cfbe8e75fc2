"""What a caller holds as batches: files, carried texts, and how much of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trajectory.config import Probe
from trajectory.corpus import stdlib
from trajectory.corpus.given import batches_of
from trajectory.corpus.tokenizer import TextTokenizer, load_tokenizer
from trajectory.errors import TrajectoryError
from trajectory.jobs.batches import make_batches
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer

LENGTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(["Summer is warm. Winter is cold. "] * 4, 270), place, 64)
    return place


@pytest.fixture
def tokenizer(folder: Path) -> TextTokenizer:
    return load_tokenizer(folder, "test")


def test_carried_texts_are_cut_as_the_workflow_cuts_them(
    folder: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stdlib.documents
    monkeypatch.setattr(stdlib, "documents", lambda domain: [t[:600] for t in whole(domain)[:30]])
    probe = Probe(sequences=5, length=LENGTH, first_token="eos_prepended")
    rows = make_batches("s", folder, probe)
    given = ["prose", "code"]
    found = batches_of(given, tokenizer, LENGTH, "eos_prepended", "m", sequences=5)
    assert [batch.domain for batch in found] == given
    for batch in found:
        own = [row for row in rows if row["domain"] == batch.domain]
        assert batch.tokens.tolist() == [row["tokens"] for row in own]
        assert batch.texts == [row["texts"] for row in own]
    (alone,) = batches_of("code", tokenizer, LENGTH, "raw", "m")
    assert alone.tokens.shape == (16, LENGTH)


def test_a_file_is_cut_at_even_distances(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    text = "Summer is warm. " * 50
    path = tmp_path / "text.txt"
    path.write_text(text)
    (batch,) = batches_of({"x": path}, tokenizer, LENGTH, "raw", "m", sequences=3)
    ids = [*tokenizer.backend_tokenizer.encode(text).ids, tokenizer.eos_token_id]
    last = len(ids) - LENGTH
    assert batch.tokens.tolist() == [ids[n : n + LENGTH] for n in (0, round(last / 2), last)]
    (both,) = batches_of({"x": [path, path]}, tokenizer, LENGTH, "raw", "m", sequences=2)
    assert both.tokens[1].tolist() == ids[-LENGTH:]
    with pytest.raises(TrajectoryError, match="^domain 'x': .* fewer than one sequence of 4000"):
        batches_of({"x": path}, tokenizer, 4000, "raw", "m")
    with pytest.raises(TrajectoryError, match=r"none\.txt"):
        batches_of({"x": tmp_path / "none.txt"}, tokenizer, LENGTH, "raw", "m")


def test_of_texts_and_ids_the_first_sequences_are_taken(tokenizer: TextTokenizer) -> None:
    texts, ids = ["Summer is warm", "Winter is cold", "Summer"], [[1, 2], [3, 4], [5, 6]]
    given = {"texts": texts, "ids": ids}
    every = batches_of(given, tokenizer, LENGTH, "raw", "m")
    two = batches_of(given, tokenizer, LENGTH, "raw", "m", sequences=2)
    assert [len(batch.tokens) for batch in every] == [3, 3]
    assert [batch.texts for batch in two] == [
        [row[: len(two[n].texts[0])] for row in batch.texts[:2]] for n, batch in enumerate(every)
    ]
    for wrong, message in ((0, "sequences 0: at least one"), (-1, "sequences -1: at least one")):
        with pytest.raises(TrajectoryError, match=message):
            batches_of(given, tokenizer, LENGTH, "raw", "m", sequences=wrong)
    for name in ("verse", ["prose", "verse"]):
        with pytest.raises(
            TrajectoryError, match="names of domains that need none: prose, code, re"
        ):
            batches_of(name, tokenizer, LENGTH, "raw", "m")
