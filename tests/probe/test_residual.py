"""The greatest activations, against loops over numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trajectory.probe import statistics
from trajectory.probe.residual import SEQUENCES_AT_ONCE, StreamReader

from .dense import expected_geometry

LENGTH, WIDTH = 7, 12


def read(hidden: np.ndarray, member: np.ndarray) -> dict[str, object]:
    texts = [[f"{b}:{j}" for j in range(LENGTH)] for b in range(len(hidden))]
    kinds = torch.full(hidden.shape[:2], 3)
    domains = {"all": torch.from_numpy(member)}
    reader = StreamReader(domains, texts, kinds, 0, torch.float64, full=True)
    rows, _ = reader.read(torch.from_numpy(hidden))
    return rows["all"]


def naive(hidden: np.ndarray, member: np.ndarray) -> list[tuple[float, int, int, str]]:
    """Of the sequence with the greatest |h|, each channel's greatest, in falling order."""
    best: list[tuple[float, int, int, str]] = []
    for b in range(len(hidden)):
        if not member[b].any():
            continue
        channels = {}
        for j in range(LENGTH):
            for channel in range(WIDTH):
                value = abs(float(hidden[b, j, channel]))
                if (member[b, j] or j == 0) and value > channels.get(channel, (-1.0,))[0]:
                    channels[channel] = (value, j, channel, f"{b}:{j}")
        own = sorted(channels.values(), reverse=True)
        if not best or own[0][0] > best[0][0]:
            best = own
    return best[:3]


def told(row: dict[str, object]) -> list[tuple[object, ...]]:
    return [
        (row[f"massive_{rank}"], *(row[f"massive{suffix}_{fact}"] for fact in FACTS))
        for rank, suffix in (("top", ""), ("second", "_second"), ("third", "_third"))
    ]


FACTS = ("position", "channel", "token")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sequences", [1, 3, 2 * SEQUENCES_AT_ONCE + 3])
def test_the_next_channels_are_of_the_same_sequence(seed: int, sequences: int) -> None:
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(sequences, LENGTH, WIDTH))
    member = draw.random((sequences, LENGTH)) < 0.7
    member[-1] = seed % 2 == 0
    member[0, 3] = True
    # One channel is greatest in every sequence, as that of a sink is.
    hidden[:, 0, 5] = 300 + draw.random(sequences)
    row = read(hidden, member)
    assert told(row) == naive(hidden, member)
    channels = [row[f"massive{suffix}_channel"] for suffix in ("", "_second", "_third")]
    assert channels[0] == 5
    assert len(set(channels)) == 3


def test_equal_magnitudes_name_the_first() -> None:
    hidden = np.zeros((2, LENGTH, WIDTH))
    hidden[:, 2:4, 3] = -8.0
    hidden[:, 1, 7] = hidden[:, 1, 9] = 4.0
    found = told(read(hidden, np.ones((2, LENGTH), bool)))
    assert found == [(8, 2, 3, "0:2"), (4, 1, 7, "0:1"), (4, 1, 9, "0:1")]


def test_a_stream_that_is_no_number_is_seen() -> None:
    hidden = np.ones((2 * SEQUENCES_AT_ONCE, LENGTH, WIDTH))
    hidden[SEQUENCES_AT_ONCE + 1, 4, 2] = np.nan
    row = read(hidden, np.ones(hidden.shape[:2], bool))
    assert np.isnan(row["massive_top"])
    assert (row["massive_position"], row["massive_channel"]) == (4, 2)


def test_a_stream_of_zeros_has_no_shape() -> None:
    """As after zero_attention where a toy's MLP is dead, at some positions or at all of them."""
    row = read(np.zeros((2, LENGTH, WIDTH)), np.ones((2, LENGTH), bool))
    undefined = {name for name, number in row.items() if number is None}
    assert undefined == {
        *("residual_ratio", "residual_ratio_se", "kurtosis", "kurtosis_sink", "massive_ratio"),
        *("matrix_entropy", "participation_ratio", "channel_ratio", "top_channels_share"),
        *("residual_norm_delimiter", "residual_norm_endoftext", "rankme", "alpha_req"),
    }
    assert row["residual_norm_sink"] == row["residual_norm_rest_max"] == row["massive_top"] == 0

    hidden = np.zeros((2, LENGTH, WIDTH))
    hidden[0, 0] = 1.0  # the sink of the first sequence: kurtosis 1
    hidden[1, 1:, 2] = 5.0  # all others of the second: a spike, of kurtosis D
    row = read(hidden, np.ones(hidden.shape[:2], bool))
    assert row["kurtosis"] == pytest.approx((1 + 6 * WIDTH) / 7)
    assert row["kurtosis_sink"] == pytest.approx(1)
    assert row["residual_ratio"] == 0, (
        "of the second sequence: the first has no median to divide by"
    )
    assert row["residual_ratio_se"] is None


@pytest.mark.parametrize(("sequences", "width"), [(5, 12), (20, 12), (40, 64)])
def test_last_states_are_those_of_numpy(sequences: int, width: int) -> None:
    generator = np.random.default_rng(sequences)
    hidden = generator.normal(size=(sequences, LENGTH, width)) / np.arange(1, width + 1)
    member = generator.random((sequences, LENGTH)) < 0.6
    member[0] = False  # a sequence without the domain has no last state
    hidden[:, 0] = 1e6  # nor is the sink one, where it is not the last
    member[1] = np.arange(LENGTH) == 3
    row = read(hidden, member)
    expected = expected_geometry(torch.from_numpy(hidden), torch.from_numpy(member))
    assert (row["rankme"], row["alpha_req"]) == pytest.approx(expected)
    assert (row["alpha_req"] is None) == (sequences == 5)


def test_the_rank_of_few_states_is_bounded_and_their_law_is_found() -> None:
    equal = torch.eye(30, dtype=torch.float64)[:20]
    assert statistics.geometry(equal) == pytest.approx((20, 0))
    twice = equal.repeat(2, 1)  # the same states again add no rank
    assert statistics.geometry(twice) == pytest.approx((20, 0))
    assert statistics.geometry(equal[:1]) == (None, None)
    law = torch.arange(1, 31, dtype=torch.float64) ** -0.75
    orthogonal, _ = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))
    _, slope = statistics.geometry(orthogonal * law)
    assert slope == pytest.approx(1.5)  # of σ², the other half not looked at
    bent = torch.where(torch.arange(30) < 15, law, law**3)
    assert statistics.geometry(orthogonal * bent)[1] == pytest.approx(1.5)
