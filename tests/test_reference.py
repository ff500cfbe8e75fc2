from __future__ import annotations

from pathlib import Path

from trajectory.reference import config_guide, tables_guide
from trajectory.schemas import TABLES


def test_the_guides_in_the_repository_are_the_code_s(root: Path) -> None:
    for name, text in (("config", config_guide()), ("tables", tables_guide())):
        shipped = (root / f"docs/{name}.md").read_text()
        assert shipped == text, f"run: trajectory {name} docs > docs/{name}.md"


def test_the_guides_tell_every_key_and_column() -> None:
    text = tables_guide()
    for table in TABLES.values():
        for field in table.fields:
            assert f"| `{field.name}` |" in text
    guide = config_guide()
    for key in ("first_token", "sink_threshold", "momentum", "gradient_clip", "count", "nano-olmo"):
        assert f"| `{key}` |" in guide
