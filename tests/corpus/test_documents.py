"""Long texts are encoded in pieces: the ids are those of the whole, at a fraction of the memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from project import python_code
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from trajectory.corpus import documents, tokens
from trajectory.corpus.characters import read_text
from trajectory.corpus.documents import Text, TextFile, between, encode, encode_start
from trajectory.corpus.tokenizer import TextTokenizer
from trajectory.errors import TrajectoryError

LLAMA3 = (
    r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PROSE = (
    "In 2023 there were 650841823 units; it's 12345.  Summer is warm.\n\n\tdef f(x):\n        "
    "return x + 1  # naïve café, Привет мир, 今年の夏は暑い。次の冬は寒い。🙂👩‍🔬 end\r\n"
)


def byte_level(*before: pre_tokenizers.PreTokenizer, regex: bool, **options: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    last = pre_tokenizers.ByteLevel(use_regex=regex, **{"add_prefix_space": False, **options})
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, last])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace(scheme: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return tokenizer


def as_llama_2() -> Tokenizer:
    """No pre-tokenizer: spaces are underlines, and words are not parted before they are merged."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


LAYOUTS = {
    "gpt2": lambda: byte_level(regex=True),
    "prefix space": lambda: byte_level(regex=True, add_prefix_space=True),
    "untrimmed": lambda: byte_level(regex=True, trim_offsets=False),
    "llama3": lambda: byte_level(pre_tokenizers.Split(Regex(LLAMA3), "isolated"), regex=False),
    "digits": lambda: byte_level(pre_tokenizers.Digits(individual_digits=True), regex=True),
    "metaspace": lambda: metaspace("always"),
    "metaspace first": lambda: metaspace("first"),
    "llama2": as_llama_2,
    "unigram": unigram,
}


@pytest.fixture(scope="module", params=LAYOUTS)
def encoder(request: pytest.FixtureRequest) -> Tokenizer:
    tokenizer = LAYOUTS[request.param]()
    options = {"vocab_size": 420, "special_tokens": ["<unk>", "</s>"], "show_progress": False}
    if request.param == "unigram":
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    elif tokenizer.decoder is not None:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    else:
        trainer = trainers.BpeTrainer(**options)
    lines = PROSE.split(".") * 9
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def whole(encoder: Tokenizer, text: str) -> list[int]:
    return list(encoder.encode(text, add_special_tokens=False).ids)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE", 97)
    monkeypatch.setattr(documents, "AROUND", 120)


@pytest.mark.usefixtures("small")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PROSE.split(" ")), min_size=5, max_size=200), st.integers(1, 60))
def test_pieces_give_the_ids_of_the_whole(encoder: Tokenizer, words: list[str], count: int) -> None:
    text = " ".join(words)
    right = whole(encoder, text)
    assert encode(encoder, Text(text)).tolist() == right
    assert encode_start(encoder, Text(text), count).tolist() == right[:count]


@pytest.mark.usefixtures("small")
def test_texts_of_any_length_are_one_run_of_tokens(encoder: Tokenizer) -> None:
    texts = ["", "one", PROSE * 3, "", "two.", PROSE, "x" * 90]
    right = [id_ for text in texts for id_ in [*whole(encoder, text), 1]]
    assert tokens.stream(encoder, texts, 1).tolist() == right


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("parts", [1, 40])
def test_sequences_of_long_texts_are_parts_of_the_whole_run(
    encoder: Tokenizer, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CHARACTERS", 12)
    one = "".join(f"{n} {PROSE}{n * n} " for n in range(40))
    texts = [Text(one)] if parts == 1 else [Text(f"{n} {PROSE}{n * n}") for n in range(parts)]
    run = f" {' '.join(map(str, tokens.stream(encoder, texts, 1).tolist()))} "
    rows = tokens.sampled(TextTokenizer(encoder, None, 1), texts, 9, 17, 7).tolist()
    assert len(rows) >= 7
    at = 0
    for row in rows:
        assert row[0] == 7
        wanted = f" {' '.join(map(str, row[1:]))} "
        at = run.index(wanted, at) + len(wanted) - 1  # in order, and no token twice


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_in_pieces_is_the_text(tmp_path: Path, ends: str, mark: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(mark + PROSE.replace("\r\n", "\n").replace("\n", ends).encode())
    found, right = TextFile(path), read_text(path)
    assert found.piece(0, len(found)) == right
    for size in (1, 2, 3, 7):
        parts = [found.piece(at, at + size) for at in range(0, len(found), size)]
        assert "".join(parts) == right
    assert found.piece(-5, 4) == right[:4]
    assert found.piece(len(found), len(found) + 9) == ""


@pytest.mark.parametrize("place", [0, 96, 97, 98, 300])
@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3", b"\x80\x80\x80\x80\x80", b"\xed\xa0\x80"])
@pytest.mark.usefixtures("small")
def test_what_is_no_utf_8_is_found_in_every_piece(tmp_path: Path, wrong: bytes, place: int) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"a" * place + wrong + b"b" * 200)
    with pytest.raises(TrajectoryError, match=rf"text\.txt: not UTF-8 text \(byte {place}\)"):
        TextFile(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(TrajectoryError, match=f"^{path}: cannot be read "):
            TextFile(path)


def test_half_a_character_is_named_by_its_place(
    encoder: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PIECE", 50)
    with pytest.raises(TrajectoryError, match=r"at place 203 \(U\+D800\)"):
        encode(encoder, Text("a bc" * 50 + "abc\ud800"))


BIG = """
import resource, sys, time
from pathlib import Path
import trajectory.probe.in_memory  # torch and transformers, which are there whatever is read
from trajectory.corpus.given import batches_of
from trajectory.config import Probe
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.jobs.batches import make_batches
folder, kind = Path(sys.argv[1]), sys.argv[2]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
given = {"domains": [], "first_token": "raw", "sequences": 64, "length": 64}
name = "big.parquet" if kind == "parquet" else "big.txt"
text = (folder / name).read_text() if kind == "measured" else ""
if kind == "file": given["texts"] = {"x": folder / name}
if kind == "parquet": given["parquet"] = {"x": {"source": str(folder / name)}}
before, started = peak(), time.monotonic()
if kind == "measured":
    (batch,) = batches_of({"x": [text]}, load_tokenizer(folder, "x"), 512, "raw", folder)
    found = batch.tokens
else:
    found = make_batches("s", folder, Probe.model_validate(given))
print(len(found), peak() - before, time.monotonic() - started)
"""


@pytest.mark.parametrize(("kind", "rows", "megabytes"), [
    ("file", 64, 60), ("measured", 1, 60), ("parquet", 64, 400),
])  # fmt: skip
def test_25_megabytes_cost_what_is_needed_of_them(
    tmp_path: Path, kind: str, rows: int, megabytes: int
) -> None:
    """As a file, as a text that is measured, and as one row of a Parquet file."""
    import polars as pl

    from .test_tokenizer import saved, trained

    saved(tmp_path, trained("split"), "llama")
    text = PROSE * (25_000_000 // len(PROSE.encode()))
    if kind == "parquet":
        frame = pl.DataFrame({"text": ["short", text, "short"]})
        frame.write_parquet(tmp_path / "big.parquet")
    else:
        (tmp_path / "big.txt").write_text(text)
    done = subprocess.run(
        python_code(BIG, tmp_path, kind), capture_output=True, text=True, check=True
    )
    found, more, seconds = map(float, done.stdout.split())
    assert found == rows
    assert more < megabytes, f"{more:.0f} MB"
    assert seconds < 10, f"{seconds:.1f} s"


def test_ids_of_windows_do_not_depend_on_where_they_are_cut(encoder: Tokenizer) -> None:
    text = Text(PROSE * 60)
    right = np.array(whole(encoder, text))
    parts = [between(encoder, text, at, at + 501) for at in range(0, len(text), 501)]
    assert np.concatenate(parts).tolist() == right.tolist()
