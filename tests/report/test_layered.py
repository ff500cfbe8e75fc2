"""Layers: their colours and their legend, and the sentence that names those that matter most."""

from __future__ import annotations

import pytest
from selenium import webdriver

from trajectory.dynamics.circuit import Role
from trajectory.report.parts.circuit import told_roles

from .chromium import choose, marks

SINK = "residual_norm_sink"


def legend(browser: webdriver.Chrome, figure: str) -> list[str]:
    found = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)",
        f"#chart-{figure} .role-legend-label text",
    )
    return list(found)


@pytest.mark.parametrize("opened", ["heads"], indirect=True)
def test_a_legend_names_the_depths_of_the_chosen_run_alone(opened: webdriver.Chrome) -> None:
    """The deepest toy has three layers, the language model two."""
    assert legend(opened, "streams") == ["0", "1", "2"]
    brightest = {mark[2] for mark in marks(opened, "streams")}
    choose(opened, "chosen_trajectory", "3 layers, AdamW, seed 0")
    assert legend(opened, "streams") == ["0", "1", "2", "3"]
    ends = {mark[2] for mark in marks(opened, "streams")}
    assert len(ends) == 4
    assert len(brightest & ends) == 2, "both spread over the whole scale"


@pytest.mark.parametrize("opened", ["circuit"], indirect=True)
def test_a_page_of_language_models_names_no_layer_of_a_toy(opened: webdriver.Chrome) -> None:
    assert legend(opened, "changed-residual-norm-sink") == ["0", "1"]


@pytest.mark.parametrize("opened", ["careers"], indirect=True)
def test_a_legend_names_the_roles_that_are_drawn_and_no_more(opened: webdriver.Chrome) -> None:
    def drawn() -> set[str]:
        told = "return report.marks('strips').map(({item}) => item.datum.role)"
        roles = opened.execute_script(told)
        return {"no role" if role == "none" else role for role in roles}

    first = drawn()
    assert set(legend(opened, "strips")) == first
    assert set(legend(opened, "population")) == first - {"no role"}, "what its areas leave"
    choose(opened, "chosen_trajectory", "1 layer, ReLU, AdamW, seed 0")
    assert drawn() != first
    assert set(legend(opened, "strips")) == drawn()
    choose(opened, "chosen_trajectory", "3 layers, AdamW, seed 0")
    assert (held := drawn() - {"no role"})
    assert set(legend(opened, "population")) == held


def role(layer: int, does: str, before: float, after: float, norm: str = SINK) -> Role:
    return Role("zero_mlp", layer, does, norm, before, after)


def test_the_sentence_names_what_writes_and_erases_most_and_the_others_layers() -> None:
    found = [
        role(1, "writes", 100.0, 1.3),
        role(2, "writes", 110.0, 40.0),
        role(3, "writes", 60.0, 4.0, "residual_norm_rest_max"),
        role(1, "writes", 60.0, 4.0, "residual_norm_rest_max"),
        Role("zero_attention", 4, "writes", SINK, 60.0, 4.0),
        role(7, "erases", 10.0, 105.0),
        role(8, "erases", 9.0, 300.0),
    ]
    told = told_roles("m", "prose", found)
    assert "the MLP of layer 1 writes the sink's peak (100 with it, 1.3 without)" in told
    assert "without), the MLPs of layers 2 and 3 and the attention of layer 4 smaller ones;" in told
    assert "the MLP of layer 8 erases the sink's peak (9 with it, 300 without)" in told
    assert "without), the MLP of layer 7 a smaller one." in told
    assert len(told.split()) < 60
    assert told_roles("m", "prose", found[::-1]) == told, "whatever their order"


def test_what_is_alone_has_no_others_and_what_is_not_there_is_not_told() -> None:
    told = told_roles("m", "prose", [role(1, "writes", 100.0, 1.3)])
    assert "smaller" not in told and "erases" not in told
    assert "none of the parts zeroed" in told_roles("m", "prose", [])
