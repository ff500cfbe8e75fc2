"""Tables on a narrow terminal: a block per row, and nothing of it lost."""

from __future__ import annotations

import io
import re
from itertools import product

import pytest
from rich.console import Console

from trajectory.cli import tables_of_suites
from trajectory.cli.printing import show
from trajectory.cli.tables_of_suites import braced
from trajectory.config import parse
from trajectory.config.registry import registered
from trajectory.costs import plan

HEAD = ("experiment", "purpose", "seeds")
ROWS = [
    ("softmax-1l", "One layer, softmax and AdamW: sink and drain on the dormant tokens", "0 1 2"),
    ("held", "The value of ⟨s⟩ stays what it is at step 40: [no] drain. Does the sink grow?", ""),
]


def printed(width: int) -> list[str]:
    out = io.StringIO()
    show(HEAD, ROWS, Console(file=out, width=width, markup=False, emoji=False, highlight=False))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 240])
def test_every_cell_is_told_at_any_width(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for row in ROWS:
        for word in " ".join(row).split():
            assert word in words
    assert ("purpose" in lines[0]) == (width == 240), "one line per row where they fit"


def test_a_word_longer_than_the_terminal_is_folded_not_cut() -> None:
    out = io.StringIO()
    long = "x" * 130
    show(("a", "b"), [("name", long)], Console(file=out, width=60, markup=False))
    assert "".join(re.findall("x+", out.getvalue())) == long


def spelt(text: str) -> list[str]:
    """The names behind braces."""
    parts = re.split(r"\{([^}]*)\}", text)
    choices = []
    for i, part in enumerate(parts):
        ends = re.fullmatch(r"(\d+)\.\.(\d+)", part)
        if i % 2 == 0:
            choices.append([part])
        elif ends:
            choices.append([str(n) for n in range(int(ends[1]), int(ends[2]) + 1)])
        else:
            choices.append(part.split(","))
    return ["".join(found) for found in product(*choices)]


def test_suites_that_differ_in_size_and_seed_stand_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = registered()
    lines: list[str] = []
    monkeypatch.setattr(
        tables_of_suites, "show", lambda head, rows, narrow: lines.extend(r[0] for r in rows)
    )
    tables_of_suites.registry_table(known)
    assert "Braces stand for" in capsys.readouterr().out
    names = [name for line in lines for part in line.split(", ") for name in spelt(part)]
    assert sorted(names) == sorted(known), "each once"
    assert len(lines) < len(known) / 2
    assert "pythia-{14m,31m,70m,160m,410m}-seed{1..9}" in lines
    assert "hplt2c-{ara,bul,ces,dan,deu,ell,eng,est,fin,fra}" in lines
    assert "datamix-2b-{70-30,80-20,90-10}" in lines
    assert braced(["a-1b-seed1", "a-7b-seed2"]) == "a-1b-seed1, a-7b-seed2"


@pytest.mark.parametrize("command", ["suites", "plan", "bb list"])
def test_commands_fit_eighty_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trajectory.cli import printing

    narrow = lambda: Console(width=80, markup=False, emoji=False, highlight=False)  # noqa: E731
    monkeypatch.setattr(printing, "console", narrow)
    config = parse({"name": "x", "results": "x", "suites": {"olmo2-1b": {}, "pythia-410m": {}}})
    if command == "suites":
        tables_of_suites.registry_table(registered())
    elif command == "plan":
        tables_of_suites.plan_table(plan.plan(config, 1, 1e9), config, 1e9)
    else:
        from trajectory.cli.bb import bb_list

        bb_list()
    lines = [line for line in capsys.readouterr().out.splitlines() if not _prose(line)]
    assert lines and max(map(len, lines)) <= 80
    if command == "suites":
        assert len(lines) < 100, "a list of names, not a block for each"
        told = "".join("".join(line[:40] for line in lines).split())
        assert all(name in told for name in ("olmo2-7b", "delphi", "datadecide"))


def _prose(line: str) -> bool:
    """Sentences below a table, which a terminal wraps by itself."""
    return line.startswith(("Braces", "Estimates", "'trajectory", "A wider"))
