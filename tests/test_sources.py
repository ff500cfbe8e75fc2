"""What is remembered of source files: the same as what parsing gives, and never in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trajectory import provenance, sources

Start = Callable[[], sources.Remembered]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """What a new process remembers."""
    return lambda: sources.Remembered(tmp_path / "cache" / "sources.json")


def no_parser(text: str) -> sources.Source:
    raise AssertionError(f"parsed again: {text}")


def test_the_whole_package_is_remembered_as_it_is_parsed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(provenance.PACKAGE.rglob("*.py"))
    parsed = {path: sources.parse(path.read_text()) for path in files}
    first = start()
    assert {path: first.read(path) for path in files} == parsed
    first.save()
    monkeypatch.setattr(sources, "parse", no_parser)
    second = start()
    assert {path: second.read(path) for path in files} == parsed


def test_what_changes_is_parsed_and_what_was_there_before_is_known(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "module.py"
    found = []
    for text in ("from trajectory import rows\n", "X = 1\n", "X = 2\n"):
        path.write_text(text)
        process = start()
        found.append(process.read(path))
        process.save()
    assert [one.imported for one in found] == [("trajectory.rows",), (), ()]
    assert len({one.digest for one in found}) == 3
    monkeypatch.setattr(sources, "parse", no_parser)
    path.write_text("from trajectory import rows\n")
    assert start().read(path) == found[0]
    path.write_text("X = 3\n")
    with pytest.raises(AssertionError, match="parsed again: X = 3"):
        start().read(path)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\n{}", b"0" * 64 + b"\n{}"])
def test_a_damaged_file_is_left_out_and_replaced(
    start: Start, tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "module.py"
    path.write_text("X = 1\n")
    before = start()
    before.read(path)
    before.save()
    before.path.write_bytes(damage)
    after = start()
    assert after.known == {}
    assert after.read(path) == sources.parse("X = 1\n")
    after.save()
    assert start().known == after.known
    assert list(before.path.parent.iterdir()) == [before.path]


def test_a_bit_that_fell_over_changes_no_digest(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("from trajectory import rows\n")
    process = start()
    process.read(path)
    process.save()
    kept = bytearray(process.path.read_bytes())
    kept[kept.index(b"rows")] ^= 1
    process.path.write_bytes(kept)
    assert start().read(path).imported == ("trajectory.rows",)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "module.py").write_text("X = 1\n")
    process = sources.Remembered(tmp_path / "file" / "sources.json")
    assert process.read(tmp_path / "module.py") == sources.parse("X = 1\n")
    process.save()


def test_the_oldest_make_room(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST", 3)
    path = tmp_path / "module.py"
    for k in range(5):
        path.write_text(f"X = {k}\n")
        process = start()
        process.read(path)
        process.save()
    assert [one.digest for one in start().known.values()] == [
        sources.parse(f"X = {k}\n").digest for k in (2, 3, 4)
    ]
