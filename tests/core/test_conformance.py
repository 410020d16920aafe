import pytest

from tests.support import metamorphic, spec
from tests.support.numpy_adapter import NumpyAdapter

ADAPTER = NumpyAdapter()


@pytest.mark.parametrize("cell", spec.cells(ADAPTER, without=["sample_weight"]), ids=str)
def test_values_agree_with_50_digits(cell: spec.Cell) -> None:
    spec.check(ADAPTER, cell)


def test_metamorphic_properties() -> None:
    metamorphic.check(ADAPTER)
