from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.checkpoints.manifest import manifest_rows
from trajectory.checkpoints.names import RevisionName, parse_revision
from trajectory.checkpoints.selection import settings_digest
from trajectory.config.suites import Suite
from trajectory.errors import TrajectoryError
from trajectory.hub.content import Revision

B, T = 10**9, 10**12


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("stage1-step300-tokens1B", RevisionName(1, None, 300, B, B)),
        ("stage1-step1907359-tokens4001B", RevisionName(1, None, 1907359, 4001 * B, B)),
        ("stage2-ingredient3-step23852-tokens51B", RevisionName(2, 3, 23852, 51 * B, B)),
        ("stage1-step1413814", RevisionName(1, None, 1413814)),
        ("step1000-tokens4B", RevisionName(None, None, 1000, 4 * B, B)),
        ("step2627139-tokens15T", RevisionName(None, None, 2627139, 15 * T, T)),
        ("step143000", RevisionName(None, None, 143000)),
        ("step-125000", RevisionName(None, None, 125000)),
        ("stage3-step-4720000", RevisionName(3, None, 4720000)),
        ("step0050000", RevisionName(None, None, 50000)),
        ("step-001000-2BT", RevisionName(None, None, 1000, 2 * B, B)),
        ("main", None),
        ("fp32", None),
        ("it-mid-training", None),
        ("longctx-step1000-tokens1B", None),
        ("stage2-step47684-mix-a-from-2T-ckpt", None),
        ("step1000-tokens4Bx", None),
    ],
)
def test_names_as_published(name: str, stated: RevisionName | None) -> None:
    assert parse_revision(name) == stated


def test_a_pattern_of_its_own() -> None:
    assert parse_revision("ckpt_007", r"ckpt_(?P<step>\d+)") == RevisionName(None, None, 7)
    assert parse_revision("step7", r"ckpt_(?P<step>\d+)") is None


def test_a_step_that_is_no_number_is_none() -> None:
    assert parse_revision("checkpoint-last", r"checkpoint-(?P<step>.+)") is None
    assert parse_revision("checkpoint-1_0", r"checkpoint-(?P<step>.+)") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("step7-tokens5K", "its group unit finds 'K' in 'step7-tokens5K', which is not M, B, T"),
        ("step7-tokens1,5B", "its group tokens finds '1,5' in .*, which is not a number"),
        ("stagetwo-step7-tokens5B", "its group stage finds 'two' in .*, which is not a number"),
    ],
)
def test_a_pattern_that_finds_no_numbers_is_named(name: str, message: str) -> None:
    pattern = r"(stage(?P<stage>\w+)-)?step(?P<step>\d+)-tokens(?P<tokens>.+)(?P<unit>\w)"
    with pytest.raises(TrajectoryError, match=f"pattern: {message}"):
        parse_revision(name, pattern)
    rows = [Revision(name, "c")]
    with pytest.raises(TrajectoryError, match="suite 's': pattern: "):
        manifest_rows("s", Suite(repository="o/n", pattern=pattern), rows)


def test_later_stages_are_trajectories_of_their_own() -> None:
    def trajectory(name: str) -> str:
        parsed = parse_revision(name)
        assert parsed is not None
        return parsed.trajectory("s")

    assert trajectory("step5") == trajectory("stage1-step5") == "s"
    assert trajectory("stage2-step5") == "s/stage2"
    assert trajectory("stage2-ingredient3-step5") == "s/stage2-ingredient3"


counts = st.integers(0, 10**7)


@given(st.none() | st.integers(1, 9), st.none() | st.integers(1, 9), counts, st.none() | counts)
def test_every_name_of_the_form_is_read_back(
    stage: int | None, ingredient: int | None, step: int, tokens: int | None
) -> None:
    name = "-".join(
        [f"stage{stage}"] * (stage is not None)
        + [f"ingredient{ingredient}"] * (ingredient is not None)
        + [f"step{step}"]
        + [f"tokens{tokens}B"] * (tokens is not None)
    )
    wanted = RevisionName(
        stage,
        ingredient,
        step,
        None if tokens is None else tokens * B,
        0 if tokens is None else B,
    )
    assert parse_revision(name) == wanted


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_without_an_error(name: str) -> None:
    parsed = parse_revision(name)
    assert parsed is None or str(parsed.step) in name


def test_stages_that_go_on_counting_are_one_trajectory() -> None:
    names = ["stage1-step-3440000", "stage2-step-3480000", "stage3-step-4720000", "it-SFT"]
    suite = Suite(repository="o/n", stages=[1, 2, 3], stages_continue=True, tokens_per_step=2359296)
    rows = manifest_rows("s", suite, [Revision(name, "0" * 40) for name in reversed(names)])
    assert [row["revision"] for row in rows] == names
    assert [row["trajectory"] for row in rows] == ["s", "s", "s", None]
    assert rows[2]["tokens"] == 4720000 * 2359296
    restarting = suite.model_copy(update={"stages_continue": False})
    rows = manifest_rows("s", restarting, [Revision(name, "0" * 40) for name in names])
    assert [row["trajectory"] for row in rows] == ["s", "s/stage2", "s/stage3", None]
    before = settings_digest(Suite(repository="o/n"))
    assert settings_digest(Suite(repository="o/n", stages_continue=False)) == before
    assert settings_digest(Suite(repository="o/n", stages_continue=True)) != before
