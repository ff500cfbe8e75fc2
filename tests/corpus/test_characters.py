from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.corpus.characters import Bigrams, count_bigrams, load_bigrams
from trajectory.errors import TrajectoryError


def test_the_shipped_table_is_tiny_shakespeare() -> None:
    """Facts of the text, as the paper's data files have them."""
    table = load_bigrams()
    assert table.alphabet == "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert table.unigrams.sum() == 1_115_394
    assert table.pairs.sum() == 1_115_393
    assert (table.pairs > 0).sum() == 1403
    share = dict(zip(table.alphabet, table.marginal, strict=True))
    expected = {" ": 0.152316, "e": 0.084823, "t": 0.060077, "a": 0.049764, "o": 0.058991}
    for character, wanted in expected.items():
        assert share[character] == pytest.approx(wanted, abs=5e-7)
    place = table.alphabet.index
    assert table.conditional[place("3"), place(" ")] == 1  # the absorbing '3'
    assert table.conditional[place("q"), place("u")] == 1


@given(st.text("abc \n", min_size=2))
def test_counts_are_those_of_a_plain_loop(text: str) -> None:
    text += text[0] + text[-1] + text[0]  # every character has a successor
    if len(set(text)) < 2:
        return
    table = count_bigrams(text)
    for i, a in enumerate(table.alphabet):
        assert table.unigrams[i] == text.count(a)
        for j, b in enumerate(table.alphabet):
            pairs = sum(text[n : n + 2] == a + b for n in range(len(text)))
            assert table.pairs[i, j] == pairs


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8")))
def test_the_written_table_is_the_table(text: str) -> None:
    text = text + "ab" + text + "ab"
    table = count_bigrams(text)
    again = Bigrams.from_json(table.to_json())
    assert again.alphabet == table.alphabet
    assert again.sha256 == table.sha256
    np.testing.assert_array_equal(again.pairs, table.pairs)
    np.testing.assert_array_equal(again.unigrams, table.unigrams)


def test_texts_without_a_law_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match="1 distinct characters; bigrams need at least 2"):
        count_bigrams("aaa", "t.txt")
    with pytest.raises(TrajectoryError, match=r"t\.txt: its last character 'z' occurs only there"):
        count_bigrams("abababz", "t.txt")
    with pytest.raises(TrajectoryError, match=r"none\.txt: cannot be read"):
        load_bigrams(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"ab\xff")
    with pytest.raises(TrajectoryError, match="not UTF-8 text .byte 2"):
        load_bigrams(tmp_path / "binary")
