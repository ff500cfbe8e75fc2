from __future__ import annotations

import inspect
import re

import pytest

from trajectory.checkpoints.listed import CHANGED_FROM, MEASURED_FROM, listed_digest
from trajectory.jobs import intervene, measure

ROW = {
    **{"suite": "s", "revision": "r", "commit": "c", "trajectory": "t", "step": 20, "tokens": 2000},
    **{"verdict": "good", "learning_rate": 0.1, "integrated_learning_rate": 1.0, "chosen": "hand"},
}


@pytest.mark.parametrize("columns", [CHANGED_FROM, MEASURED_FROM])
def test_every_column_that_tables_take_changes_the_digest(columns: tuple[str, ...]) -> None:
    before = listed_digest(ROW, columns)
    changed = {name for name in ROW if listed_digest({**ROW, name: "other"}, columns) != before}
    assert changed == set(columns)


@pytest.mark.parametrize(
    ("module", "columns"), [(measure, MEASURED_FROM), (intervene, CHANGED_FROM)]
)
def test_no_column_that_the_code_reads_is_forgotten(
    module: object, columns: tuple[str, ...]
) -> None:
    """The folder of the tables says suite and revision."""
    source = inspect.getsource(module)  # type: ignore[arg-type]
    read = set(re.findall(r'\b(?:listed|row)(?:\[|\.get\()"(\w+)"', source))
    assert {"trajectory", "step", "tokens"} < read
    assert read - {"suite", "revision"} == set(columns)
