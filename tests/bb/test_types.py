from __future__ import annotations

import statistics
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from trajectory.bb.laboratory import measure_types
from trajectory.bb.model import Transformer
from trajectory.bb.task import load_task
from trajectory.config import Task, Variant
from trajectory.probe.attention import AttentionCall, observe


def test_statistics_by_token_type_are_their_definitions() -> None:
    """Weights, norms, null targets and maps of two heads against loops over queries and keys."""
    task = load_task(Task(length=24))
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, Variant(width=16, heads=2, task=Task(length=24)))
    tokens = task.sample(70, 24, torch.Generator().manual_seed(1))  # more than are held at once
    calls: list[AttentionCall] = []
    with torch.no_grad(), observe(SimpleNamespace(attention=calls.append)):
        model(tokens)
        entering = model.tokens(tokens) + model.positions.weight
        leaving = model.blocks[0](entering)
    call, projection = calls[0], model.blocks[0].attention.o_proj.weight.detach().double()
    types, residuals, maps = measure_types(model, list(model.blocks), task, tokens, (2, 5))
    texts = [[task.tokens[i] for i in row] for row in tokens.tolist()]
    for head in (0, 1):
        z = (call.query[:, head] @ call.key[:, head].transpose(1, 2)).double() * call.scale
        part = projection[:, 8 * head : 8 * head + 8]
        value = call.value[:, head].double()
        written = (value @ part.T).norm(dim=-1).tolist()
        typical = statistics.median_low([n for row in written for n in row[1:]])
        found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        on: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for b, row in enumerate(texts):
            for i in range(1, 24):
                weights, own = z[b, i, : i + 1].softmax(0), found[row[i]]
                output = float((part @ (weights @ value[b, : i + 1])).norm())
                own["sink_weight"].append(float(weights[0]))
                own["self_weight"].append(float(weights[i]))
                own["head_output_ratio"].append(output / typical)
                own["value_norm"].append(float(value[b, i].norm()))
                own["output_value_norm"].append(written[b][i])
                if i > 1:
                    own["previous_weight"].append(float(weights[i - 1]))
                for j in range(1, i + 1):
                    on[row[i]][row[j]] += float(weights[j])
                if b < 2 and i < 5:
                    (drawn,) = (
                        m["weights"]
                        for m in maps
                        if (m["head"], m["sequence"], m["query"]) == (head, b, i)
                    )
                    assert drawn == pytest.approx(weights.tolist(), abs=1e-6)
        rows = {row["token"]: row for row in types if row["head"] == head}
        assert set(rows) == set(found)
        for token, row in rows.items():
            for name, values in found[token].items():
                assert row[name] == pytest.approx(statistics.mean(values), rel=1e-5), (token, name)
            count = len(found[token]["sink_weight"])
            other = max(on[token], key=on[token].__getitem__)
            assert (row["queries"], row["other_token"]) == (count, other)
            assert row["share"] == pytest.approx(count / (70 * 23))
            assert row["other_weight"] == pytest.approx(on[token][other] / count, rel=1e-5)
            null = statistics.mean(found[other]["output_value_norm"]) / typical
            assert row["other_value_ratio"] == pytest.approx(null, rel=1e-5)
    for depth, stream in enumerate((entering, leaving)):
        norms: dict[str, list[float]] = defaultdict(list)
        for row, values in zip(texts, stream.norm(dim=-1).tolist(), strict=True):
            for text, norm in zip(row, values, strict=True):
                norms[text].append(norm)
        measured = {r["token"]: r["residual_norm"] for r in residuals if r["layer"] == depth}
        assert measured == pytest.approx({t: statistics.mean(n) for t, n in norms.items()})


def test_a_type_without_any_weight_names_no_other() -> None:
    """ReLU attention may give nothing to any key, and the first character may not occur."""
    task = load_task(Task(length=24))
    torch.manual_seed(0)
    model = Transformer(task.vocabulary, Variant(width=16, attention="relu", task=Task(length=24)))
    torch.nn.init.zeros_(model.blocks[0].attention.q_proj.weight)
    types, _, _ = measure_types(
        model, list(model.blocks), task, task.sample(1, 24, torch.Generator().manual_seed(1))
    )
    found = {
        (r["other_token"], r["other_weight"], r["other_value_ratio"], r["target"]) for r in types
    }
    assert found == {(None, 0.0, None, None)}
