"""The task's other rules: each against a generator with one draw per token, written out here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from trajectory.bb.task import BigramTask, load_task
from trajectory.config import Task

RULES = [
    {"rule": "bigram"},
    {"rule": "bigram_backward"},
    {"rule": "bigram_backward", "mix": 0.3},
    {"mix": 0.6},
    {"triggers": 5},
    {"start": False},
    {"start": False, "rule": "bigram_backward"},
    {"delimiter": 0.1},
    {"delimiter": 0.1, "after_delimiter": "permuted"},
    {"rule": "bietti"},
    {"rule": "backcopy_first"},
    {"rule": "backcopy_first", "start": False},
    {"rule": "backcopy_first", "delimiter": 0.1},
    {"rule": "repeat"},
    {"rule": "repeat", "start": False},
]


def plainly(task: BigramTask, rng: np.random.Generator, length: int) -> list[int]:
    """One sequence, token by token, from the rule's definition."""
    settings, n = task.settings, task.characters
    pairs = task.bigrams.conditional
    marginal = task.bigrams.marginal.copy()
    triggers = set(np.argsort(task.bigrams.unigrams, kind="stable")[-settings.triggers :].tolist())
    first = marginal.copy()
    if settings.rule == "backcopy_first":
        first = np.ones(n)
    if settings.rule in ("backcopy", "backcopy_first"):
        first[list(triggers)] = 0
    first /= first.sum()
    emits = {t: int(rng.integers(n)) for t in sorted(triggers)}
    before_first: dict[int, int] = {}
    switched = False

    def shifted(token: int) -> int:
        return (token - 1) % n if switched else token

    def after(token: int) -> int:
        if token == task.start:
            return int(rng.choice(n, p=first))
        if token == task.delimiter:
            drawn = int(rng.choice(n, p=marginal))
            return (drawn + 1) % n if switched else drawn
        if task.delimiter is not None and rng.random() < settings.delimiter:
            return task.delimiter
        law = marginal if settings.rule == "repeat" else pairs[shifted(token)]
        drawn = int(rng.choice(n, p=law))
        return (drawn + 1) % n if switched else drawn

    out = [task.start if task.start is not None else int(rng.choice(n, p=first))]
    for i in range(1, length):
        last = out[-1]
        if settings.rule == "repeat":
            out.append(last if last in out[:-1] else after(last))
            continue
        switched |= settings.after_delimiter == "permuted" and last == task.delimiter
        ordinary = last >= n
        special = i > 1 and not ordinary and shifted(last) in triggers
        if not special or settings.rule == "bigram" or rng.random() >= settings.mix:
            out.append(after(last))
        elif settings.rule == "backcopy":
            out.append(out[-2])
        elif settings.rule == "bigram_backward":
            out.append(after(out[-2]))
        elif settings.rule == "bietti":
            out.append(emits[last])
        elif last in before_first:
            out.append(before_first[last])
        else:
            before_first[last] = out[-2]
            out.append(after(last))
    return out


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_sampler_draws_what_the_definition_draws(rule: dict) -> None:
    """Two samples of token triples late in the sequence, one χ² test of homogeneity each."""
    task = load_task(Task(length=16, **rule))
    rng = np.random.default_rng(5)
    plain = np.array([plainly(task, rng, 10) for _ in range(3000)])
    fast = task.sample(60_000, 10, torch.Generator().manual_seed(11)).numpy()
    for columns in ([1], [4, 5], [7, 8, 9]):
        place = task.vocabulary ** np.arange(len(columns))
        one, other = (s[:, columns] @ place for s in (plain, fast))
        codes, inverse = np.unique(np.concatenate([one, other]), return_inverse=True)
        counts = np.array(
            [
                np.bincount(part, minlength=len(codes))
                for part in (inverse[: len(one)], inverse[len(one) :])
            ]
        )
        common = counts.sum(0) * len(one) / counts.sum() >= 5
        table = np.column_stack([counts[:, common], counts[:, ~common].sum(1)])
        assert stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue > 1e-4, columns


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_oracle_is_the_law_given_the_past(rule: dict) -> None:
    """Calibrated: the drawn token's log-loss is the oracle's entropy, at triggers or not."""
    task = load_task(Task(length=16, **rule))
    tokens = task.sample(4000, 33, torch.Generator().manual_seed(3))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    law = task.oracle(inputs)
    torch.testing.assert_close(law.sum(-1), torch.ones(inputs.shape, dtype=torch.float64))
    drawn = law.gather(-1, targets[..., None])[..., 0]
    assert (drawn > 0).all()
    surprise, entropy = -drawn.log(), -torch.xlogy(law, law).sum(-1)
    for member in (task.is_trigger(inputs), ~task.is_trigger(inputs)):
        if not member.any():
            continue
        per_sequence = torch.where(member, surprise - entropy, 0).sum(1)
        error = per_sequence.std() / len(per_sequence) ** 0.5
        assert abs(per_sequence.mean()) <= 4 * error + 1e-12


def test_a_bietti_trigger_is_followed_by_one_token_per_sequence() -> None:
    task = load_task(Task(length=32, rule="bietti"))
    for row in task.sample(300, 33, torch.Generator().manual_seed(2)).tolist():
        emitted: dict[int, int] = {}
        for i in range(1, 32):
            if row[i] in task.triggers.tolist():
                assert emitted.setdefault(row[i], row[i + 1]) == row[i + 1]


def test_a_first_backcopied_token_comes_after_every_later_trigger() -> None:
    """By hand: e is a trigger; after its first occurrence anything, later on what preceded it."""
    task = load_task(Task(length=16, rule="backcopy_first"))
    e, a, b, c = (task.tokens.index(character) for character in "eabc")
    assert task.start is not None and e in task.triggers.tolist()
    law = task.oracle(torch.tensor([[task.start, a, e, b, c, e, a, e]]))[0]
    torch.testing.assert_close(law[2], task.transition[e])
    assert law[5].argmax() == a == law[7].argmax() and law[5, a] == law[7, a] == 1


def test_a_token_that_repeats_itself_goes_on() -> None:
    task = load_task(Task(length=32, rule="repeat"))
    rows = task.sample(300, 33, torch.Generator().manual_seed(2))
    for row, triggers in zip(rows.tolist(), task.is_trigger(rows).tolist(), strict=True):
        distinct = len(set(row))
        assert triggers == [i >= distinct for i in range(33)]
        assert set(row[distinct:]) <= {row[distinct]}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"rule": "bietti", "delimiter": 0.1, "after_delimiter": "permuted"}, "not for bietti"),
        ({"rule": "repeat", "delimiter": 0.1}, "without delimiters"),
        ({"unused_delimiter": True, "delimiter": 0.1}, "it is used"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(task: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Task.model_validate(task)
