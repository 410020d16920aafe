from dataclasses import replace

import pytest

from tests.support import metamorphic, spec
from tests.support.tf_adapter import TfAdapter

ADAPTER = TfAdapter()
CELLS = spec.cells(ADAPTER)
FLOAT64 = [cell for cell in CELLS if cell.mode == "eager" and cell.dtype == "float64"]
IN_GRAPHS = [replace(cell, mode="graph") for cell in FLOAT64 if cell.loss in ("softmax", "focal-0.5", "focal-1.5")]
UNDER_XLA = [replace(cell, mode="compiled") for cell in FLOAT64 if cell.case in ("index", "soft")]


@pytest.mark.parametrize("cell", CELLS + IN_GRAPHS + UNDER_XLA, ids=str)
def test_values_and_gradients_agree_with_50_digits(cell: spec.Cell) -> None:
    spec.check(ADAPTER, cell)


def test_metamorphic_properties() -> None:
    metamorphic.check(ADAPTER)
