"""A checkpoint's tokenizer, as its ``tokenizer.json`` says and no library would have it.

``transformers`` builds the class that a config names and puts that class's own pre-tokenizer in
place of the file's: other tokens, and other numbers. The file is read as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from trajectory.corpus.documents import UNABLE, Text, check_text, encode, encode_start
from trajectory.errors import TrajectoryError, reading
from trajectory.hf_olmo import TOKENIZER
from trajectory.outside import json_file, refuse_pointer

FILE = "tokenizer.json"
CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
"""Files that may name the tokens at a text's beginning and end; the first that does counts."""

VOCABULARIES = (FILE, "tokenizer.model", "vocab.json")
"""Files one of which every tokenizer has."""

MOST_GROWTH = 100
"""Times as long as a text that a tokenizer may make it before it splits it; those in use write one
character for another."""


@dataclass(frozen=True)
class TextTokenizer:
    """Text to token ids and back.

    Attributes:
        backend_tokenizer: special tokens that a text merely spells are characters to it.
        bos_token_id: id of the token that begins a text; None if it has none.
        eos_token_id: id of the token that ends one.
    """

    backend_tokenizer: Tokenizer
    bos_token_id: int | None
    eos_token_id: int | None

    @property
    def ends(self) -> list[int]:
        """Ids of the tokens that begin or end a text."""
        return sorted({id_ for id_ in (self.bos_token_id, self.eos_token_id) if id_ is not None})

    @property
    def size(self) -> int:
        """Ids from 0 to the greatest that it knows."""
        return max(self.backend_tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, texts: Iterable[str], most: int | None = None) -> list[list[int]]:
        """Ids of each text, with no token put around it.

        Args:
            texts: what is encoded.
            most: ids wanted of each text, from its first; all if None.

        Raises:
            TrajectoryError: for a text that has no UTF-8 form, or that the tokenizer cannot read.
        """
        given = [Text(text) for text in texts]
        if most is None:
            return [encode(self.backend_tokenizer, text).tolist() for text in given]
        return [encode_start(self.backend_tokenizer, text, most).tolist() for text in given]

    def encode_prompt(self, prompt: str) -> list[int]:
        """Ids of a prompt, in which a special token that is spelt is meant.

        Raises TrajectoryError as ``encode``.
        """
        check_text(prompt)
        self.backend_tokenizer.encode_special_tokens = False
        try:
            with reading(UNABLE):
                return list(self.backend_tokenizer.encode(prompt, add_special_tokens=False).ids)
        finally:
            self.backend_tokenizer.encode_special_tokens = True

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """Tokens as the tokenizer writes them; nothing for an id that it does not know."""
        return [self.backend_tokenizer.id_to_token(id_) or "" for id_ in ids]


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies in a folder, readable or not."""
    return any((folder / name).is_file() for name in VOCABULARIES)


def tokenizer_places(checkpoint: Path) -> list[Path]:
    """Where a checkpoint's tokenizer may lie: with it, in a folder for all beside it, or above, as
    trainers leave it."""
    above = checkpoint.absolute().parent
    return [checkpoint, above / "tokenizer", above]


def load_tokenizer(folder: Path, where: object) -> TextTokenizer:
    """The tokenizer in ``folder``.

    Raises:
        TrajectoryError: naming ``where``, if it is code that lies beside it, or a sentencepiece
            model alone.
        DamagedFiles: if there is no readable tokenizer.
    """
    with reading(f"{where}: no readable tokenizer"):
        configs = [_config(folder / name, where) for name in CONFIGS]
        backend = _backend(folder, where)
        if backend.get_vocab_size(with_added_tokens=False) == 0:
            raise ValueError("it has only special tokens")
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        _leave_nothing_to_chance(backend)
        _check_growth(backend)
        ids = [_named(backend, configs, name) for name in ("bos", "eos")]
    return TextTokenizer(backend, *ids)


def tokenizer_in_memory(given: Any) -> TextTokenizer:
    """A tokenizer that a caller holds, copied: how it cuts and pads for its owner stays.

    Args:
        given: one of transformers', of the tokenizers library, or a ``TextTokenizer``.

    Raises:
        TrajectoryError: if it is none of these, or has no fast form.
    """
    if isinstance(given, TextTokenizer):
        return given
    backend = given if isinstance(given, Tokenizer) else getattr(given, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TrajectoryError(
            f"tokenizer: a {type(given).__name__} is neither a folder nor a fast tokenizer"
        )
    copied = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    copied.encode_special_tokens = True
    ids = [getattr(given, f"{name}_token_id", None) for name in ("bos", "eos")]
    return TextTokenizer(copied, *ids)


def _backend(folder: Path, where: object) -> Tokenizer:
    path = folder / FILE
    if path.is_file():
        refuse_pointer(path)
        return Tokenizer.from_file(str(path))
    if (folder / "tokenizer.model").is_file() and not (folder / "vocab.json").is_file():
        raise TrajectoryError(
            f"{where}: its tokenizer is only a tokenizer.model, which is not supported; save it as "
            f"{FILE} with transformers' save_pretrained, where sentencepiece is installed"
        )
    from transformers import AutoTokenizer

    # Without the last word the library asks at standard input whether to run a folder's code.
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    found: Tokenizer = loaded.backend_tokenizer
    return found


def _leave_nothing_to_chance(backend: Tokenizer) -> None:
    """Switch off BPE-dropout, which a file may ask for: a text has the same tokens each time."""
    if getattr(backend.model, "dropout", None) is not None:
        backend.model.dropout = None


def _check_growth(backend: Tokenizer) -> None:
    """Raise ValueError if a short text could become too long for the memory."""
    if backend.normalizer is None:
        return
    growth = math.prod(_written(json.loads(backend.normalizer.__getstate__())))
    if growth > MOST_GROWTH:
        raise ValueError(f"its normalizer may make a text {growth:,} times as long")


def _written(normalizer: Any) -> Iterator[int]:
    """Lengths of what the parts of a normalizer write in place of something, or beside it."""
    if isinstance(normalizer, list):
        for part in normalizer:
            yield from _written(part)
    elif isinstance(normalizer, dict):
        yield from _written(normalizer.get("normalizers"))
        for key in ("content", "prepend", "append"):
            yield max(1, len(str(normalizer.get(key) or "")))


def _config(path: Path, where: object) -> dict[str, Any]:
    """What a file beside the tokenizer says; nothing if it is not there.

    Raises TrajectoryError if it names code of its own as the tokenizer.
    """
    if not path.is_file():
        return {}
    values = json_file(path)
    own = values.get("auto_map")
    named = own.get("AutoTokenizer") if isinstance(own, dict) else None
    if _adds_nothing(named) and (path.parent / FILE).is_file():
        return values
    if (own and path.name != "config.json") or (isinstance(own, dict) and "AutoTokenizer" in own):
        raise TrajectoryError(
            f"{where}: its tokenizer is custom code ({path.name}, auto_map), which is never "
            f"run; ask its authors for a {FILE} that needs none"
        )
    return values


def _adds_nothing(named: Any) -> bool:
    """Whether the classes that a config names, of this repository or another, are all the one that
    computes what the file does."""
    classes = [name for name in (named if isinstance(named, list) else [named]) if name is not None]
    return bool(classes) and all(
        isinstance(name, str) and name.rpartition("--")[2] == TOKENIZER for name in classes
    )


def _named(backend: Tokenizer, configs: Sequence[dict[str, Any]], name: str) -> int | None:
    """Id of the token that the configs name as ``bos`` or ``eos``; None if they name none.

    Raises ValueError if the tokenizer does not know it.
    """
    for values in configs:
        token = values.get(f"{name}_token")
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str) and token:
            found: int | None = backend.token_to_id(token)
            if found is None:
                raise ValueError(f"its {name} token '{token}' is not among its tokens")
            return found
        id_ = values.get(f"{name}_token_id")
        id_ = id_[0] if isinstance(id_, list) and id_ else id_
        if type(id_) is int and 0 <= id_ < 1 << 31 and backend.id_to_token(id_) is not None:
            return id_
    return None
