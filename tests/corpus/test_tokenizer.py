"""Tokens are those of tokenizer.json, whatever class a config names; ends are told by id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from trajectory.config import Probe
from trajectory.corpus.kinds import ENDOFTEXT, token_kinds
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.jobs.batches import make_batches
from trajectory.probe.families import FAMILIES

SPLIT = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
LAYOUTS = {
    "split": [pre_tokenizers.Split(Regex(SPLIT), "isolated")],
    "digits": [pre_tokenizers.Digits(individual_digits=True)],
    "plain": [],
}
CLASSES = (
    *("GPT2Tokenizer", "GPT2TokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast"),
    *("LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"),
    *("PreTrainedTokenizerFast", "TokenizersBackend", "NoSuchTokenizer", None),
)
TEXT = "In 2023 there were 650841823 units; def f(x):\n    return 1999\n\nIt's 12345.  x"


def trained(layout: str = "plain", special: tuple[str, ...] = ("<|endoftext|>",)) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=layout == "plain")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*LAYOUTS[layout], bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*special], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT * 9], trainer)
    return tokenizer


def saved(
    folder: Path, tokenizer: Tokenizer, model_type: str | None = None, **config: object
) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if model_type is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("model_type", [*FAMILIES, None])
def test_ids_are_those_of_the_file(tmp_path: Path, layout: str, model_type: str | None) -> None:
    tokenizer = trained(layout)
    right = tokenizer.encode(TEXT, add_special_tokens=False).ids
    for name in CLASSES:
        folder = saved(
            tmp_path, tokenizer, model_type, tokenizer_class=name, eos_token="<|endoftext|>"
        )
        assert load_tokenizer(folder, folder).encode([TEXT]) == [right], name


def test_a_file_that_cuts_or_pads_texts_does_neither(tmp_path: Path) -> None:
    tokenizer = trained()
    right = tokenizer.encode(TEXT).ids
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=99)
    folder = saved(tmp_path, tokenizer)
    assert load_tokenizer(folder, folder).encode([TEXT, TEXT]) == [right, right]


@pytest.mark.parametrize("written", ["text", "added", "map", "id"])
@pytest.mark.parametrize("eos", ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "</s>", "[EOS]"])
def test_an_end_of_text_is_told_by_its_id(tmp_path: Path, eos: str, written: str) -> None:
    tokenizer = trained(special=("<unk>", eos))
    folder = saved(tmp_path / "t", tokenizer)
    if written == "text":
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    elif written == "added":
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": eos}}))
    elif written == "map":
        (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": eos}))
    else:
        (folder / "config.json").write_text(
            json.dumps({"model_type": "llama", "eos_token_id": [1]})
        )
    found = load_tokenizer(folder, folder)
    assert found.ends == [1]
    texts = [found.convert_ids_to_tokens([5, 1, 6, 1])]
    ends = torch.isin(torch.tensor([[5, 1, 6, 1]]), torch.tensor(found.ends))
    assert (token_kinds(texts, ends)[0] == ENDOFTEXT).tolist() == [False, True, False, True]


def probe(folder: Path, **values: object) -> Probe:
    given = {"domains": [], "sequences": 2, "length": 16, "first_token": "raw", **values}
    return Probe.model_validate(given)


CONSTANT = {"vocab": {"a": 0, "b": 1, "aa": 2, "[UNK]": 3}, "merges": ["a a"]}


def bare(folder: Path, model: dict, **parts: object) -> Path:
    """A tokenizer.json of a model and little else."""
    folder.mkdir(exist_ok=True)
    values = {"version": "1.0", "added_tokens": [], "model": model, **parts}
    (folder / "tokenizer.json").write_text(json.dumps(values))
    return folder


def test_a_text_has_the_same_tokens_each_time(tmp_path: Path) -> None:
    folder = bare(tmp_path, {"type": "BPE", "dropout": 0.5, **CONSTANT})
    found = load_tokenizer(folder, folder)
    assert found.encode(["aa" * 20] * 3) == [[2] * 20] * 3
    assert found.encode_prompt("aa" * 20) == [2] * 20


UNABLE = {
    "Unigram": {"unk_id": None, "vocab": [["a", -1.0], ["b", -2.0]]},
    "WordPiece": {
        "unk_token": "<x>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
        "vocab": CONSTANT["vocab"],
    },
    "WordLevel": {"unk_token": "<x>", "vocab": CONSTANT["vocab"]},
    "BPE": {"unk_token": "<x>", **CONSTANT},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*UNABLE, "panic", "backtracking"])
def test_a_tokenizer_that_cannot_read_a_text_is_one_line(tmp_path: Path, kind: str) -> None:
    """It lacks a token for what it does not know, or its library gives up."""
    regex = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    parts = {
        "panic": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        "backtracking": {"pre_tokenizer": {**regex, "invert": False}},
    }
    model = {"type": kind, **UNABLE[kind]} if kind in UNABLE else {"type": "BPE", **CONSTANT}
    folder = bare(tmp_path / "t", model, **parts.get(kind, {}))
    text = "ab" + "a" * 60 + "!" if kind == "backtracking" else "a word of z"
    where = "suite 's', domain 'mine'"
    with pytest.raises(TrajectoryError, match=f"^{where}: its tokenizer cannot read a") as caught:
        (tmp_path / "text").write_text(text)
        make_batches("s", folder, probe(folder, texts={"mine": tmp_path / "text"}))
    assert "\n" not in str(caught.value)
    with pytest.raises(TrajectoryError, match=f"^{where}, prompt 0: its tokenizer cannot read a"):
        make_batches("s", folder, probe(folder, prompts={"mine": [text]}))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_tokenizer_that_makes_much_of_little_is_refused(tmp_path: Path, parts: int) -> None:
    one = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * (4 if parts > 1 else 99)}
    for count in (parts, parts + 1):
        prepended = {"type": "Prepend", "prepend": "aa"}
        inner = [one] * count if parts > 1 else [one, *[prepended] * (count - 1)]
        folder = bare(
            tmp_path, {"type": "BPE", **CONSTANT},
            normalizer={"type": "Sequence", "normalizers": inner},
        )  # fmt: skip
        if count == parts:
            assert load_tokenizer(folder, "here").encode(["b"])
            continue
        with pytest.raises(DamagedFiles, match="^here: .* may make a text (256|198) times as long"):
            load_tokenizer(folder, "here")


def test_a_text_that_spells_special_tokens_is_text(tmp_path: Path) -> None:
    folder = saved(
        tmp_path / "t", trained(special=("<s>", "</s>")), eos_token="</s>", bos_token="<s>"
    )
    page = tmp_path / "page.html"
    page.write_text("<p>Was <s>40</s> now 30.</p>\n" * 40)
    rows = make_batches("s", folder, probe(folder, texts={"mine": page}))
    assert not any(token in ("<s>", "</s>") for row in rows for token in row["texts"][:15])
    assert {tuple(row["ends"]) for row in rows} == {(0, 1)}
    (said,) = make_batches("s", folder, probe(folder, prompts={"said": ["<s>Was 40"]}))
    assert said["tokens"][0] == 0, "who writes a prompt means its tokens"
    again = make_batches("s", folder, probe(folder, texts={"mine": page}))
    assert again == rows, "and that leaves nothing behind"


def test_sequences_beyond_the_context_are_refused_before_weights_are_fetched(
    tmp_path: Path,
) -> None:
    folder = saved(tmp_path / "t", trained())
    (folder / "config.json").write_text('{"max_position_embeddings": 20}')
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 9)
    assert make_batches("s", folder, probe(folder, texts={"mine": text}, length=20))
    with pytest.raises(
        TrajectoryError, match="^suite 's', domain 'mine': 21 tokens, but the model's"
    ):
        make_batches("s", folder, probe(folder, texts={"mine": text}, length=21))
    with pytest.raises(
        TrajectoryError, match="^suite 's', domain 'said', prompt 1: .* context is 20"
    ):
        make_batches("s", folder, probe(folder, prompts={"said": ["ab", TEXT]}))


def test_a_mark_in_front_of_a_text_is_no_token(tmp_path: Path) -> None:
    folder = saved(tmp_path / "t", trained())
    text = tmp_path / "text.txt"
    found = []
    for mark in (b"", b"\xef\xbb\xbf"):
        text.write_bytes(mark + TEXT.encode())
        found.append(make_batches("s", folder, probe(folder, texts={"mine": text})))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.model": b"\n\x0e\n\x05<unk>"}, "its tokenizer is only a tokenizer.model"),
        ({"tokenizer.json": b"{}"}, "no readable tokenizer"),
        ({"tokenizer.json": b"["  * 100_000}, "no readable tokenizer"),
        ({"tokenizer_config.json": b"[1]"}, "it holds a JSON list, not an object"),
        ({"tokenizer_config.json": b'{"eos_token": "<no>"}'}, "eos token '<no>' is not among its"),
        ({"config.json": b'{"eos_token_id": 1e400}'}, ""),
        ({"special_tokens_map.json": b"\xff"}, "no readable tokenizer"),
    ],
)  # fmt: skip
def test_tokenizers_of_any_kind_are_one_line(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    folder = saved(tmp_path / "t", trained())
    for name, content in files.items():
        (folder / name).write_bytes(content)
        if name == "tokenizer.model":
            (folder / "tokenizer.json").unlink()
    if not message:
        assert load_tokenizer(folder, folder).eos_token_id is None
        return
    with pytest.raises((TrajectoryError, DamagedFiles), match=f"^here: .*{message}") as caught:
        load_tokenizer(folder, "here")
    assert "\n" not in str(caught.value)
