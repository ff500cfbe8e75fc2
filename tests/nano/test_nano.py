from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trajectory.checkpoints.manifest import list_embedded
from trajectory.checkpoints.names import RevisionName, parse_revision, revision_name
from trajectory.config import NanoOlmo, Probe
from trajectory.corpus import stdlib
from trajectory.corpus.tokens import cut, spread
from trajectory.errors import TrajectoryError
from trajectory.hub.errors import Altered
from trajectory.jobs.batches import make_batches, read_batches
from trajectory.jobs.measure import measure_checkpoint
from trajectory.jobs.obtain import local
from trajectory.nano import pretrain as nano
from trajectory.nano import training as pretraining
from trajectory.schemas import BATCHES, MANIFEST, TABLES
from trajectory.tables import from_rows, read, write

TINY = NanoOlmo(
    width=16,
    heads=2,
    mlp=24,
    vocabulary=512,
    length=16,
    batch=2,
    steps=4,
    checkpoints=[0, 2, 4],
    warmup=2,
)
REVISIONS = ["stage1-step0", "stage1-step2", "stage1-step4"]


@pytest.fixture(scope="module", autouse=True)
def short_texts() -> object:
    """A few documents of each domain: enough for the mechanics, a hundred times faster."""
    patch = pytest.MonkeyPatch()
    whole = stdlib.documents
    patch.setattr(stdlib, "documents", lambda domain: [t[:3000] for t in whole(domain)[:40]])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    nano.pretrain(TINY, folder)
    return folder


@pytest.fixture
def listed(suite: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Manifest and batches of the suite."""
    manifest, batches = tmp_path / "manifest.parquet", tmp_path / "batches.parquet"
    write(from_rows(list_embedded("nano-olmo", suite, REVISIONS), MANIFEST), MANIFEST, manifest, {})
    probe = Probe(sequences=3, length=16)
    rows = make_batches("nano-olmo", suite / "tokenizer", probe)
    write(from_rows(rows, BATCHES), BATCHES, batches, {})
    return manifest, batches


def test_revisions_are_ordinary_hugging_face_checkpoints(suite: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(suite / "tokenizer")
    assert tokenizer.eos_token == "<|endoftext|>"
    text = "def f(x):\n    return 'é' + x"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    weights = []
    for revision in REVISIONS:
        model = AutoModelForCausalLM.from_pretrained(suite / revision)
        assert model.config.model_type == "olmo"
        assert model.config.clip_qkv is None
        weights.append(model.lm_head.weight.detach().clone())
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert not list(suite.glob(".*")), "temporary folders left behind"


def test_pretraining_again_gives_the_same_checkpoints(suite: Path, tmp_path: Path) -> None:
    nano.pretrain(TINY, tmp_path)
    assert list_embedded("nano-olmo", tmp_path, REVISIONS) == list_embedded(
        "nano-olmo", suite, REVISIONS
    )


def test_manifest_states_step_tokens_and_learning_rate(suite: Path) -> None:
    rows = list_embedded("nano-olmo", suite, REVISIONS)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert [row["tokens"] for row in rows] == [0, 64, 128]
    rates = [pretraining.learning_rate(TINY, step) for step in range(5)]
    assert rates == pytest.approx([3e-3, 6e-3, 6e-3, 6e-3, 6e-3])
    assert [row["integrated_learning_rate"] for row in rows] == pytest.approx([0, 9e-3, 21e-3])
    assert len({row["commit"] for row in rows}) == 3


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"step": "0"}',
        b'{"step": 0, "tokens": 1e400}',
    ],
)
def test_a_training_state_that_says_something_else_is_one_line(
    suite: Path, tmp_path: Path, text: bytes
) -> None:
    folder = Path(shutil.copytree(suite, tmp_path / "suite"))
    (folder / REVISIONS[0] / "training_state.json").write_bytes(text)
    with pytest.raises(TrajectoryError, match=rf"{REVISIONS[0]}': incomplete \(") as caught:
        list_embedded("nano-olmo", folder, REVISIONS)
    assert "\n" not in str(caught.value)


def test_measuring_takes_the_manifest_path(suite: Path, listed: tuple[Path, Path]) -> None:
    manifest, batches = listed
    row = next(r for r in read(manifest, MANIFEST).to_pylist() if r["step"] == 4)
    folder = local(suite / row["revision"], row["commit"], "here")
    rows, facts = measure_checkpoint(row, folder, read_batches(batches))
    for name, found in rows.items():
        from_rows(found, TABLES[name])
    assert {row["domain"] for row in rows["heads"]} == {"prose", "code"}
    assert {row["step"] for row in rows["checkpoints"]} == {4}
    assert {row["sink_token"] for row in rows["heads"]} == {"<|endoftext|>"}
    assert rows["checkpoints"][0]["commit"] == facts["commit"]
    # An untrained model of 512 tokens is near the uniform loss, ln 512 = 6.24.
    assert all(5 < row["loss"] < 7 for row in rows["checkpoints"])
    bare, _ = measure_checkpoint(row, folder, read_batches(batches), losses=False)
    assert {row["loss"] for row in bare["checkpoints"]} == {None}
    assert bare["heads"] == rows["heads"]


def test_checkpoints_that_are_not_the_listed_ones_are_refused(
    suite: Path, listed: tuple[Path, Path], tmp_path: Path
) -> None:
    rows = {r["revision"]: r for r in read(listed[0], MANIFEST).to_pylist()}
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "stage1-step2").mkdir()
    for path in (suite / "stage1-step4").iterdir():
        (copy / "stage1-step2" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(Altered, match="'stage1-step2': its files changed since"):
        local(copy / "stage1-step2", rows["stage1-step2"]["commit"], "revision 'stage1-step2'")
    with pytest.raises(TrajectoryError, match="training state says step 4"):
        list_embedded("nano-olmo", copy, ["stage1-step2"])
    with pytest.raises(TrajectoryError, match="'stage1-step0': incomplete"):
        list_embedded("nano-olmo", copy, ["stage1-step0"])


def test_batches_are_held_out_text_with_the_policy_s_first_token(suite: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(suite / "tokenizer")
    for policy in ("eos_prepended", "raw"):
        rows = make_batches(
            "nano-olmo", suite / "tokenizer", Probe(sequences=5, length=20, first_token=policy)
        )
        assert {len(row["tokens"]) for row in rows} == {20}
        assert all((row["texts"][0] == "<|endoftext|>") for row in rows) == (
            policy == "eos_prepended"
        )
        for row in rows:
            held_out = stdlib.split(stdlib.documents(row["domain"]))[1]
            body = [t for t in row["tokens"] if t != tokenizer.eos_token_id]
            longest = tokenizer.decode(body)
            if len(body) == len(row["tokens"]) - (policy == "eos_prepended"):
                assert any(longest in text for text in held_out)
        assert rows[0]["domain"] == "prose"


def test_prompts_are_sequences_as_they_are(suite: Path, tmp_path: Path) -> None:
    probe = Probe(domains=["prose"], prompts={"asked": ["Summer is warm.", "Winter"]}, sequences=2)
    rows = make_batches("nano-olmo", suite / "tokenizer", probe)
    tokenizer = AutoTokenizer.from_pretrained(suite / "tokenizer")
    asked = [row for row in rows if row["domain"] == "asked"]
    assert [tokenizer.decode(row["tokens"]) for row in asked] == ["Summer is warm.", "Winter"]
    assert {row["first_token"] for row in asked} == {"raw"}
    path = tmp_path / "b.parquet"
    write(from_rows(rows, BATCHES), BATCHES, path, {})
    found = {batch.domain: batch for batch in read_batches(path)}
    prose, prompts = found["prose"], found["asked"]
    assert prose.lengths is None
    assert prompts.lengths is not None
    assert prompts.lengths.tolist() == [len(row["tokens"]) for row in asked]
    row = list_embedded("nano-olmo", suite, ["stage1-step4"])[0]
    measured, _ = measure_checkpoint(row, suite / "stage1-step4", [prose, prompts])
    assert {r["domain"] for r in measured["heads"]} == {"prose", "asked"}


def test_prose_and_code_split_without_overlap() -> None:
    for domain in ("prose", "code"):
        train, held_out = stdlib.split(stdlib.documents(domain))
        assert train
        assert held_out
        assert not set(train) & set(held_out)


def test_a_text_shorter_than_a_sequence_is_refused() -> None:
    import numpy as np

    ids = np.arange(10)
    assert spread(ids, 1, 11, first=99).tolist() == [[99, *range(10)]]
    with pytest.raises(TrajectoryError, match="10 tokens of text, fewer than one sequence of 11"):
        spread(ids, 1, 12, first=99)
    assert cut(ids, np.array([2, 5]), 3, None).tolist() == [[2, 3, 4], [5, 6, 7]]


def test_a_vocabulary_the_texts_cannot_fill_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="yield .* BPE tokens, not 5000"):
        nano.train_tokenizer(["abc abc"], 5000)


def test_revision_names() -> None:
    assert parse_revision(revision_name(12)) == RevisionName(1, None, 12)
