import pytest

from tests.support import metamorphic, spec
from tests.support.numpy_adapter import NumpyAdapter

ADAPTERS = {path: NumpyAdapter(path) for path in ("formulas", "row blocks", "numba")}
CELLS = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.cells(adapter, without=["sample_weight"])]


@pytest.mark.parametrize(("path", "cell"), CELLS, ids=[f"{path}-{cell}" for path, cell in CELLS])
def test_values_agree_with_50_digits(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize("path", ADAPTERS)
def test_metamorphic_properties(path: str) -> None:
    metamorphic.check(ADAPTERS[path])
