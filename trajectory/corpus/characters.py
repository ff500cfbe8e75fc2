"""Character bigrams: the empirical law from which the Bigram-Backcopy task draws its text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trajectory.errors import TrajectoryError

SHIPPED = "tinyshakespeare.json"


@dataclass(frozen=True)
class Bigrams:
    """Counts of characters and of adjacent characters in a text.

    Attributes:
        alphabet: the distinct characters, sorted; a character's id is its place here.
        unigrams: how often each character occurs, shape [V].
        pairs: pairs[a, b] counts b directly after a, shape [V, V].
        sha256: digest of the text's UTF-8 bytes.
    """

    alphabet: str
    unigrams: NDArray[np.int64]
    pairs: NDArray[np.int64]
    sha256: str

    @property
    def marginal(self) -> NDArray[np.float64]:
        """The law of a character, shape [V]."""
        return self.unigrams / self.unigrams.sum()

    @property
    def conditional(self) -> NDArray[np.float64]:
        """The law of the next character given this one, unsmoothed, shape [V, V]."""
        return self.pairs / self.pairs.sum(axis=1, keepdims=True)

    def to_json(self) -> str:
        """The table as it is shipped: counts by character, readable and diffable."""
        counts = {
            a: {b: int(n) for b, n in zip(self.alphabet, row, strict=True) if n}
            for a, row in zip(self.alphabet, self.pairs, strict=True)
        }
        surplus = self.unigrams - self.pairs.sum(axis=1)  # one for the text's last character
        table = {
            "sha256": self.sha256,
            "last": self.alphabet[int(surplus.argmax())],
            "pairs": counts,
        }
        return json.dumps(table, indent=0, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Bigrams:
        """The table written by ``to_json``."""
        table = json.loads(text)
        alphabet = "".join(sorted(table["pairs"]))
        pairs = np.array(
            [[table["pairs"][a].get(b, 0) for b in alphabet] for a in alphabet], dtype=np.int64
        )
        unigrams = pairs.sum(axis=1)
        unigrams[alphabet.index(table["last"])] += 1
        return cls(alphabet, unigrams, pairs, table["sha256"])


def count_bigrams(text: str, source: str = "text") -> Bigrams:
    """Count the characters and adjacent pairs of ``text``.

    Raises TrajectoryError if a character has no successor, so that no law can be drawn from it.
    """
    if len(set(text)) < 2:
        raise TrajectoryError(
            f"{source}: {len(set(text))} distinct characters; bigrams need at least 2"
        )
    alphabet = "".join(sorted(set(text)))
    place = {c: i for i, c in enumerate(alphabet)}
    pairs = np.zeros((len(alphabet), len(alphabet)), dtype=np.int64)
    for (a, b), n in Counter(pairwise(text)).items():
        pairs[place[a], place[b]] = n
    if not pairs.sum(axis=1).all():
        raise TrajectoryError(
            f"{source}: its last character {text[-1]!r} occurs only there, so nothing follows it; "
            "end the text with a character that occurs before"
        )
    unigrams = pairs.sum(axis=1)
    unigrams[place[text[-1]]] += 1
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Bigrams(alphabet, unigrams, pairs, digest)


def read_text(path: Path) -> str:
    """The text at ``path``; TrajectoryError if it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")  # a mark in front is no part of the text
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise TrajectoryError(f"{path}: not UTF-8 text (byte {error.start})") from None


def unreadable(path: Path, error: OSError) -> TrajectoryError:
    """What is said of a text that cannot be read."""
    return TrajectoryError(f"{path}: cannot be read ({error.strerror})")


def load_bigrams(text: Path | None = None) -> Bigrams:
    """The bigrams of the text at ``text``, or of tiny Shakespeare where none is given."""
    if text is not None:
        return count_bigrams(read_text(text), str(text))
    shipped = resources.files("trajectory.corpus").joinpath("data", SHIPPED)
    return Bigrams.from_json(shipped.read_text(encoding="utf-8"))
