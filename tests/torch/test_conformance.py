import pytest

from tests.support import metamorphic, spec
from tests.support.torch_adapter import TorchAdapter

ADAPTER = TorchAdapter()


@pytest.mark.parametrize("cell", spec.cells(ADAPTER), ids=str)
def test_values_and_gradients_agree_with_50_digits(cell: spec.Cell) -> None:
    spec.check(ADAPTER, cell)


def test_metamorphic_properties() -> None:
    metamorphic.check(ADAPTER)
