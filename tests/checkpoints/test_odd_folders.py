"""Local suites as file systems have them: names that are no text, locked folders, links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trajectory.checkpoints.local import revision_folders
from trajectory.checkpoints.pin import audited, list_revisions
from trajectory.checkpoints.selection import select
from trajectory.config.fetch import Fetch
from trajectory.config.suites import Suite
from trajectory.errors import DamagedFiles, TrajectoryError
from trajectory.hub.client import Hub
from trajectory.hub.errors import CorruptCheckpoint
from trajectory.schemas import MANIFEST
from trajectory.tables import from_rows, validate


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.fsencode(folder))


@pytest.mark.parametrize(
    "name",
    [b"step\xff", b"st\nep5", b"\x1b[31mstep5", b"step 5", b"-rf", b".hidden", "stép5".encode(),
     b"step5" + b"x" * 240, b"step5\\xff"],
)  # fmt: skip
def test_an_odd_name_spoils_no_other(tmp_path: Path, name: bytes) -> None:
    for step in (1, 2):
        checkpoint(tmp_path / f"step{step}")
    checkpoint(tmp_path / os.fsdecode(name))
    (tmp_path / "step1" / os.fsdecode(b"notes\xff.txt")).write_text("x")
    suite = Suite(folder=tmp_path)
    listed = list_revisions("s", suite, Hub(Fetch()))
    rows = audited("s", suite, listed, Hub(Fetch()))
    validate(from_rows(rows, MANIFEST), MANIFEST, "here")
    assert [row["revision"] for row in select("s", suite, rows)] == ["step1", "step2"]


def test_a_folder_that_may_not_be_looked_into_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lost+found, where the folder is a disk of its own."""
    checkpoint(tmp_path / "step1")
    (tmp_path / "lost+found").mkdir()
    look = Path.is_file

    def refused(path: Path) -> bool:
        if "lost+found" in path.parts:
            raise PermissionError(13, "Permission denied")
        return look(path)

    monkeypatch.setattr(Path, "is_file", refused)
    assert [path.name for path in revision_folders("s", tmp_path)] == ["step1"]


def test_links_in_a_circle_are_no_revision(tmp_path: Path) -> None:
    checkpoint(tmp_path / "step1")
    (tmp_path / "step2").symlink_to("step3")
    (tmp_path / "step3").symlink_to("step2")
    (tmp_path / "step4").symlink_to("nowhere")
    assert [path.name for path in revision_folders("s", tmp_path)] == ["step1"]


@pytest.mark.parametrize("kind", [TrajectoryError, DamagedFiles, CorruptCheckpoint])
def test_a_message_is_one_line_that_moves_no_cursor_and_can_be_stored(
    kind: type[Exception],
) -> None:
    message = str(kind("tensor 'a\nb\r\x1b[2J\x00\u202e\ud800' is ‖x‖ × 2 … ü 年"))
    assert message == "tensor 'a\\nb\\r\\x1b[2J\\x00\\u202e\\ud800' is ‖x‖ × 2 … ü 年"
    assert message.isprintable()
    message.encode()
