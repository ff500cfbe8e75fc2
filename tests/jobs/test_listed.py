from __future__ import annotations

import inspect
import re

import pytest

from trajectory.checkpoints.listed import CHANGED_FROM, MEASURED_FROM
from trajectory.jobs import checkpoint, forces, intervene, measure


@pytest.mark.parametrize(
    ("module", "columns"),
    [(measure, MEASURED_FROM), (intervene, CHANGED_FROM), (forces, CHANGED_FROM)],
)
def test_no_column_that_the_code_reads_is_forgotten(
    module: object, columns: tuple[str, ...]
) -> None:
    """The folder of the tables says suite and revision."""
    source = inspect.getsource(module) + inspect.getsource(checkpoint)  # type: ignore[arg-type]
    read = set(re.findall(r'\b(?:listed|row)(?:\[|\.get\()"(\w+)"', source))
    assert {"trajectory", "step", "tokens"} < read
    assert read - {"suite", "revision"} == set(columns)
