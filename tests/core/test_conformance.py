from collections.abc import Callable
from typing import Any

import pytest

from cbcore import _paths
from tests.support import metamorphic, spec
from tests.support.numpy_adapter import NumpyAdapter

ADAPTERS = {path: NumpyAdapter(path) for path in ("formulas", "row blocks", "numba")}
WITHOUT = ["sample_weight"]
CELLS = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.taken_cells(adapter, without=WITHOUT)]
REFUSED = [(path, cell) for path, adapter in ADAPTERS.items() for cell in spec.refused_cells(adapter, without=WITHOUT)]


@pytest.mark.parametrize(("path", "cell"), CELLS, ids=[f"{path}-{cell}" for path, cell in CELLS])
def test_values_agree_with_50_digits(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize(("path", "cell"), REFUSED, ids=[f"{path}-{cell}" for path, cell in REFUSED])
def test_refused_calls_go_elsewhere(path: str, cell: spec.Cell) -> None:
    spec.check(ADAPTERS[path], cell)


@pytest.mark.parametrize(
    ("path", "name", "mutant"),
    [
        ("numba", "takes", lambda *_: False),
        ("row blocks", "in_row_blocks", lambda formula: formula),
        ("formulas", "in_row_blocks", lambda formula: lambda *args: (formula(*args), formula(*args))[0]),
    ],
)
def test_a_path_that_is_not_taken_is_noticed(
    path: str, name: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_paths, name, mutant)
    with pytest.raises(AssertionError, match="was asked for"):
        spec.check(ADAPTERS[path], spec.Cell("softmax", "index", "float32", "eager"))


@pytest.mark.parametrize("path", ADAPTERS)
def test_metamorphic_properties(path: str) -> None:
    metamorphic.check(ADAPTERS[path])
