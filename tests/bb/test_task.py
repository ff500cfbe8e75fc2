from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from trajectory.bb.task import BigramTask, alias_tables
from trajectory.config import Task
from trajectory.corpus.characters import count_bigrams, load_bigrams
from trajectory.errors import TrajectoryError


@pytest.fixture(scope="module")
def task() -> BigramTask:
    return BigramTask(load_bigrams(), Task())


@pytest.fixture(scope="module")
def tokens(task: BigramTask) -> torch.Tensor:
    return task.sample(8192, 129, torch.Generator().manual_seed(7))


def exact_occupancy(task: BigramTask, length: int) -> np.ndarray:
    """P(x_i = v) for i < length by propagating the law of (x_{i-1}, x_i): no sampling."""
    size = task.vocabulary
    trigger = np.zeros(size, dtype=bool)
    trigger[task.triggers.numpy()] = True
    law = task.transition.numpy()
    occupancy = np.zeros((length, size))
    occupancy[0, task.start] = 1
    pair = np.zeros((size, size))  # [before, last]
    pair[task.start] = law[task.start]
    for i in range(1, length):
        occupancy[i] = pair.sum(0)
        onward = np.where(trigger, 0, pair.sum(0))[:, None] * law  # [last, next]
        for t in np.flatnonzero(trigger):
            onward[t] += pair[:, t]  # the token before the trigger is copied
        pair = onward
    return occupancy


def test_triggers_are_the_most_frequent_characters() -> None:
    assert {k: "".join(sorted(task_of(k))) for k in (3, 5)} == {3: " et", 5: " aeot"}


def test_an_unused_delimiter_is_a_token_of_the_vocabulary_that_no_law_draws() -> None:
    plain = BigramTask(load_bigrams(), Task())
    spare = BigramTask(load_bigrams(), Task(unused_delimiter=True))
    assert spare.tokens == [*plain.tokens, "⟨d⟩"]
    assert spare.triggers.equal(plain.triggers)
    assert spare.transition[:66, :66].equal(plain.transition)
    assert not spare.transition[:66, 66].any()
    rows = spare.sample(256, 129, torch.Generator().manual_seed(3))
    assert rows.max() == spare.start
    law = spare.oracle(rows)
    assert law[..., :66].equal(plain.oracle(rows))
    assert not law[..., 66].any()


def task_of(k: int) -> list[str]:
    task = BigramTask(load_bigrams(), Task(triggers=k))
    return [task.tokens[i] for i in task.triggers]


def test_sequences_follow_the_rules(task: BigramTask, tokens: torch.Tensor) -> None:
    trigger = task.is_trigger(tokens)
    assert (tokens[:, 0] == task.start).all()
    assert not (tokens[:, 1:] == task.start).any()
    assert not trigger[:, 1].any()
    assert not (trigger[:, :-1] & trigger[:, 1:]).any(), "two triggers are never adjacent"
    copies = trigger[:, 1:-1]
    assert (tokens[:, 2:][copies] == tokens[:, :-2][copies]).all()


def test_transitions_are_drawn_from_the_law(task: BigramTask, tokens: torch.Tensor) -> None:
    """χ² of every non-trigger row with enough draws, at a family-wise level of 1e-3."""
    free = ~task.is_trigger(tokens[:, :-1])
    counts = np.zeros((task.vocabulary, task.vocabulary))
    np.add.at(counts, (tokens[:, :-1][free].numpy(), tokens[:, 1:][free].numpy()), 1)
    law = task.transition.numpy()
    assert counts[law == 0].sum() == 0, "a pair that the text does not have"
    p_values = []
    for row in np.flatnonzero(counts.sum(1) > 2000):
        expected = law[row] * counts[row].sum()
        common = expected >= 5
        if common.sum() < 2:
            continue
        observed = np.append(counts[row][common], counts[row][~common].sum())
        wanted = np.append(expected[common], expected[~common].sum())
        keep = wanted > 0
        p_values.append(stats.chisquare(observed[keep], wanted[keep]).pvalue)
    assert len(p_values) > 25
    assert min(p_values) > 1e-3 / len(p_values)


def test_positions_have_the_exact_occupancy(task: BigramTask, tokens: torch.Tensor) -> None:
    occupancy = exact_occupancy(task, 129)
    np.testing.assert_allclose(occupancy.sum(1), 1, atol=1e-12)
    for position in (1, 2, 3, 10, 128):
        counts = torch.bincount(tokens[:, position], minlength=task.vocabulary).numpy()
        wanted = occupancy[position] * len(tokens)
        common = wanted >= 5
        observed = np.append(counts[common], counts[~common].sum())
        expected = np.append(wanted[common], wanted[~common].sum())
        keep = expected > 0
        assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-4


def test_trigger_share_is_the_closed_form_of_the_paper_size(task: BigramTask) -> None:
    occupancy = exact_occupancy(task, 256)
    assert occupancy[:, task.triggers.numpy()].sum(1).mean() == pytest.approx(0.2555, abs=5e-4)


def test_oracle_is_the_generator(task: BigramTask, tokens: torch.Tensor) -> None:
    inputs, targets = tokens[:256, :-1], tokens[:256, 1:]
    law = task.oracle(inputs)
    torch.testing.assert_close(law.sum(-1), torch.ones(inputs.shape, dtype=torch.float64))
    drawn = law.gather(-1, targets[..., None])[..., 0]
    assert (drawn > 0).all(), "the oracle gives no chance to a token that was drawn"
    assert (drawn[task.is_trigger(inputs)] == 1).all()
    # The realised log-loss is the oracle's entropy, within its standard error.
    surprise = -drawn.log()
    entropy = -torch.xlogy(law, law).sum(-1)
    difference = (surprise - entropy).mean(1)
    assert abs(difference.mean() / (difference.std() / len(difference) ** 0.5)) < 4


def test_oracle_at_position_0_gives_triggers_no_mass(task: BigramTask) -> None:
    law = task.oracle(torch.tensor([[task.start]]))[0, 0]
    assert law[task.triggers].sum() == 0
    assert float(-torch.xlogy(law, law).sum()) == pytest.approx(3.4151, abs=5e-5)


def test_alias_tables_hold_exactly_the_law(task: BigramTask) -> None:
    size = task.vocabulary
    law = task.transition.numpy()
    accept, alias = (table.numpy().reshape(size, -1) for table in alias_tables(law))
    rebuilt = accept / size
    for row in range(size):
        np.add.at(rebuilt[row], alias[row], (1 - accept[row]) / size)
    np.testing.assert_allclose(rebuilt, law, atol=1e-14)


def test_seeds_change_the_data_and_fix_it(task: BigramTask) -> None:
    def draw(seed: int) -> torch.Tensor:
        return task.sample(16, 65, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_a_text_without_enough_characters_is_refused() -> None:
    with pytest.raises(
        TrajectoryError, match="4 distinct characters.* 3 triggers needs at least 5"
    ):
        BigramTask(count_bigrams("abcdabcda"), Task())
