import pytest

from tests.support import metamorphic, spec
from tests.support.torch_adapter import TorchAdapter

ADAPTERS = {path: TorchAdapter(path) for path in ("composite", "small", "row blocks", "numba")}
CELLS = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.cells(adapter)]


@pytest.mark.parametrize(("path", "cell"), CELLS, ids=[f"{path}-{cell}" for path, cell in CELLS])
def test_values_and_gradients_agree_with_50_digits(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize("path", ADAPTERS)
def test_metamorphic_properties(path: str) -> None:
    metamorphic.check(ADAPTERS[path])
